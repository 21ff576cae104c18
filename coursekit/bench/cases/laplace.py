"""Laplace's approximation beside laplace-torch."""

import copy

import torch
from torch.utils.data import DataLoader, TensorDataset

from coursekit.bayes.laplace import fit_laplace
from coursekit.bench.case import Agreement, Case
from coursekit.bench.cases.material import images, mlp

_PEER = "laplace-torch"
# Against the dense formula in float64 our probabilities are right to 4e-13, its to 3e-6 (its curvature to 1e-8).
_NOTE = {_PEER: "compared to 1e-4: in float64 its curvature is exact to single precision only"}


def last_layer_fit(device: torch.device, dtype: torch.dtype) -> Case:
    model = mlp(device, dtype)
    x, y = images("train", 4000, device, dtype)
    probe, _ = images("test", 200, device, dtype)

    def prepare():
        return lambda: _fitted(model, x, y, "last_layer", "full", batch_size=500)

    def compare(peer, ours, theirs):
        # The precision is badly conditioned: it is compared through what it predicts.
        return _agreement(ours.predict(probe).mean, _predict(theirs, probe), dtype, exact=1e-4)

    return Case(
        lambda: fit_laplace(model, x, y, weights="last_layer", structure="full"), {_PEER: prepare}, compare, note=_NOTE
    )


def last_layer_predict(device: torch.device, dtype: torch.dtype) -> Case:
    model = mlp(device, dtype)
    x, y = images("train", 4000, device, dtype)
    new, _ = images("test", 2000, device, dtype)
    posterior = fit_laplace(model, x, y, weights="last_layer", structure="full")

    def prepare():
        theirs = _fitted(model, x, y, "last_layer", "full", batch_size=500)
        return lambda: _predict(theirs, new)

    def compare(peer, ours, theirs):
        return _agreement(ours.mean, theirs, dtype, exact=1e-4)

    return Case(lambda: posterior.predict(new), {_PEER: prepare}, compare, note=_NOTE)


def kfac_predict(device: torch.device, dtype: torch.dtype) -> Case:
    # Without biases: with them the two libraries mean different things by KFAC (one factor for weight and bias
    # together, or one each), which changes no cost but the answer.
    model = mlp(device, dtype, bias=False)
    x, y = images("train", 1000, device, dtype)
    new, _ = images("test", 64, device, dtype)
    posterior = fit_laplace(model, x, y, weights="all", structure="kfac")

    def prepare():
        theirs = _fitted(model, x, y, "all", "kron", batch_size=len(x))
        return lambda: _predict(theirs, new)

    def compare(peer, ours, theirs):
        return _agreement(ours.mean, theirs, dtype, exact=1e-8)

    return Case(
        lambda: posterior.predict(new),
        {_PEER: prepare},
        compare,
        note={_PEER: "a network without biases, so that both factorise the same matrices"},
    )


def diagonal_fit(device: torch.device, dtype: torch.dtype) -> Case:
    model = mlp(device, dtype)
    x, y = images("train", 64, device, dtype)

    def prepare():
        return lambda: _fitted(model, x, y, "all", "diag", batch_size=32)

    def compare(peer, ours, theirs):
        mine = ours.curvature.eigenvalues  # of a diagonal matrix: its entries
        error = (mine.sort().values - theirs.H.sort().values).abs().max() / theirs.H.abs().max()
        return Agreement("curvatures differ by (relative)", float(error), 1e-10 if dtype == torch.float64 else 1e-4)

    return Case(lambda: fit_laplace(model, x, y, weights="all", structure="diag"), {_PEER: prepare}, compare)


def _agreement(ours, theirs, dtype: torch.dtype, *, exact: float) -> Agreement:
    bound = exact if dtype == torch.float64 else 2e-3
    return Agreement("probabilities differ by", float((ours - theirs).abs().max()), bound)


def _fitted(model, x, y, weights: str, structure: str, *, batch_size: int):
    from laplace import Laplace

    # A copy: the library leaves attributes and gradients on the model it is given.
    posterior = Laplace(copy.deepcopy(model), "classification", subset_of_weights=weights, hessian_structure=structure)
    posterior.fit(DataLoader(TensorDataset(x, y), batch_size=batch_size))
    return posterior


def _predict(posterior, x):
    return posterior(x, pred_type="glm", link_approx="probit")
