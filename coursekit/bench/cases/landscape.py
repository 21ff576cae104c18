"""The loss landscape beside PyHessian, curvlinops, hessian-eigenthings and loss-landscapes."""

import copy

import torch
import torch.nn.functional as F

from coursekit.bench.case import Agreement, Case
from coursekit.bench.cases.material import images, mlp
from coursekit.landscape import (
    hessian_trace,
    line,
    plane,
    random_directions,
    top_eigenvalues,
)


def eigenvalues(device: torch.device, dtype: torch.dtype) -> Case:
    model = mlp(device, dtype)
    x, y = images("train", 500, device, dtype)

    def ours():
        return top_eigenvalues(model, F.cross_entropy, x, y, k=10, tol=1e-3, which="magnitude", generator=_seed())

    def compare(peer, result, values):
        theirs = torch.as_tensor(values, dtype=torch.float64).abs().sort(descending=True).values
        mine = result.values.double().abs().cpu()
        error = ((mine - theirs) / mine).abs().max()
        # Power iteration stops on successive iterates, and thirty steps of Lanczos on no residual: their last
        # eigenvalues are rough. Ours have residuals below 1e-3 of the value.
        bound = {"hessian-eigenthings": 3e-2, "PyHessian": 0.1}.get(peer, 1e-3)
        return Agreement("eigenvalues differ by (relative)", float(error), bound)

    peers = {
        "PyHessian": lambda: _pyhessian(model, x, y),
        "curvlinops + eigsh": lambda: _eigsh(model, x, y, tol=0),
        "curvlinops + eigsh, tol 1e-3": lambda: _eigsh(model, x, y, tol=1e-3),
        "hessian-eigenthings": lambda: _eigenthings(model, x, y),
    }
    note = {
        "PyHessian": "stops on successive iterates; tolerance 1e-3",
        "curvlinops + eigsh": "as its documentation has it, to machine precision; the next line at our tolerance",
        "hessian-eigenthings": "max_iter=30; its default of 20 leaves the last eigenvalues unconverged",
    }
    return Case(ours, peers, compare, note=note)


def trace(device: torch.device, dtype: torch.dtype) -> Case:
    model = mlp(device, dtype)
    x, y = images("train", 500, device, dtype)

    def ours():
        return hessian_trace(model, F.cross_entropy, x, y, products=99, generator=_seed())

    def compare(peer, result, value):
        # Two unbiased estimates: equal within their errors. Plain Hutchinson has the variance 2 |H|_F^2 / 99.
        top = top_eigenvalues(model, F.cross_entropy, x, y, k=10, generator=_seed()).values.double()
        spread = float((2 * top.square().sum() / 99).sqrt())
        bound = 4 * (spread if peer.startswith("PyHessian") else 0) + 8 * float(result.standard_error)
        return Agreement("traces differ by", abs(float(result.value) - float(value)), bound)

    peers = {
        "PyHessian": lambda: _pyhessian_trace(model, x, y),
        "curvlinops": lambda: _hutchpp(model, x, y),
        "hessian-eigenthings": lambda: _eigenthings_trace(model, x, y),
    }
    return Case(ours, peers, compare, note={"PyHessian": "Hutchinson, whose error is larger at equal cost"})


def loss_plane(device: torch.device, dtype: torch.dtype) -> Case:
    model = mlp(device, dtype)
    x, y = images("train", 1000, device, dtype)
    directions = random_directions(model, generator=_seed())

    def compare(peer, surface, visited):
        # Its grid is shifted in every second row and misses the centre, so the surfaces cannot be equal; what can be
        # compared is the loss at points that it visited.
        differences = []
        for parameters, value in visited:
            named = zip(dict(model.named_parameters()).items(), parameters, strict=True)
            direction = {name: there - p.detach() for (name, p), there in named}
            mine = line(model, F.cross_entropy, x, y, direction, steps=3).loss[-1]
            differences.append(abs(float(mine) - value) / value)
        centre = float(F.cross_entropy(model(x), y).detach())
        differences.append(abs(float(surface.loss[25, 25]) - centre))
        return Agreement("losses differ by (relative)", max(differences), 1e-4)

    return Case(
        lambda: plane(model, F.cross_entropy, x, y, directions, steps=51),
        {"loss-landscapes": lambda: _loss_landscapes(model, x, y)},
        compare,
        note={"loss-landscapes": "deepcopy_model=True, else it leaves the model moved; every second row is shifted"},
    )


def _seed() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _pyhessian(model, x, y):
    from pyhessian import hessian

    def call():
        operator = hessian(copy.deepcopy(model), F.cross_entropy, data=(x, y), cuda=False)
        return operator.eigenvalues(maxIter=100, tol=1e-3, top_n=10)[0]

    return call


def _pyhessian_trace(model, x, y):
    from pyhessian import hessian

    def call():
        # A tolerance of zero, so that it spends its 99 products as the others do.
        estimates = hessian(copy.deepcopy(model), F.cross_entropy, data=(x, y), cuda=False).trace(maxIter=99, tol=0.0)
        return sum(estimates) / len(estimates)

    return call


def _operator(model, x, y):
    from curvlinops import HessianLinearOperator

    return HessianLinearOperator(
        model,
        torch.nn.CrossEntropyLoss(),
        [p for p in model.parameters() if p.requires_grad],
        [(x, y)],
        check_deterministic=False,
    )


def _eigsh(model, x, y, *, tol: float):
    from scipy.sparse.linalg import eigsh

    def call():
        return eigsh(_operator(model, x, y).to_scipy(), k=10, which="LM", tol=tol)[0].copy()

    return call


def _hutchpp(model, x, y):
    from curvlinops import hutchpp_trace

    return lambda: hutchpp_trace(_operator(model, x, y), num_matvecs=99)


def _eigenthings_operator(model, x, y):
    from hessian_eigenthings.loss_fns.standard import supervised_loss
    from hessian_eigenthings.operators import HessianOperator

    return HessianOperator(copy.deepcopy(model), [(x, y)], supervised_loss(F.cross_entropy))


def _eigenthings(model, x, y):
    from hessian_eigenthings.algorithms import lanczos

    return lambda: lanczos(_eigenthings_operator(model, x, y), k=10, max_iter=30, seed=0).eigenvalues.tolist()


def _eigenthings_trace(model, x, y):
    from hessian_eigenthings.algorithms import trace as estimate

    return lambda: estimate(_eigenthings_operator(model, x, y), num_matvecs=99, seed=0).estimate


def _loss_landscapes(model, x, y):
    import loss_landscapes
    from loss_landscapes.metrics import Loss

    class Watched(Loss):
        """Keeps the parameters of a few points, for the comparison; of the others it costs one addition."""

        calls, visited = 0, ()

        def __call__(self, wrapper):
            value = super().__call__(wrapper)
            self.calls += 1
            if self.calls in (1, 500, 1300, 2601):
                parameters = [p.detach().clone() for p in wrapper.get_module_parameters().parameters]
                self.visited = (*self.visited, (parameters, value))
            return value

    def call():
        metric = Watched(F.cross_entropy, x, y)
        with torch.no_grad():
            loss_landscapes.random_plane(model, metric, 1, 51, "filter", deepcopy_model=True)
        return metric.visited

    return call
