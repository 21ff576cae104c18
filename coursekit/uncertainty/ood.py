"""Out-of-distribution scores of a classifier. Larger is more in-distribution, always.

Every function runs the model in evaluation mode, a batch at a time, and leaves its parameters, their gradients and its
mode as they were.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from coursekit._frozen import evaluation_mode
from coursekit.predictive import CategoricalUncertainty
from coursekit.uncertainty._checks import check_categorical, check_device, check_labels, check_logits
from coursekit.uncertainty._first_convolution import FastInputGradient
from coursekit.uncertainty._model import batches_of, run_features, run_logits


def max_softmax(model: nn.Module, x: Tensor, *, batch_size: int = 200) -> Tensor:
    """(N,) largest softmax probability, in [1/C, 1]. See Hendrycks and Gimpel 2017.

    Args:
        model: classifier that returns logits (N, C).
        x: (N, ...) inputs.
        batch_size: inputs at a time.

    Raises:
        TypeError, ValueError: no inputs, NaN, the wrong device, or outputs that are no logits (N, C).

    >>> round(float(max_softmax(nn.Identity(), torch.tensor([[1.0, 1.0, 1.0, 1.0]]))), 6)
    0.25
    """
    return run_logits(model, x, batch_size).softmax(1).amax(1)


def energy(model: nn.Module, x: Tensor, *, temperature: float = 1.0, batch_size: int = 200) -> Tensor:
    r"""(N,) minus the free energy, :math:`T\log\sum_c e^{z_c/T}`, in units of the logits. See Liu et al. 2020.

    Arguments and errors as in :func:`max_softmax`; ``temperature`` > 0. As T tends to 0 it tends to the largest logit.

    >>> round(float(energy(nn.Identity(), torch.zeros(1, 4))), 6)  # log 4
    1.386294
    """
    _check_temperature(temperature)
    return temperature * torch.logsumexp(run_logits(model, x, batch_size) / temperature, 1)


def odin(
    model: nn.Module,
    x: Tensor,
    *,
    temperature: float = 1000.0,
    epsilon: float | Tensor = 0.0014,
    input_range: tuple[float, float] | None = None,
    batch_size: int = 200,
) -> Tensor:
    r"""(N,) ODIN: the tempered softmax after a small step of the input that makes it surer (Liang et al. 2018).

    .. math::
        S(x) = \max_c \mathrm{softmax}(z(x)/T)_c, \qquad
        \tilde x = x + \epsilon\,\mathrm{sign}(\nabla_x \log S(x)), \qquad \text{score} = S(\tilde x).

    The temperature acts inside the gradient as well as in the score. The gradient is taken with respect to the input
    alone: no parameter gets one. For large T, :math:`C\,T\,(S - 1/C)` tends to :math:`z_{\max} - \bar z`.

    Args:
        model: classifier that returns logits (N, C), differentiable in its input.
        x: (N, ...) inputs.
        temperature: T > 0.
        epsilon: size of the step, in the units of x: for inputs divided by a standard deviation s, divide the step by
            s as well. A tensor that broadcasts with x gives each channel its own.
        input_range: smallest and largest possible input; the moved input is cut to it. For MNIST
            (0, 1), or ``data.NORMALIZED_RANGE`` after normalisation. ``None``: not cut.
        batch_size: inputs at a time.

    Raises:
        TypeError, ValueError: as in :func:`max_softmax`; T <= 0, epsilon < 0, or inputs outside ``input_range``.

    Example: for the logits x themselves the step widens the gap of (1, 0) by 2 epsilon.

    >>> x = torch.tensor([[1.0, 0.0]])
    >>> s = odin(nn.Identity(), x, temperature=1.0, epsilon=0.5)
    >>> torch.allclose(s, torch.sigmoid(torch.tensor(2.0)))
    True
    """
    _check_temperature(temperature)
    batches = batches_of(model, x, batch_size)
    if isinstance(epsilon, Tensor):
        check_device("epsilon", epsilon, x)
    if bool(torch.as_tensor(epsilon < 0).any()):
        raise ValueError(f"epsilon={epsilon}: the step is at least 0")
    if input_range is not None:
        low, high = (float(v) for v in x.aminmax())
        slack = 1e-5 * (input_range[1] - input_range[0])  # float32 normalisation rounds
        if low < input_range[0] - slack or high > input_range[1] + slack:
            raise ValueError(
                f"x goes from {low:.4g} to {high:.4g}, outside input_range={input_range}; for normalised images the "
                "range is data.NORMALIZED_RANGE"
            )

    def score(batch: Tensor) -> Tensor:
        return F.log_softmax(check_logits(model(batch)) / temperature, 1).amax(1)

    scores = []
    with evaluation_mode(model), torch.inference_mode(False):
        for moved in batches:  # copies: they may be moved in place, which keeps their layout in memory
            with torch.enable_grad(), FastInputGradient(moved.requires_grad_()):
                (gradient,) = torch.autograd.grad(temperature * score(moved).sum(), moved)
            moved = moved.detach().add_(epsilon * gradient.sign())
            if input_range is not None:
                moved = moved.clamp_(*input_range)
            with torch.no_grad():
                scores.append(score(moved).exp())
    return torch.cat(scores)


@dataclass(frozen=True)
class Mahalanobis:
    """Class means and one covariance of the penultimate features; call it with inputs to get scores.

    Attributes:
        means: (C, M) float64 mean of the features of each class.
        covariance: (M, M) float64 covariance about the class means, shared by all classes, with the ridge.
    """

    model: nn.Module
    means: Tensor
    covariance: Tensor
    batch_size: int

    def __call__(self, x: Tensor) -> Tensor:
        """(N,) minus the squared Mahalanobis distance to the nearest class mean: at most 0."""
        features, _ = run_features(self.model, x, self.batch_size)
        factor = torch.linalg.cholesky(self.covariance)
        white = torch.linalg.solve_triangular(factor, features.to(torch.float64).T, upper=False).T
        centres = torch.linalg.solve_triangular(factor, self.means.T, upper=False).T
        distance = torch.cdist(white, centres, compute_mode="donot_use_mm_for_euclid_dist")  # exact near the means
        return -distance.amin(1).square().to(features.dtype)


def fit_mahalanobis(
    model: nn.Module, x: Tensor, y: Tensor, *, ridge: float = 1e-6, batch_size: int = 200
) -> Mahalanobis:
    r"""Fit one normal law a class, with a covariance they share, to the penultimate features. See Lee et al. 2018.

    .. math::
        S = \frac1N\sum_n (\phi_n - \mu_{y_n})(\phi_n - \mu_{y_n})^\top, \qquad
        \Sigma = S + \rho\,\frac{\operatorname{tr} S}{M}\,I, \qquad
        \text{score}(x) = -\min_c (\phi(x) - \mu_c)^\top \Sigma^{-1} (\phi(x) - \mu_c).

    The ridge :math:`\rho` keeps directions in which the training features do not
    vary (units that are never active) from having no cost or an infinite one. All in float64.

    Args:
        model: classifier that returns logits (N, C) by a last linear layer.
        x, y: (N, ...) training inputs and (N,) labels, each class at least once.
        ridge: :math:`\rho \ge 0`, relative to the mean variance of a feature.

    Raises:
        TypeError, ValueError: inputs that do not fit, a class without an example, features that do not vary.

    >>> from coursekit.nets import MLP
    >>> x = torch.tensor([[-3.0], [-1.0], [1.0], [3.0]])
    >>> score = fit_mahalanobis(MLP(1, 2, depth=0), x, torch.tensor([0, 0, 1, 1]), ridge=0)
    >>> score(torch.tensor([[2.0], [4.0]])).tolist()  # means -2 and 2, variance 1
    [-0.0, -4.0]
    """
    features, logits = run_features(model, x, batch_size)
    y = check_labels(y, logits)
    if not ridge >= 0:
        raise ValueError(f"ridge={ridge}: at least 0 is needed")
    counts = torch.bincount(y, minlength=logits.shape[1])
    if not bool(counts.all()):
        raise ValueError(f"class {int((counts == 0).nonzero()[0])} has no example: its mean cannot be estimated")
    features = features.to(torch.float64)
    means = torch.zeros(len(counts), features.shape[1], dtype=torch.float64, device=features.device)
    means = means.index_add_(0, y, features) / counts[:, None]
    centred = features - means[y]
    covariance = centred.T @ centred / len(centred)
    mean_variance = covariance.trace() / len(covariance)
    covariance += ridge * mean_variance * torch.eye(len(covariance), dtype=torch.float64, device=covariance.device)
    if int(torch.linalg.cholesky_ex(covariance).info):
        raise ValueError("the features do not vary in some direction about their class means: ask for a larger ridge")
    return Mahalanobis(model, means, covariance, batch_size)


def negative_mutual_information(predictive: CategoricalUncertainty) -> Tensor:
    """(N,) minus the mutual information of label and weights, in [-log C, 0] nats: samples agree on familiar inputs.

    >>> from coursekit.predictive import CategoricalPredictive
    >>> p = CategoricalPredictive(torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]]))
    >>> round(float(negative_mutual_information(p)), 6)  # - log 2
    -0.693147
    """
    check_categorical(predictive)
    return -predictive.mutual_information


def _check_temperature(temperature: float) -> None:
    if not temperature > 0:
        raise ValueError(f"temperature={temperature}: a number above 0 is needed")
