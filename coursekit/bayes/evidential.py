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

__all__ = [
    "DirichletHead",
    "EvidentialCategorical",
    "EvidentialNormal",
    "NormalInverseGammaHead",
    "dirichlet_kl",
    "evidential_classification_loss",
    "evidential_regression_loss",
    "normal_inverse_gamma_kl",
]
