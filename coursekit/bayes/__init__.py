"""From data and a model to a posterior, and from the posterior to a predictive: every Bayesian method of the course."""

from coursekit.bayes import features
from coursekit.bayes.dropout import MCDropout
from coursekit.bayes.ensemble import Ambiguity, Ensemble, ambiguity_decomposition, train_ensemble
from coursekit.bayes.evidential import (
    DirichletHead,
    EvidentialCategorical,
    EvidentialNetwork,
    EvidentialNormal,
    NormalInverseGammaHead,
    evidential_classification_loss,
    evidential_regression_loss,
)
from coursekit.bayes.laplace import LaplacePosterior, fit_laplace
from coursekit.bayes.linear import LinearPosterior, fit_linear, maximize_evidence
from coursekit.bayes.variational import (
    Conv2dVariational,
    Elbo,
    LinearVariational,
    VariationalNetwork,
    elbo,
    gradient_variance,
    kl_divergence,
    kl_normal,
    negative_elbo,
)

__all__ = [
    "Ambiguity",
    "Conv2dVariational",
    "DirichletHead",
    "Elbo",
    "Ensemble",
    "EvidentialCategorical",
    "EvidentialNetwork",
    "EvidentialNormal",
    "LaplacePosterior",
    "LinearPosterior",
    "LinearVariational",
    "MCDropout",
    "NormalInverseGammaHead",
    "VariationalNetwork",
    "ambiguity_decomposition",
    "elbo",
    "evidential_classification_loss",
    "evidential_regression_loss",
    "features",
    "fit_laplace",
    "fit_linear",
    "gradient_variance",
    "kl_divergence",
    "kl_normal",
    "maximize_evidence",
    "negative_elbo",
    "train_ensemble",
]
