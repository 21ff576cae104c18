"""Every public function of the methods, with model and data on each device: the result is there, and is the CPU's.

A case builds its inputs on the CPU from a seed, moves them by `place.put` and returns what the method gave; every tensor
in it, and in the properties of every result, has to be on the device and to equal the CPU's. A pretend device draws
the CPU's numbers here; on CUDA, whose generator draws others, results that hang on its draws are compared in shape.
"""

import contextlib
import dataclasses
import warnings
from functools import cached_property
from types import MappingProxyType

import numpy as np
import pretend_device
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import coursekit.bayes
import coursekit.data
import coursekit.landscape
import coursekit.uncertainty
from coursekit import bayes, checks, data, evidence, landscape, nets, plots, predictive, uncertainty
from coursekit.bayes import features
from coursekit.data import toy
from coursekit.theory import (
    capacity,
    double_descent,
    expressivity,
    implicit_bias,
    linear_networks,
    regions,
    scattering,
    symmetries,
)
from coursekit.train import supervised, train

CASES, RANDOM = {}, set()


def case(*names: str, random: bool = False):
    """Register a function of a Place as the case that covers `names`."""

    def register(function):
        for name in names:
            assert name not in CASES, name
            CASES[name] = function
        if random:
            RANDOM.add(function)
        return function

    return register


class Place:
    """A device, and inputs on it that are the same on each."""

    def __init__(self, device: torch.device, *, draws: str | None = None):
        self.device = device
        self.draws = draws or device  # where the generators are

    def put(self, thing):
        return thing.to(self.device)

    def draw(self, *shape: int, seed: int = 0, dtype=torch.float64) -> torch.Tensor:
        return self.put(torch.randn(shape, generator=self.cpu_generator(seed), dtype=dtype))

    def labels(self, n: int, classes: int = 3) -> torch.Tensor:
        return self.put(torch.arange(n) % classes)

    def net(self, build) -> nn.Module:
        torch.manual_seed(0)
        return self.put(build().double())

    def mlp(self, out: int = 3, **options) -> nn.Module:
        return self.net(lambda: nets.MLP(2, out, width=6, depth=1, activation="tanh", **options))

    def generator(self, seed: int = 0) -> torch.Generator:
        return torch.Generator(self.draws).manual_seed(seed)

    @staticmethod
    def cpu_generator(seed: int = 0) -> torch.Generator:
        return torch.Generator().manual_seed(seed)


# --- predictives, networks, training ----------------------------------------------------------------------------------


@case("CategoricalPredictive")
def _(place):
    return predictive.CategoricalPredictive(place.draw(4, 5, 3).softmax(-1))


@case("NormalPredictive")
def _(place):
    m, v = place.draw(4, 5), place.draw(4, 5, seed=1).square() + 0.1
    one, mixture = predictive.NormalPredictive(m[:1], v[:1]), predictive.NormalPredictive(m, v, mean_variances=v)
    t = place.draw(5, seed=2)
    return one, mixture, [(p.log_prob(t), p.cdf(t), p.quantile(0.3), p.interval(0.9)) for p in (one, mixture)]


@case("MLP", "LeNet", "evaluation_mode", "features_and_outputs")
def _(place):
    mlp, lenet = place.mlp(dropout=0.5), place.net(nets.LeNet)
    x, images = place.draw(5, 2), place.draw(2, 1, 28, 28)
    with nets.evaluation_mode(mlp), nets.evaluation_mode(lenet):
        return mlp(x), mlp.features(x), lenet(images), nets.features_and_outputs(lenet, images)


@case("train")
def _(place):
    model, x, y = place.mlp(), place.draw(12, 2), place.labels(12)
    history = train(
        model,
        supervised(F.cross_entropy),
        x,
        y,
        epochs=3,
        batch_size=5,
        generator=place.cpu_generator(),
        progress=False,
    )
    return history, model.state_dict()


# --- bayes ------------------------------------------------------------------------------------------------------------


@case("features")
def _(place):
    x, centres = place.draw(5, 2), torch.zeros(3, 2)  # centres from the CPU serve inputs on any device
    return features.linear()(x), features.polynomial(3)(x), features.gaussian(centres, 0.7)(x)


@case("fit_linear", "LinearPosterior", "maximize_evidence", random=True)
def _(place):
    x, t = place.draw(20), place.draw(20, seed=1)
    p = bayes.fit_linear(features.polynomial(2), x, t, alpha=0.5, beta=4.0).update(x[:3], t[:3])
    best = bayes.maximize_evidence(features.linear(), x, 2 * x + 0.1 * t)
    return p, best, p.sample(3, generator=place.generator()), p.predict(x), best.predict(x)


@case("fit_laplace", "LaplacePosterior", random=True)
def _(place):
    x, y, t = place.draw(6, 2), place.labels(6), place.draw(6, seed=1)
    results = []
    for weights in ("last_layer", "all"):
        for structure in ("full", "kfac", "diag"):
            options = {"weights": weights, "structure": structure}
            classes = bayes.fit_laplace(place.mlp(), x, y, **options)
            numbers = bayes.fit_laplace(place.mlp(1), x, t, likelihood="regression", **options)
            binary = bayes.fit_laplace(place.mlp(1), x, y % 2, **options)
            for p in (classes, numbers, binary.with_prior(2)):
                results += [p.precision, p.log_evidence, p.sample(2, generator=place.generator()), p.predict(x)]
                results += [
                    p.predict(x, link="mc", samples=2, linearize=linear, generator=place.generator())
                    for linear in (True, False)
                ]
    return results, classes.mean, classes.covariance


@case("fit_laplace (tuned)")
def _(place):
    x, y = place.draw(6, 2), place.labels(6)
    tuned = bayes.fit_laplace(place.mlp(), x, y).tune_prior()
    fitted = bayes.fit_laplace(place.mlp(1), x, y.double(), likelihood="regression", noise_std=None)
    return tuned.prior_precision, tuned.predict(x), fitted.noise_std, fitted.tune_prior().log_evidence


@case("fit_laplace (convolutions)", random=True)
def _(place):
    model = place.net(
        lambda: nn.Sequential(nn.Conv2d(1, 2, 3, padding="same"), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3))
    )
    x, y = place.draw(4, 1, 4, 4), place.labels(4)
    posteriors = [bayes.fit_laplace(model, x, y, weights="all", structure=s) for s in ("full", "kfac", "diag")]
    return [
        p.predict(x, link=link, **options)
        for p in posteriors
        for link, options in (("probit", {}), ("mc", {"samples": 2, "generator": place.generator()}))
    ]


@case("LinearVariational", "Conv2dVariational", "kl_divergence", "kl_normal", "elbo", "Elbo", random=True)
def _(place):
    def build():
        layers = bayes.Conv2dVariational(1, 2, 3), nn.ReLU(), nn.Flatten(), bayes.LinearVariational(8, 3)
        return nn.Sequential(*layers)

    model, x, y = place.net(build), place.draw(4, 1, 4, 4), place.labels(4)
    bounds = [
        bayes.elbo(model, x, y, data_size=9, samples=2, estimator=estimator, generator=place.generator())
        for estimator in ("local", "shared", "flipout")
    ]
    sum(bound.value for bound in bounds).backward()
    made_there = (
        bayes.LinearVariational(2, 2, device=place.device),
        bayes.Conv2dVariational(1, 1, 2, device=place.device),
    )
    gradients = {name: p.grad for name, p in model.named_parameters()}
    std = model[0].weight_std, model[0].bias_std
    return bounds, gradients, bayes.kl_divergence(model), std, [m.kl() * 0 for m in made_there]


@case("gradient_variance", random=True)
def _(place):
    model, x, y = place.net(lambda: bayes.LinearVariational(2, 3)), place.draw(4, 2), place.labels(4)
    return bayes.gradient_variance(model, x, y, samples=4, generator=place.generator())


@case("negative_elbo", random=True)
def _(place):
    model, x, y = place.net(lambda: bayes.LinearVariational(2, 3)), place.draw(9, 2), place.labels(9)
    objective = bayes.negative_elbo(data_size=9, generator=place.generator())
    history = train(model, objective, x, y, epochs=2, progress=False)
    return history, model.state_dict()


@case("VariationalNetwork", random=True)
def _(place):
    model = place.net(lambda: nn.Sequential(bayes.LinearVariational(2, 4), nn.Tanh(), bayes.LinearVariational(4, 2)))
    x, t = place.draw(6, 2), place.draw(6, seed=1)
    network = bayes.VariationalNetwork(model, likelihood="heteroscedastic")
    bound = network.elbo(x, t, generator=place.generator())
    return bound, network.kl(), network(x).shape, network.predict(x, samples=3, generator=place.generator())


@case("MCDropout", random=True)
def _(place):
    def build():
        start = nn.Conv2d(1, 2, 3, padding=1), nn.Dropout2d(0.3), nn.ReLU(inplace=True), nn.Dropout(0.3)
        return nn.Sequential(*start, nn.Flatten(), nn.Linear(32, 6), nn.AlphaDropout(0.2), nn.Linear(6, 2))

    images = place.net(build)

    class Untraceable(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.dropout = nn.Linear(2, 1), nn.Dropout(0.5)

        def forward(self, x):
            return self.layer(self.dropout(x)) if float(x.sum()) < 1e9 else x

    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 3)

        def forward(self, x):
            return self.layer(F.dropout(x, 0.4, self.training))

    x, pictures = place.draw(5, 2), place.draw(3, 1, 4, 4)
    runs = (
        (images, pictures, "heteroscedastic"),
        (place.net(Untraceable), x, "regression"),
        (place.net(Functional), x, "classification"),
    )
    return [bayes.MCDropout(m, likelihood=k).predict(v, samples=3, generator=place.generator()) for m, v, k in runs]


@case("Ensemble", "train_ensemble", "ambiguity_decomposition", "Ambiguity")
def _(place):
    x, y, t = place.draw(12, 2), place.labels(12), place.draw(12, seed=1)
    results = []
    for vectorize in (False, True):
        options = {"members": 2, "epochs": 2, "batch_size": 5, "vectorize": vectorize, "progress": False}
        build = lambda: nets.MLP(2, 3, width=4, depth=1)  # noqa: E731
        members = bayes.train_ensemble(build, x, y, generator=place.cpu_generator(), **options)
        results += [members.predict(x), members.predict(x, samples=1)]
        build = lambda: nets.MLP(2, 1, width=4, depth=1)  # noqa: E731
        members = bayes.train_ensemble(build, x, t, likelihood="regression", generator=place.cpu_generator(), **options)
        results.append(bayes.ambiguity_decomposition(members.predict(x).means, t))
    return results


@case("DirichletHead", "EvidentialCategorical", "evidential_classification_loss", random=True)
def _(place):
    head, x, y = place.net(lambda: bayes.DirichletHead(2, 3)), place.draw(5, 2), place.labels(5)
    p = head(x)
    return p, p.sample(3, generator=place.generator()), bayes.evidential_classification_loss(p, y)


@case("EvidentialNetwork", random=True)
def _(place):
    x, results = place.draw(5, 3), []
    for head in (lambda: bayes.DirichletHead(3, 4), lambda: bayes.NormalInverseGammaHead(3)):
        network = bayes.EvidentialNetwork(place.net(head))
        law = network.predict(x)
        results += [law, network.predict(x, samples=2, generator=place.generator())]
        results.append(law.variation_ratio if hasattr(law, "labels") else law.interval(0.9))
    return results


@case("NormalInverseGammaHead", "EvidentialNormal", "evidential_regression_loss", random=True)
def _(place):
    head, x, t = place.net(lambda: bayes.NormalInverseGammaHead(2)), place.draw(5, 2), place.draw(5, seed=1)
    p = head(x)
    kl = bayes.evidential_regression.normal_inverse_gamma_kl(p, p)
    sample = p.sample(3, generator=place.generator())
    return p, sample, p.log_prob(t), p.interval(0.9), kl, bayes.evidential_regression_loss(p, t)


# --- uncertainty ------------------------------------------------------------------------------------------------------


@case("reliability", "adaptive_reliability", "Reliability", "classwise_ece", "calibrated_ece")
def _(place):
    probs, y = place.draw(40, 3).softmax(1), place.labels(40)
    probs[:4] = place.put(torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64))  # ties
    functions = uncertainty.reliability, uncertainty.adaptive_reliability, uncertainty.classwise_ece
    results = [f(p, y, bins=7) for f in functions for p in (probs, probs.float())]
    return results, uncertainty.calibrated_ece(probs)


@case("brier_score", "negative_log_likelihood", "true_class_probability", "max_class_probability")
def _(place):
    probs, y = place.draw(40, 3).softmax(1), place.labels(40)
    scores = uncertainty.brier_score(probs, y), uncertainty.negative_log_likelihood(probs, y)
    return scores, uncertainty.true_class_probability(probs, y), uncertainty.max_class_probability(probs)


@case("fit_temperature")
def _(place):
    logits = place.draw(40, 3)
    logits[:, 0] += 1.5 * (place.labels(40) == 0)
    return [uncertainty.fit_temperature(scale * logits, place.labels(40)) for scale in (1.0, 20.0)]


@case("detection_metrics", "DetectionMetrics", "risk_coverage", "RiskCoverage", "failure_metrics", "FailureMetrics")
def _(place):
    scores, flags = place.draw(40), place.labels(40) > 0
    ties = scores.round()
    functions = uncertainty.detection_metrics, uncertainty.risk_coverage, uncertainty.failure_metrics
    return [f(s, flags) for f in functions for s in (scores, ties)]


@case("chance_aupr")
def _(place):
    return uncertainty.chance_aupr(3, 10)


@case("confidence_scores", "negative_mutual_information")
def _(place):
    p = predictive.CategoricalPredictive(place.draw(4, 5, 3).softmax(-1))
    return uncertainty.confidence_scores(p), uncertainty.negative_mutual_information(p)


@case("fit_trust_score", "TrustScore")
def _(place):
    model, x, y = place.mlp(), place.draw(30, 2), place.labels(30)
    return [uncertainty.fit_trust_score(model, x, y, drop=d, neighbors=2, batch_size=8)(x + 0.1) for d in (0.0, 0.2)]


@case("fit_confidnet", "ConfidNet")
def _(place):
    model, x, y = place.mlp(), place.draw(20, 2), place.labels(20)
    options = {"epochs": 2, "width": 4, "depth": 1, "generator": place.cpu_generator(), "progress": False}
    net = uncertainty.fit_confidnet(model, x, y, **options)
    return net.validation_losses, net(x), uncertainty.fit_confidnet(model, x, y, **options | {"generator": None})(x)


@case("max_softmax", "energy", "odin", "fit_mahalanobis", "Mahalanobis")
def _(place):
    model = place.net(
        lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 3))
    )
    x, y = place.draw(20, 1, 6, 6).sigmoid(), place.labels(20)
    step = place.put(torch.full((1, 1, 1), 0.01, dtype=torch.float64))
    scores = [uncertainty.odin(model, x, epsilon=e, input_range=(0, 1), batch_size=4) for e in (0.01, step)]
    scores += [uncertainty.odin(model, x, temperature=2.0), uncertainty.max_softmax(model, x, batch_size=4)]
    fitted = uncertainty.fit_mahalanobis(model, x, y, ridge=0.1)
    return scores, uncertainty.energy(model, x, temperature=2.0), fitted.means, fitted.covariance, fitted(x)


@case("coverage", "calibration_curve", "pit", "sharpness", "crps", "crps_gaussian")
def _(place):
    p = predictive.NormalPredictive(place.draw(3, 20), place.draw(3, 20, seed=1).square() + 0.1)
    t, levels = place.draw(20, seed=2), torch.tensor([0.2, 0.5, 0.9])  # levels of the CPU
    curve = [uncertainty.calibration_curve(p, t, levels=v) for v in (levels, place.put(levels))]
    scores = uncertainty.coverage(p, t), uncertainty.pit(p, t), uncertainty.sharpness(p), uncertainty.crps(p, t)
    return curve, scores, uncertainty.crps_gaussian(p.mean, p.std, t)


# --- landscape --------------------------------------------------------------------------------------------------------


def _problem(place, out: int = 3):
    model, x, y = place.mlp(out), place.draw(10, 2), place.labels(10)
    return model, F.cross_entropy, x, y


def _checkpoints(place):
    return [place.net(lambda k=k: _shifted(k)) for k in range(4)]


def _shifted(k: int) -> nn.Module:
    model = nets.MLP(2, 3, width=4, depth=1)
    with torch.no_grad():
        for i, p in enumerate(model.parameters()):
            p.add_(k**2 * (i + 1) / 10).mul_(1 + k / 10)
    return model


@case("random_directions", "Directions", random=True)
def _(place):
    model = place.net(
        lambda: nn.Sequential(nn.ConvTranspose2d(2, 4, 2, groups=2), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(36, 2))
    )
    kinds = "filter", "layer", "none"
    draws = [landscape.random_directions(model, normalize=k, generator=place.generator()).vectors for k in kinds]
    return draws, landscape.random_directions(model, generator=place.cpu_generator()).vectors


@case("pca_directions", "project", "Trajectory")
def _(place):
    run = _checkpoints(place)
    axes = landscape.pca_directions(run)
    trajectory = landscape.project(run, run[-1], axes)
    kept = [
        {name: p.detach().cpu() for name, p in model.named_parameters()} for model in run
    ]  # out of the GPU's memory
    from_kept = landscape.project(kept, run[-1], axes)
    return axes.vectors, axes.explained_variance, trajectory, trajectory.extent(), from_kept


@case("line", "plane", "Line", "Surface")
def _(place):
    problem = _problem(place)
    axes = landscape.random_directions(problem[0], generator=place.cpu_generator())
    box = ((-1.0, 0.5), (0.0, 1.0))
    return (
        landscape.line(*problem, axes[0], steps=5),
        landscape.line(*problem, {name: d.cpu() for name, d in axes[0].items()}, steps=3),
        landscape.plane(*problem, axes, steps=3),
        landscape.plane(*problem, axes, steps=4, extent=box, batch_size=4),
    )


@case("CurvatureOperator", "top_eigenvalues", "Eigenpairs")
def _(place):
    problem, results = _problem(place), []
    for matrix in ("hessian", "ggn"):
        operator = landscape.CurvatureOperator(*problem, matrix=matrix)
        batches = landscape.CurvatureOperator(*problem, matrix=matrix, batch_size=4)
        v = place.draw(operator.size)
        results += [operator.dense(), operator @ v, batches @ v, operator.centre]
    for which in ("largest", "smallest", "magnitude"):
        pairs = landscape.top_eigenvalues(*problem, k=2, which=which, tol=1e-9, generator=place.cpu_generator())
        results += [pairs.values, pairs.converged, pairs.residuals * 0]
    return results


@case("CurvatureOperator (all columns in one pass, as on CUDA)")
def _(place):
    operators = [landscape.CurvatureOperator(*_problem(place), matrix=m) for m in ("hessian", "ggn")]
    eye = place.put(torch.eye(operators[0].size, dtype=torch.float64))
    return [operator._kept(eye, batched=True) for operator in operators]


@case("top_eigenvalues (restarts, a budget that ends)")
def _(place):
    layer, x = place.net(lambda: nn.Linear(4, 1, bias=False)), place.put(torch.eye(4, dtype=torch.float64))
    problem = layer, F.mse_loss, x, x.new_zeros(4, 1)  # one eigenvalue, four times: each search ends at once
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        some = landscape.top_eigenvalues(*_problem(place), k=2, max_products=4, generator=place.cpu_generator())
    return landscape.top_eigenvalues(*problem, k=3, generator=place.cpu_generator()).values, some.values


@case("hessian_trace", "TraceEstimate", "spectral_density", "Spectrum")
def _(place):
    problem, g = _problem(place), place.cpu_generator
    traces = [landscape.hessian_trace(*problem, products=n, generator=g()) for n in (9, 99)]
    spectrum = landscape.spectral_density(*problem, samples=2, steps=6, generator=g())
    points = torch.linspace(-1, 1, 5)  # points of the CPU
    return traces, spectrum, spectrum.moment(2), spectrum.density(points, width=0.1)


@case("hessian_trace (draws on the device)", random=True)
def _(place):
    problem, g = _problem(place), place.generator
    pairs = landscape.top_eigenvalues(*problem, k=1, tol=1e-9, generator=g())
    trace = landscape.hessian_trace(*problem, products=9, generator=g())
    return pairs.values, trace, landscape.spectral_density(*problem, samples=1, steps=4, generator=g())


@case("fit_curve", "straight_line", "loss_along", "Curve", "Path")
def _(place):
    start, end = _checkpoints(place)[:2]
    x, y = place.draw(10, 2), place.labels(10)
    options = {"steps": 4, "batch_size": 5, "generator": place.cpu_generator()}
    curves = landscape.straight_line(start, end), landscape.fit_curve(start, end, F.cross_entropy, x, y, **options)
    paths = [landscape.loss_along(c, start, F.cross_entropy, x, y, steps=5, batch_size=4) for c in curves]
    return curves, curves[1].parameters(0.3), paths


@case("fit_curve (draws on the device)", random=True)
def _(place):
    start, end = _checkpoints(place)[:2]
    options = {"steps": 3, "batch_size": 5, "generator": place.generator()}
    return landscape.fit_curve(start, end, F.cross_entropy, place.draw(10, 2), place.labels(10), **options)


# --- data -------------------------------------------------------------------------------------------------------------


@case("toy", random=True)
def _(place):
    sets = toy.line, toy.hole, toy.sinus, toy.blobs, toy.moons, toy.rings
    drawn = [make(12, generator=place.generator()) for make in sets]
    return drawn, toy.line_truth(drawn[0].x), toy.sinus_truth(drawn[0].x)


@case("mnist", "normalize", "denormalize")
def _(place):
    x, y = data.mnist("test", device=place.device)
    few = data.normalize(x[:5])
    return few, data.denormalize(few), y[:5]


@case("shift", "permute", "invert", "rotate", "blur", "noise")
def _(place):
    x = place.draw(3, 1, 6, 6).sigmoid()
    shifted = [data.shift(x, kind, s, generator=place.cpu_generator()) for kind in data.SHIFTS for s in (0, 3)]
    return shifted, data.permute(x), data.invert(x), data.rotate(x, 30), data.blur(x, 0.7), data.blur(x, 0)


@case("noise (draws on the device)", random=True)
def _(place):
    x, g = place.draw(3, 1, 6, 6).sigmoid(), place.generator
    return data.noise(x, generator=g()), data.permute(x, 0.5, generator=g()), data.noise(x).shape


@case("glyphs", random=True)
def _(place):
    return data.glyphs(3, generator=place.generator(), device=place.device), data.glyphs(
        3, normalize=True, device=place.device
    )


# --- theory -----------------------------------------------------------------------------------------------------------


@case("theory.capacity")
def _(place):
    x = place.draw(4, 2)
    both = capacity.rademacher(lambda e: (e @ x).norm(dim=1), 4, device=place.device)
    return capacity.linear_dichotomies(x), capacity.is_separable(x, place.put(torch.tensor([1, -1, 1, -1]))), both


@case("theory.capacity (draws on the device)", random=True)
def _(place):
    return capacity.rademacher(lambda e: e.abs().sum(1), 5, samples=8, generator=place.generator())


@case("theory.double_descent", random=True)
def _(place):
    gamma, theta = place.put(torch.tensor([0.5, 1.0, 2.0])), place.draw(6)
    limits = double_descent.isotropic_risk(gamma, signal=4.0, noise=1.0)
    ridge = double_descent.isotropic_ridge_risk(gamma, 0.3, signal=4.0, noise=1.0)
    options = {"noise": 0.5, "samples": 3}
    risks = [double_descent.sample_risk(n, 4, theta, generator=place.generator(), **options) for n in (6, 3)]
    return limits, ridge, risks


@case("theory.expressivity")
def _(place):
    tent, square = place.put(expressivity.tent_network(3)), place.put(expressivity.square_network(3))
    x = place.draw(5, 1).sigmoid()
    return tent(x), square(x), expressivity.piece_count(tent), expressivity.piece_count(square)


@case("theory.implicit_bias")
def _(place):
    points = place.draw(5, 2).abs() + 0.5
    fit = implicit_bias.least_squares_descent(points, place.draw(5, seed=1), steps=4)
    return fit, implicit_bias.max_margin(points), implicit_bias.logistic_descent(points, step=0.1, times=[1, 2, 5])


@case("theory.linear_networks")
def _(place):
    target, x, y = place.draw(3, 3), place.draw(3, 9), place.draw(2, 9, seed=1)
    left, right = linear_networks.critical_point(target, [0, 2])
    mixed = linear_networks.critical_point(target, [0, 2], mixing=place.put(2 * torch.eye(2, dtype=torch.float64)))
    *escape, curvature = linear_networks.escape_direction(target, [0, 2])
    path = linear_networks.descend(target, left + 0.1, right, step=0.05, steps=3)[2]
    white = linear_networks.whitened_target(x, y)[0]
    loss = linear_networks.factorization_loss(target, left, right)
    return (
        left @ right,
        mixed[0] @ mixed[1],
        escape[0] @ escape[1],
        curvature,
        path,
        white,
        loss,
        linear_networks.saxe_mode(x, 2.0, 0.5),
    )


@case("theory.regions")
def _(place):
    model, x = (
        place.net(lambda: nn.Sequential(nn.Linear(2, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 1))),
        place.draw(2),
    )
    patterns = regions.arrangement_patterns(place.draw(5, 2), place.draw(5, seed=1))
    breaks = regions.line_breakpoints(model, x, place.draw(2, seed=3))
    no_units = regions.activation_pattern(nn.Sequential(nn.Flatten()), x[None])
    return patterns, no_units, regions.activation_pattern(model, x[None]), regions.affine_piece(model, x), breaks


@case("theory.scattering")
def _(place):
    bank = scattering.dyadic_bank(16, 2, device=place.device)
    return bank.littlewood_paley(), scattering.scattering(place.draw(2, 16), bank)


@case("theory.symmetries")
def _(place):
    model = place.net(lambda: nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)))
    x, factors = place.draw(4, 2), torch.tensor([1.0, 2.0, 3.0])  # factors of the CPU
    moved = symmetries.rescale_units(model, 0, factors), symmetries.permute_units(model, 0, torch.tensor([2, 0, 1]))
    return [m(x) for m in (*moved, symmetries.interpolate(model, moved[0], 0.5))]


# --- plots, evidence, checks: these take tensors from any device to NumPy ---------------------------------------------


@case("plots")
def _(place):
    import matplotlib.pyplot as plt

    probs, y, x = place.draw(30, 2).softmax(1), place.labels(30, 2), place.draw(30, 2)
    r = plots.regression
    p = predictive.NormalPredictive(place.draw(3, 5), place.draw(3, 5, seed=1).square() + 0.1)
    t = place.put(torch.linspace(0, 1, 5, dtype=torch.float64))
    metrics = uncertainty.detection_metrics(probs[:, 1], y == 1)
    problem = _problem(place)
    axes = landscape.random_directions(problem[0], generator=place.cpu_generator())
    surface = landscape.plane(*problem, axes, steps=5)
    run = landscape.Trajectory(x[:4], x[:4, 0].abs())
    spectrum = landscape.spectral_density(*problem, samples=1, steps=4, generator=place.cpu_generator())
    pairs = landscape.top_eigenvalues(*problem, k=1, generator=place.cpu_generator())
    images = place.draw(4, 1, 3, 3)
    for draw in (
        lambda ax: plots.calibration.reliability_diagram(uncertainty.reliability(probs, y), ax=ax),
        lambda ax: plots.calibration.coverage_curve(t, t, ax=ax),
        lambda ax: plots.classification.decision_surface(
            lambda v: predictive.CategoricalPredictive(v.softmax(1)[None]), x, y, steps=5, ax=ax
        ),
        lambda ax: plots.detection.roc(metrics, ax=ax),
        lambda ax: plots.detection.precision_recall(metrics, negatives=True, ax=ax),
        lambda ax: plots.detection.risk_coverage_curve(uncertainty.risk_coverage(probs[:, 1], y == 1), ax=ax),
        lambda ax: plots.detection.score_histograms({"in": probs[:, 1], "out": probs[:5, 0]}, ax=ax),
        lambda ax: plots.images.image_grid(images, scores=images[:, 0, 0, 0], wrong=y[:4] > 0, ax=ax),
        lambda ax: plots.landscape.contour(surface, trajectory=run, explained_variance=t[1:3], log=True, ax=ax),
        lambda ax: plots.landscape.line(landscape.line(*problem, axes[0], steps=3), ax=ax),
        lambda ax: plots.landscape.spectrum(spectrum, eigenvalues=pairs, ax=ax),
        lambda ax: r.predictive_band(t, p, data=(t, t), truth=t, ax=ax),
        lambda ax: r.predictive_variance(t, p, data=t, ax=ax),
        lambda ax: r.weight_density(x[0], place.put(torch.eye(2, dtype=torch.float64)), truth=x[1].tolist(), ax=ax),
    ):
        figure, ax = plt.subplots()
        draw(ax)
        plt.close(figure)
    plots.landscape.surface(surface, log=True, ax=plt.figure().add_subplot(projection="3d"))


@case("evidence.check", "checks.matches")
def _(place):
    x = place.draw(3)
    evidence.check("B0.1 a tensor of the device", x, x, source="derived")
    evidence.check("B0.1 numbers of the device", [v for v in x], x.tolist(), source="derived")  # noqa: C416
    assert checks.matches("a tensor of the device", x, x.tolist()) and checks.matches("numbers", list(x), x.tolist())


# --- the comparison ---------------------------------------------------------------------------------------------------


def leaves(thing, path: str = "result"):
    """(path, value) of every tensor and number in a result: in containers, fields and properties."""
    if thing is None or isinstance(thing, (str, nn.Module, np.ndarray)) or callable(thing):
        return
    if isinstance(thing, (torch.Tensor, bool, int, float)):
        yield path, thing
    elif isinstance(thing, (dict, MappingProxyType)):
        for key, value in thing.items():
            yield from leaves(value, f"{path}[{key!r}]")
    elif isinstance(thing, tuple) and hasattr(thing, "_fields"):
        for name in thing._fields:
            yield from leaves(getattr(thing, name), f"{path}.{name}")
    elif isinstance(thing, (list, tuple)):
        for i, value in enumerate(thing):
            yield from leaves(value, f"{path}[{i}]")
    elif dataclasses.is_dataclass(thing):
        names = {f.name for f in dataclasses.fields(thing)}
        for kind in type(thing).__mro__:
            names |= {k for k, v in vars(kind).items() if isinstance(v, (property, cached_property))}
        for name in sorted(n for n in names if not n.startswith("_")):
            yield from leaves(getattr(thing, name), f"{path}.{name}")
    else:
        raise TypeError(f"{path} is a {type(thing).__name__}: say in leaves() how to look into it")


def test_every_public_name_has_a_case():
    modules = coursekit.bayes, coursekit.uncertainty, coursekit.landscape, coursekit.data
    public = {name for module in modules for name in module.__all__}
    # constants; downloads that share all their code with mnist
    public -= {"MEAN", "NORMALIZED_RANGE", "SHIFTS", "STD", "fashion_mnist", "kmnist"}
    assert public <= CASES.keys(), public - CASES.keys()


def compare(found: dict, expected: dict, device: torch.device, *, numbers: bool) -> None:
    """Tensors on the device, of the dtype and shape of the CPU's, and with ``numbers`` of the same values."""
    assert found.keys() == expected.keys()
    for path, value in found.items():
        wanted = expected[path]
        if isinstance(value, torch.Tensor):
            assert value.device.type == device.type, f"{path} is on {value.device}"
            assert (value.dtype, value.shape) == (wanted.dtype, wanted.shape), path
            value = value.cpu()
        if numbers:
            tolerance = {"rtol": 1e-6, "atol": 1e-9, "equal_nan": True}
            torch.testing.assert_close(value, wanted, **tolerance, msg=lambda m, p=path: f"{p}: {m}")


def name_of(function) -> str:
    return next(name for name in CASES if CASES[name] is function)


@pytest.mark.parametrize("function", dict.fromkeys(CASES.values()), ids=name_of)
def test_the_result_is_on_the_device_and_is_that_of_the_cpu(function, second_device):
    expected = dict(leaves(function(Place(torch.device("cpu")))))
    pretends = second_device.type == pretend_device.NAME
    with pretend_device.present(same_stream=True) if pretends else contextlib.nullcontext():
        found = dict(leaves(function(Place(second_device))))
    compare(found, expected, second_device, numbers=pretends or function not in RANDOM)


@pytest.mark.parametrize("function", sorted(RANDOM - {CASES["toy"]}, key=name_of), ids=name_of)
def test_a_generator_of_the_cpu_gives_the_draws_of_the_cpu(function, second_device):
    expected = dict(leaves(function(Place(torch.device("cpu")))))
    found = dict(leaves(function(Place(second_device, draws="cpu"))))
    compare(found, expected, second_device, numbers=True)


@pytest.mark.parametrize("data_on", ["the device", "the CPU"])
@pytest.mark.parametrize("name", ["train", "fit_confidnet", "train_ensemble"])
def test_training_takes_a_generator_of_any_device_and_leaves_the_global_ones(name, data_on, second_device):
    place = Place(second_device if data_on == "the device" else torch.device("cpu"), draws=second_device)
    model, x, y = place.mlp(), place.draw(12, 2), place.labels(12)
    states = [torch.get_rng_state, torch.get_device_module(second_device).get_rng_state]
    before = [state() for state in states]
    options = {"epochs": 2, "batch_size": 5, "generator": place.generator(), "progress": False}
    if name == "train":
        train(model, supervised(F.cross_entropy), x, y, **options)
    elif name == "fit_confidnet":
        uncertainty.fit_confidnet(model, x, y, width=4, depth=1, validation=0.3, **options)
    else:
        bayes.train_ensemble(lambda: nets.MLP(2, 3, dropout=0.1).double(), x, y, members=2, **options)
    assert all(torch.equal(state(), old) for state, old in zip(states, before, strict=True))
