r"""Evidential models: one network that returns the parameters of a distribution over distributions.

Regression: a normal-inverse-gamma over mean and variance of the noise, whose predictive is Student's t.
Classification: a Dirichlet over class probabilities.

.. warning::
    What these models call epistemic uncertainty is disputed. It is fitted by minimising a loss on single targets,
    and such losses do not reward a faithful second-order distribution (Bengs, Hüllermeier and Waegeman, Pitfalls of
    epistemic uncertainty quantification through loss minimisation, arXiv 2203.06102). In regression the likelihood
    leaves one direction of the four parameters undetermined (it sees gamma, alpha and :math:`\beta(1+\nu)/\nu` only),
    so the split into aleatoric and epistemic comes from the regulariser and the training path; Meinert, Gawlikowski
    and Lavin (The unreasonable effectiveness of deep evidential regression, arXiv 2205.10060) call the method a
    heuristic. Read it as a score, not as a posterior variance: nothing in the loss makes it shrink as data accumulate.
"""

import torch
from torch import Tensor, nn

from coursekit._frozen import evaluation_mode
from coursekit._inputs import check_count, check_input, refuse_idle
from coursekit.bayes.evidential_classification import (
    DirichletHead,
    EvidentialCategorical,
    dirichlet_kl,
    evidential_classification_loss,
)
from coursekit.bayes.evidential_regression import (
    EvidentialNormal,
    NormalInverseGammaHead,
    evidential_regression_loss,
    normal_inverse_gamma_kl,
)
from coursekit.predictive import CategoricalPredictive, NormalPredictive, StudentPredictive

__all__ = [
    "DirichletHead",
    "EvidentialCategorical",
    "EvidentialNetwork",
    "EvidentialNormal",
    "NormalInverseGammaHead",
    "dirichlet_kl",
    "evidential_classification_loss",
    "evidential_regression_loss",
    "normal_inverse_gamma_kl",
]


class EvidentialNetwork:
    """A network that ends in an evidential head, as a posterior: its predictive in one pass.

    Args:
        model: returns an :class:`EvidentialNormal` or an :class:`EvidentialCategorical`; later training of it is seen.

    Raises:
        TypeError: no torch module.

    >>> network = EvidentialNetwork(nn.Sequential(nn.Linear(3, 8), nn.ReLU(), DirichletHead(8, 2)))
    >>> network.predict(torch.zeros(5, 3)).mean.shape, network.predict(torch.zeros(5, 3), samples=7).probs.shape
    (torch.Size([5, 2]), torch.Size([7, 5, 2]))
    """

    def __init__(self, model: nn.Module):
        if not isinstance(model, nn.Module) or isinstance(model, type):
            raise TypeError(f"model must be a torch module, got {getattr(model, '__name__', type(model).__name__)}")
        self.model = model

    def predict(
        self, x: Tensor, *, samples: int | None = None, generator: torch.Generator | None = None
    ) -> StudentPredictive | EvidentialCategorical | NormalPredictive | CategoricalPredictive:
        """The predictive at x (N, ...), the network in evaluation mode.

        Args:
            samples: S draws from the law over laws, each a normal law or class probabilities; ``None``: the closed
                form, Student's t or the Dirichlet.
            generator: source of the draws.

        Raises:
            TypeError, ValueError: bad inputs, a model without an evidential head, samples < 1, or a generator for the
                closed form.
        """
        if samples is not None:
            check_count("samples", samples)
        else:
            refuse_idle(generator=generator, why="without samples nothing is drawn")
        check_input(self.model, x)
        with torch.no_grad(), evaluation_mode(self.model):
            law = self.model(x)
        if not isinstance(law, EvidentialNormal | EvidentialCategorical):
            raise TypeError(
                f"the model must return an EvidentialNormal or an EvidentialCategorical, got {type(law).__name__}: "
                "end it with a NormalInverseGammaHead or a DirichletHead"
            )
        if samples is not None:
            return law.sample(samples, generator=generator)
        return law.predictive if isinstance(law, EvidentialNormal) else law
