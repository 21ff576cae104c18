r"""Monte Carlo dropout: predictions of a network trained with dropout, with the dropout left on."""

import torch
from torch import Tensor, nn

from coursekit._frozen import evaluation_mode
from coursekit._inputs import check_choice, check_count, check_input, check_positive
from coursekit.bayes._likelihood import LIKELIHOODS, Likelihood, as_columns, predictive_of
from coursekit.bayes._memory import activation_bytes, chunks
from coursekit.bayes.dropout_plan import Passes, stochastic_modules
from coursekit.predictive import CategoricalPredictive, NormalPredictive


class MCDropout:
    r"""A network whose dropout stays on at prediction: each pass is a draw from an approximate posterior.

    .. math:: p(y \mid x) \approx \frac1S \sum_{s=1}^S p\big(y \mid f(x; w \odot m_s)\big), \qquad
        m_s \text{ a fresh dropout mask}

    Every dropout that a forward pass runs in training mode is on: modules, calls of ``torch.nn.functional.dropout``
    and its kin, the dropout inside ``nn.MultiheadAttention`` and ``nn.LSTM``. Everything else works in evaluation mode.
    The model keeps its modes, whatever happens. Each input has a mask of its own in each pass, as in training.

    Args:
        model: a network with dropout; later training of it is seen.
        likelihood: "classification" (logits (N, C) or one logit), "regression" (mean (N, 1), noise of standard
            deviation ``noise_std``) or "heteroscedastic" ((N, 2): mean and log variance).

    Raises:
        ValueError: no dropout, or all of its probabilities 0; masks that the network makes by itself.

    Source: Gal and Ghahramani, Dropout as a Bayesian approximation (2016).

    Example: dropout on a constant: kept and doubled, or dropped.

    >>> model = nn.Sequential(nn.Dropout(0.5), nn.Flatten(0))
    >>> p = MCDropout(model, likelihood="regression").predict(torch.ones(1, 1), samples=200)
    >>> sorted(set(p.means.flatten().tolist()))
    [0.0, 2.0]
    """

    def __init__(self, model: nn.Module, *, likelihood: Likelihood = "classification", noise_std: float = 1.0):
        check_choice("likelihood", likelihood, LIKELIHOODS)
        self.model = model
        self.likelihood = likelihood
        self.noise_std = check_positive("noise_std", noise_std)

    def predict(
        self, x: Tensor, *, samples: int | None = None, generator: torch.Generator | None = None
    ) -> CategoricalPredictive | NormalPredictive:
        """The predictive of ``samples`` passes at x (N, ...); ``None``: 100.

        What comes before the first dropout is computed once.
        Memory: outputs (S, N, K), and the activations of one chunk of the inputs.

        Raises:
            TypeError, ValueError: bad inputs, samples < 1, no dropout that the forward pass reaches.
        """
        samples = 100 if samples is None else samples
        check_count("samples", samples)
        check_input(self.model, x)
        model, passes = self.model, Passes(generator)
        training = stochastic_modules(model, x[:1])
        with torch.no_grad(), evaluation_mode(model):
            each = 2 * activation_bytes(model, x[:1])
        with torch.no_grad(), evaluation_mode(model, training=training):
            results = None
            for rows in chunks(x, each):
                part = x[rows]
                for s, output in enumerate(passes.run(model, part, samples)):
                    output = as_columns(output, len(part), self.likelihood)
                    if results is None:
                        self._check_masks(passes)
                        results = output.new_empty(samples, len(x), output.shape[1])
                    results[s, rows] = output
        return predictive_of(results, self.likelihood, self.noise_std)

    def _check_masks(self, passes: Passes) -> None:
        if passes.calls == 0:
            raise ValueError(
                "the model has no active dropout: MC Dropout needs dropout modules with p > 0 that forward calls; "
                "write nn.Dropout rather than a private mask"
            )
