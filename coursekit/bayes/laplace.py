r"""Laplace's approximation: a trained network is the mode, the curvature of its loss the precision of a Gaussian.

With the prior :math:`\theta \sim \mathcal N(0, I/\delta)` and the generalised Gauss-Newton matrix H of the negative
log-likelihood, *summed* over the data, at the trained weights :math:`\theta_*`,

.. math:: p(\theta \mid \mathcal D) \approx \mathcal N\big(\theta_*,\ (H + \delta I)^{-1}\big).
"""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor, nn

from coursekit._inputs import check_choice, check_count, check_input, check_positive, refuse_half, refuse_idle
from coursekit.bayes._likelihood import check_targets, class_probabilities, log_likelihood
from coursekit.bayes.laplace_evidence import best_noise, best_prior, best_prior_and_noise
from coursekit.bayes.laplace_layers import Network, Trace
from coursekit.bayes.laplace_structure import Curvature, Factored, Full, check_full_size
from coursekit.device import draw_device
from coursekit.predictive import CategoricalPredictive, NormalPredictive


@dataclass(frozen=True, eq=False)
class LaplacePosterior:
    r"""The Gaussian :math:`\mathcal N(\theta_*, (H + \delta I)^{-1})` over the weights of a network; immutable.

    Made by :func:`fit_laplace`. It keeps a copy of the network, so training the original further changes nothing
    here. P counts the weights it covers, in the order of ``torch.nn.utils.parameters_to_vector``.

    Attributes:
        network: the frozen copy, with the layers covered.
        curvature: H for unit noise, in its structure.
        prior_precision: delta, in 1/[theta]^2.
        noise_std: standard deviation of the noise (regression), in the unit of the target.
        count: N, the number of data; ``fit``: their log-likelihood (classification) or sum of squares (regression).
    """

    network: Network
    curvature: Curvature
    prior_precision: float
    noise_std: float
    fitted_noise: bool
    count: int
    fit: float

    @cached_property
    def mean(self) -> Tensor:
        """(P,) the weights theta_*."""
        return self._reorder(torch.cat([block.mean.flatten() for block in self.network.blocks]))

    @cached_property
    def precision(self) -> Tensor:
        """(P, P) the posterior precision H + delta I, dense: for small P."""
        check_full_size(self.network.parameters)
        order = self._order
        dense = self.curvature.dense()[order][:, order] * self._scale
        dense.diagonal().add_(self.prior_precision)
        return dense

    @cached_property
    def covariance(self) -> Tensor:
        """(P, P) the posterior covariance, dense: for small P."""
        return torch.cholesky_inverse(torch.linalg.cholesky(self.precision))

    @cached_property
    def log_evidence(self) -> Tensor:
        r"""The Laplace estimate of the log evidence, in nats.

        .. math:: \log p(\mathcal D) \approx \log p(\mathcal D \mid \theta_*) - \tfrac\delta2\|\theta_*\|^2
            + \tfrac P2\log\delta - \tfrac12\log\det(H + \delta I)
        """
        if self._classifies:
            data = self.fit
        else:
            data = -0.5 * self.fit / self.noise_std**2 - self.count * math.log(self.noise_std * math.sqrt(2 * math.pi))
        value = data - 0.5 * self.prior_precision * self._norm - 0.5 * self.curvature.log_det(self._tau)
        return torch.tensor(value, dtype=self.mean.dtype, device=self.mean.device)

    def with_prior(self, prior_precision: float) -> "LaplacePosterior":
        """The posterior of the same fit under another prior precision; the data are not needed again."""
        return dataclasses.replace(self, prior_precision=check_positive("prior_precision", prior_precision))

    def tune_prior(self) -> "LaplacePosterior":
        r"""The posterior at the prior precision that maximises the log evidence; noise_std too if it was fitted.

        The derivative of the evidence in log delta is :math:`\frac12(\gamma(\delta) - \delta\|\theta_*\|^2)` with
        :math:`\gamma = \sum_i \lambda_i/(\lambda_i + \delta)`: a falling minus a rising function, so the root is
        unique and bisection finds the optimum to rounding. With fitted noise the two are found in turn.

        Raises:
            ValueError: no finite optimum: the weights are zero, or the curvature is.
        """
        values = self.curvature.eigenvalues
        if not self.fitted_noise:
            prior = best_prior(values * self._scale, self._norm)
            return dataclasses.replace(self, prior_precision=prior)
        prior, noise = best_prior_and_noise(values, self._norm, self.count, self.fit, self.noise_std)
        return dataclasses.replace(self, prior_precision=prior, noise_std=noise)

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """(n, P) draws of the weights covered, in the order of ``parameters_to_vector``."""
        check_count("n", n)
        steps = self.curvature.unrotate(self._draw(n, generator))
        return self.mean + self._reorder(torch.cat([step.flatten(1) for step in steps], 1))

    def predict(
        self,
        x: Tensor,
        *,
        link: Literal["probit", "mc"] = "probit",
        samples: int | None = None,
        linearize: bool = True,
        generator: torch.Generator | None = None,
    ) -> CategoricalPredictive | NormalPredictive:
        r"""The predictive distribution at x (N, ...).

        The network is linearised in its weights at :math:`\theta_*`, as the curvature H does, so the outputs are
        Gaussian: mean :math:`f(x)`, variances :math:`s_k^2 = J_k (H + \delta I)^{-1} J_k^\top`.

        - ``link="probit"``: closed form. Regression: :math:`\mathcal N(f, s^2 + \sigma^2)`, exact. Classification:
          each logit is shrunk, :math:`\operatorname{softmax}\big(f_k/\sqrt{1 + \pi s_k^2/8}\big)`; for one logit
          this is MacKay's sigmoid formula, within 0.02 of the integral; for several it neglects their covariance.
        - ``link="mc"``: ``samples`` draws (``None``: 100) of the weights, each one a function on all of x. With
          ``linearize=False`` they pass through the network itself instead of its linearisation.

        Time: as one forward and C backward passes, plus a forward pass a sample. Memory: the data in chunks; the
        draws take O(S P). No (N, C, P) array is formed.

        Returns:
            CategoricalPredictive with S = 1 or ``samples``; for regression NormalPredictive.
        """
        check_choice("link", link, ("probit", "mc"))
        if link == "probit":
            if not linearize:
                raise ValueError('the closed form is that of the linearised network: linearize=False needs link="mc"')
            refuse_idle(samples=samples, generator=generator, why='link="probit" draws nothing (link="mc" does)')
        check_input(self.network.model, x)
        if link == "mc":
            samples = 100 if samples is None else samples
            check_count("samples", samples)
            steps = self._draw(samples, generator)
            outputs = self._linear_outputs(x, steps) if linearize else self._network_outputs(x, steps)
            if self._classifies:
                return CategoricalPredictive(class_probabilities(outputs))
            return NormalPredictive(outputs[..., 0], self._noise_variance(x))
        means, variances = [], []
        jacobian = isinstance(self.curvature, Full) and not self.network.last_layer
        for rows in self.network.chunks(x, jacobian=jacobian):
            outputs, traces = self.network.trace(x[rows], None)
            means.append(outputs)
            variances.append(self.curvature.variance(traces, self._tau) / self._scale)
        mean, variance = torch.cat(means), torch.cat(variances)
        if self._classifies:
            return CategoricalPredictive(class_probabilities(mean / torch.sqrt(1 + math.pi / 8 * variance))[None])
        return NormalPredictive(mean.mT, self._noise_variance(x), mean_variances=variance.mT)

    @property
    def _classifies(self) -> bool:
        return self.network.likelihood == "classification"

    @property
    def _scale(self) -> float:
        """H of the data is this times the curvature kept: the noise precision of a regression."""
        return 1.0 if self._classifies else self.noise_std**-2

    @cached_property
    def _norm(self) -> float:
        return float(self.mean.double().square().sum())

    @property
    def _tau(self) -> float:
        return self.prior_precision / self._scale

    @cached_property
    def _order(self) -> Tensor:
        offset, parts = 0, []
        for block in self.network.blocks:
            parts.append(block.order() + offset)
            offset += block.size
        return torch.cat(parts).to(self.network.blocks[0].module.weight.device)

    def _reorder(self, flat: Tensor) -> Tensor:
        return flat[..., self._order]

    def _noise_variance(self, x: Tensor) -> Tensor:
        return torch.full((1, len(x)), self.noise_std**2, dtype=x.dtype, device=x.device)

    def _draw(self, n: int, generator: torch.Generator | None) -> list[Tensor]:
        """For each block (n, rows, columns) draws of theta - theta_*, in the coordinates of the curvature."""
        like = self.network.blocks[0].module.weight
        shape, place = (n, self.network.parameters), draw_device(like, generator)
        noise = torch.randn(shape, generator=generator, dtype=like.dtype, device=place).to(like.device)
        return [step / math.sqrt(self._scale) for step in self.curvature.draw(noise, self._tau)]

    def _linear_outputs(self, x: Tensor, steps: list[Tensor]) -> Tensor:
        """(S, N, K) f(x) + J(x) step, one forward pass a sample and no Jacobian."""
        parts = []
        for rows in self.network.chunks(x):
            outputs, traces = self.network.trace(x[rows], None)
            traces = self.curvature.rotate(traces)
            part = outputs.expand(len(steps[0]), *outputs.shape).clone()
            for s, moved in enumerate(part):
                for trace, step in zip(traces, steps, strict=True):
                    moved += _move(trace, step[s])
            parts.append(part)
        return torch.cat(parts, 1)

    def _network_outputs(self, x: Tensor, steps: list[Tensor]) -> Tensor:
        """(S, N, K) outputs of the network with the weights of each sample."""
        steps = self.curvature.unrotate(steps)
        outputs = []
        for s in range(len(steps[0])):
            weights: dict[str, Tensor] = {}
            for block, step in zip(self.network.blocks, steps, strict=True):
                weights |= block.named(block.mean + step[s])
            outputs.append(torch.cat([self.network.forward(x[rows], weights) for rows in self.network.chunks(x)]))
        return torch.stack(outputs)


def fit_laplace(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    likelihood: Literal["classification", "regression"] = "classification",
    weights: Literal["last_layer", "all"] = "last_layer",
    structure: Literal["full", "kfac", "diag"] = "full",
    prior_precision: float = 1.0,
    noise_std: float | None = 1.0,
) -> LaplacePosterior:
    r"""Laplace's approximation at the weights of a trained network.

    .. math:: H = \sum_n J_n^\top \Lambda_n J_n, \qquad
        \Lambda_n = \operatorname{diag}(p_n) - p_n p_n^\top \ \text{(softmax)}, \quad
        p_n(1 - p_n)\ \text{(one logit)}, \quad 1/\sigma^2\ \text{(regression)}.

    It is the Hessian itself for a model that is linear in its weights (logistic regression), and else its positive
    semi-definite part. The weights are taken to be the mode, so train with the penalty
    :math:`\tfrac\delta2\|\theta\|^2` on the *summed* loss (on the mean loss: :math:`\tfrac{\delta}{2N}\|\theta\|^2`).
    The model is copied and never changed; it is used in evaluation mode.

    Args:
        model: returns logits (N, C), one logit (N, 1) or (N,) for two classes, or means (N, 1) or (N,).
        x: (N, ...) inputs.
        y: (N,) labels 0..C-1, or real targets.
        likelihood: "classification" or "regression" with Gaussian noise.
        weights: "last_layer" (the model must end in a Linear layer) or "all" (Linear and Conv2d layers only).
        structure: "full" (P x P), "kfac" (Kronecker factors a layer, weights and bias together) or "diag".
        prior_precision: delta > 0, the inverse variance of the prior of each weight.
        noise_std: standard deviation sigma of the noise of a regression; ``None``: the one that maximises the evidence.

    Cost: "diag" and "kfac" over all weights one forward and C backward passes, memory O(P) resp. O(P + widths^2) and
    one chunk of the data; "full" O(N C P^2) time, or O(N C^2 D^2) for a last layer of D inputs, and O(P^2) memory.

    Raises:
        TypeError: tensors of the wrong dtype.
        ValueError: empty data, NaN, shapes or labels out of range, different devices, a layer that "all" does not
            support (it is named), a matrix too large for "full".

    Source: MacKay, A practical Bayesian framework for backpropagation networks (1992); for networks of today
    Daxberger et al., Laplace Redux (2021).

    Example: a linear model with unit noise is Bayesian linear regression: precision X^T X + delta.

    >>> model = nn.Linear(1, 1, bias=False, dtype=torch.float64)
    >>> x = torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    >>> posterior = fit_laplace(model, x, x[:, 0], likelihood="regression", prior_precision=3.0)
    >>> posterior.precision
    tensor([[8.]], dtype=torch.float64)
    """
    check_choice("likelihood", likelihood, ("classification", "regression"))
    check_choice("weights", weights, ("last_layer", "all"))
    check_choice("structure", structure, ("full", "kfac", "diag"))
    prior_precision = check_positive("prior_precision", prior_precision)
    fitted_noise = noise_std is None and likelihood == "regression"
    noise = 1.0 if noise_std is None else check_positive("noise_std", noise_std)
    check_input(model, x)
    refuse_half("x", x)
    last_layer = weights == "last_layer"
    network = Network(model, x, last_layer=last_layer, likelihood=likelihood)
    y = check_targets(y, x, network.outputs, likelihood)
    if structure == "full":
        check_full_size(network.parameters)
    fit = 0.0

    def traces():
        nonlocal fit
        for rows in network.chunks(x, jacobian=structure == "full" and not last_layer):
            outputs, trace = network.trace(x[rows], _root(likelihood))
            if likelihood == "classification":
                fit = fit + log_likelihood(outputs, y[rows], likelihood).double().sum()
            else:
                fit = fit + (y[rows] - outputs[:, 0]).double().square().sum()
            yield trace

    if structure == "diag":
        curvature: Curvature = Factored.fit_diagonal(network.blocks, traces())
    elif structure == "kfac":
        curvature = Factored.fit_kronecker(network.blocks, traces())
    elif last_layer:
        curvature = Full.fit_last_layer(network.blocks[0], traces())
    else:
        curvature = Full.fit(network.blocks, traces())
    if not math.isfinite(fit):
        raise ValueError("the outputs of the model hold NaN or infinity: it diverged in training")
    if fitted_noise:
        noise = best_noise(curvature.eigenvalues, len(x), float(fit), prior_precision)
    return LaplacePosterior(network, curvature, prior_precision, noise, fitted_noise, len(x), float(fit))


def _root(likelihood: str) -> Callable[[Tensor], Tensor]:
    """Outputs (N, K) -> (J, N, K): vectors r_j with sum_j r_j r_j^T the Hessian of -log p in the outputs."""

    def regression(outputs: Tensor) -> Tensor:
        return torch.ones_like(outputs)[None]

    def classification(outputs: Tensor) -> Tensor:
        if outputs.shape[1] == 1:
            return torch.sqrt(torch.sigmoid(outputs) * torch.sigmoid(-outputs))[None]
        p = outputs.softmax(-1)
        # columns of diag(sqrt p) - p sqrt(p)^T, whose square is diag(p) - p p^T because p sums to one
        root = p.sqrt()
        return (root.diag_embed() - p[:, :, None] * root[:, None, :]).permute(2, 0, 1)

    return regression if likelihood == "regression" else classification


def _move(trace: Trace, step: Tensor) -> Tensor:
    """(N, K) the first-order change of the outputs when the weights of one layer move by step (rows, columns)."""
    change = trace.inputs @ step.mT  # (N, T, rows)
    if trace.gradients is None:
        return change[:, 0]
    return (trace.gradients * change).sum((2, 3)).mT
