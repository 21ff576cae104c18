r"""Variational inference with a mean-field Gaussian: layers, evidence lower bound, predictions.

.. math::
    \log p(\mathcal D) \ \ge\ \mathrm{ELBO}(q) = \mathbb E_q\Big[\sum_{n=1}^N \log p(y_n \mid x_n, w)\Big]
    - \mathrm{KL}(q \,\|\, p).

The sum runs over the whole data set and the KL counts once. A minibatch of B data stands for all N, so its
log-likelihood is multiplied by N/B; per datum the objective is mean log-likelihood - KL/N.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from coursekit._frozen import evaluation_mode
from coursekit._inputs import check_choice, check_count, check_input, check_positive
from coursekit.bayes._likelihood import (
    LIKELIHOODS,
    Likelihood,
    as_columns,
    check_targets,
    log_likelihood,
    predictive_of,
)
from coursekit.bayes._memory import activation_bytes, chunks
from coursekit.bayes.variational_layers import (
    ESTIMATORS,
    Conv2dVariational,
    Estimator,
    LinearVariational,
    drawing,
    kl_normal,
    variational_layers,
)
from coursekit.predictive import CategoricalPredictive, NormalPredictive
from coursekit.train import Objective

__all__ = [
    "Conv2dVariational",
    "Elbo",
    "LinearVariational",
    "VariationalNetwork",
    "elbo",
    "gradient_variance",
    "kl_divergence",
    "kl_normal",
    "negative_elbo",
]


class Elbo(NamedTuple):
    """The evidence lower bound and its two parts, in nats for the whole data set: value = log_likelihood - kl."""

    value: Tensor
    log_likelihood: Tensor
    kl: Tensor


def kl_divergence(model: nn.Module) -> Tensor:
    """KL from q to the prior, summed over all variational layers of the model (not averaged), in nats."""
    layers = variational_layers(model)
    if not layers:
        raise ValueError("the model has no variational layer: build it with LinearVariational or Conv2dVariational")
    terms: dict[tuple[int, int], tuple[Tensor, Tensor, float]] = {}
    for layer in layers:
        for mean, rho, std in layer.laws():
            key = id(mean), id(rho)  # a law that two layers share is one law
            if key in terms and terms[key][2] != layer.prior_std:
                raise ValueError(f"layers share weights under two priors, {terms[key][2]:g} and {layer.prior_std:g}")
            terms[key] = mean, std, layer.prior_std
    return sum(kl_normal(*term) for term in terms.values())


def elbo(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    data_size: int | None = None,
    likelihood: Likelihood = "classification",
    noise_std: float = 1.0,
    samples: int = 1,
    estimator: Estimator | None = None,
    generator: torch.Generator | None = None,
) -> Elbo:
    r"""An unbiased estimate of the evidence lower bound from a minibatch of B of the N data.

    .. math:: \widehat{\mathrm{ELBO}} = \frac NB \sum_{b=1}^B \frac1S\sum_{s=1}^S \log p(y_b \mid x_b, w_s)
        - \mathrm{KL}(q\,\|\,p)

    Maximise it: ``(-elbo(...).value / data_size).backward()``. Do not add weight decay: the KL is the regulariser, and
    weight decay would also pull the ``rho`` of the standard deviations to zero.

    Args:
        model: a network with variational layers, called in the mode it is in.
        x: (B, ...) inputs; y: (B,) targets.
        data_size: N, the size of the whole data set; ``None``: the batch is the data set.
        likelihood: "classification" (logits), "regression" (noise_std) or "heteroscedastic" (mean, log variance).
        samples: S, draws of the weights.
        estimator: overrides that of the layers.

    Raises:
        TypeError, ValueError: bad tensors, no variational layer, data_size < B, samples < 1.

    Example: far from any data the bound is minus the KL.

    >>> layer = LinearVariational(1, 1, bias=False, initial_std=1.0)
    >>> _ = nn.init.ones_(layer.weight_mean)
    >>> bound = elbo(layer, torch.zeros(1, 1), torch.zeros(1), likelihood="regression")
    >>> round(bound.kl.item(), 4), round(bound.log_likelihood.item(), 4)
    (0.5, -0.9189)
    """
    check_choice("likelihood", likelihood, LIKELIHOODS)
    check_count("samples", samples)
    noise_std = check_positive("noise_std", noise_std)
    if estimator is not None:
        check_choice("estimator", estimator, ESTIMATORS)
    check_input(model, x)
    data_size = len(x) if data_size is None else data_size
    if data_size < len(x):
        raise ValueError(f"data_size={data_size} is the size of the whole data set, the batch alone has {len(x)}")
    kl = kl_divergence(model)
    total = x.new_zeros(())
    with drawing(estimator=estimator, generator=generator):
        for _ in range(samples):
            outputs = as_columns(model(x), len(x), likelihood)
            y = check_targets(y, x, outputs.shape[1], likelihood)
            total = total + log_likelihood(outputs, y, likelihood, noise_std).sum()
    fit = total * (data_size / (len(x) * samples))
    return Elbo(fit - kl, fit, kl)


def negative_elbo(
    *,
    data_size: int,
    likelihood: Likelihood = "classification",
    noise_std: float = 1.0,
    samples: int = 1,
    estimator: Estimator | None = None,
    generator: torch.Generator | None = None,
) -> Objective:
    r"""The objective of variational inference for :func:`~coursekit.train.train`, in nats per datum.

    .. math:: -\widehat{\mathrm{ELBO}} / N
        = -\frac1B\sum_b \frac1S\sum_s \log p(y_b \mid x_b, w_s) + \frac1N\,\mathrm{KL}(q\,\|\,p)

    Args:
        data_size: N, the size of the whole data set; the other options as for :func:`elbo`.

    Raises:
        TypeError, ValueError: as :func:`elbo`, when it is called.

    Example: without data to speak of, q becomes the prior N(0, 1).

    >>> from coursekit.train import train
    >>> layer = LinearVariational(1, 1, bias=False, initial_std=0.5)
    >>> objective = negative_elbo(data_size=1, likelihood="regression")
    >>> options = {"epochs": 400, "learning_rate": 0.05, "progress": False}
    >>> _ = train(layer, objective, torch.zeros(1, 1), torch.zeros(1), **options)
    >>> abs(layer.weight_mean.item()) < 1e-3, abs(layer.weight_std.item() - 1) < 1e-3
    (True, True)
    """
    check_count("data_size", data_size)

    def objective(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        bound = elbo(
            model,
            x,
            y,
            data_size=data_size,
            likelihood=likelihood,
            noise_std=noise_std,
            samples=samples,
            estimator=estimator,
            generator=generator,
        )
        return -bound.value / data_size

    return objective


def gradient_variance(
    model: nn.Module, x: Tensor, y: Tensor, *, samples: int = 100, generator: torch.Generator | None = None, **options
) -> dict[str, float]:
    """Total variance of the one-sample ELBO gradient under each estimator, summed over the parameters.

    The three estimate the same gradient (up to the correlation that "local" drops between places), so less variance
    is better. Nothing is accumulated in ``.grad``.

    Args:
        model, x, y, options: as for :func:`elbo` (data_size, likelihood, noise_std).
        samples: number of gradients per estimator, at least 2.
    """
    check_count("samples", samples)
    if samples < 2:
        raise ValueError(f"samples={samples}: a variance needs at least 2")
    parameters = [p for p in model.parameters() if p.requires_grad]
    result = {}
    for name in ESTIMATORS:
        mean, square = None, 0.0  # Welford: stable, and O(P) memory
        for i in range(1, samples + 1):
            value = elbo(model, x, y, estimator=name, generator=generator, **options).value
            gradient = torch.cat([g.flatten() for g in torch.autograd.grad(value, parameters)]).double()
            mean = torch.zeros_like(gradient) if mean is None else mean
            step = gradient - mean
            mean = mean + step / i
            square += float((step * (gradient - mean)).sum())
        result[name] = square / (samples - 1)
    return result


class VariationalNetwork(nn.Module):
    """A network with variational layers, and the likelihood its outputs are meant for.

    Args:
        model: any network with at least one :class:`LinearVariational` or :class:`Conv2dVariational`.
        likelihood: "classification" (logits (N, C), or one logit), "regression" (mean (N, 1), noise of standard
            deviation ``noise_std``) or "heteroscedastic" ((N, 2): mean and log variance).

    Calling it is calling the model; its parameters are the model's.

    Raises:
        ValueError: no variational layer, or an unknown likelihood.

    >>> network = VariationalNetwork(nn.Sequential(LinearVariational(2, 5), nn.ReLU(), LinearVariational(5, 3)))
    >>> network.predict(torch.zeros(4, 2), samples=7).probs.shape
    torch.Size([7, 4, 3])
    """

    def __init__(self, model: nn.Module, *, likelihood: Likelihood = "classification", noise_std: float = 1.0):
        super().__init__()
        check_choice("likelihood", likelihood, LIKELIHOODS)
        kl_divergence(model)
        self.model = model
        self.likelihood = likelihood
        self.noise_std = check_positive("noise_std", noise_std)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)

    def kl(self) -> Tensor:
        """KL from q to the prior, summed over all layers, in nats."""
        return kl_divergence(self.model)

    def elbo(self, x: Tensor, y: Tensor, **options) -> Elbo:
        """:func:`elbo` of this network under its likelihood."""
        return elbo(self.model, x, y, likelihood=self.likelihood, noise_std=self.noise_std, **options)

    def negative_elbo(self, *, data_size: int, **options) -> Objective:
        """:func:`negative_elbo` under the likelihood of this network, for ``train(network, objective, x, y)``."""
        return negative_elbo(data_size=data_size, likelihood=self.likelihood, noise_std=self.noise_std, **options)

    def predict(
        self, x: Tensor, *, samples: int | None = None, generator: torch.Generator | None = None
    ) -> CategoricalPredictive | NormalPredictive:
        """The predictive of ``samples`` draws of the weights at x (N, ...); ``None``: 100.

        Each draw is one function on all of x (the shared estimator, whatever the layers train with), so its
        samples can be drawn as curves. Other modules, such as BatchNorm, work in evaluation mode; the mode of
        the network itself stays as it is. Memory: outputs (S, N, K), one draw of the weights, one chunk of x.
        """
        samples = 100 if samples is None else samples
        check_count("samples", samples)
        check_input(self.model, x)
        model = self.model
        with torch.no_grad(), evaluation_mode(model):
            with drawing(estimator="shared", keep=True, generator=torch.Generator(x.device)):  # a probe of its own
                each = 2 * activation_bytes(model, x[:1])
            outputs = []
            for _ in range(samples):
                with drawing(estimator="shared", keep=True, generator=generator):
                    parts = [as_columns(model(x[rows]), len(x[rows]), self.likelihood) for rows in chunks(x, each)]
                outputs.append(torch.cat(parts))
        return predictive_of(torch.stack(outputs), self.likelihood, self.noise_std)
