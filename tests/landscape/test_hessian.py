import copy
import math
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from coursekit.landscape import CurvatureOperator, hessian_trace, spectral_density, top_eigenvalues
from coursekit.landscape.lanczos import Lanczos

both = pytest.mark.parametrize("matrix", ["hessian", "ggn"])


def close(a, b, tol=1e-10):
    torch.testing.assert_close(a, b.to(a), atol=tol, rtol=tol)


def dense_hessian(model, loss, x, y):
    """(P, P) by brute force: autograd's Hessian of the loss in the flat parameters."""
    names, shapes = zip(*((n, p.shape) for n, p in model.named_parameters()), strict=True)
    sizes = [s.numel() for s in shapes]

    def value(flat):
        parts = {n: v.view(s) for n, v, s in zip(names, flat.split(sizes), shapes, strict=True)}
        return loss(torch.func.functional_call(model, parts, (x,)), y)

    flat = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
    return torch.autograd.functional.hessian(value, flat)


# closed forms


@both
def test_linear_regression(matrix, generator):
    """L = mean over N, C of (w_c . x - y)^2: the Hessian is I_C (x) 2 X'X / (N C)."""
    x = torch.randn(30, 4, dtype=torch.float64, generator=generator)
    y = torch.randn(30, 3, dtype=torch.float64, generator=generator)
    layer = nn.Linear(4, 3, bias=False).double()
    expected = torch.kron(torch.eye(3, dtype=torch.float64), 2 * x.T @ x / 90)
    close(CurvatureOperator(layer, F.mse_loss, x, y, matrix=matrix).dense(), expected)


@both
def test_logistic_regression(matrix, generator):
    """X' diag(p (1 - p)) X / N."""
    x = torch.randn(30, 4, dtype=torch.float64, generator=generator)
    y = torch.randint(2, (30, 1), generator=generator).double()
    layer = nn.Linear(4, 1, bias=False).double()
    p = torch.sigmoid(layer(x)).detach()
    expected = x.T @ (p * (1 - p) * x) / 30
    close(CurvatureOperator(layer, F.binary_cross_entropy_with_logits, x, y, matrix=matrix).dense(), expected)


@both
def test_softmax_regression(matrix, classes):
    """The mean over n of (diag p - p p') (x) x x'."""
    x, y = classes
    layer = nn.Linear(5, 3, bias=False).double()
    p = torch.softmax(layer(x), 1).detach()
    inner = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    expected = torch.einsum("nkl,ni,nj->kilj", inner, x, x).reshape(15, 15) / 40
    close(CurvatureOperator(layer, F.cross_entropy, x, y, matrix=matrix).dense(), expected)


@pytest.mark.parametrize(("depth", "lowest"), [(2, -3.0), (3, 0.0)])
def test_deep_linear_network_at_zero(depth, lowest):
    """||W_L ... W_1 - diag(3, 2, 1)||^2 / 2 at 0: lambda_min = -sigma_1 for two layers, a zero Hessian for three."""
    model = nn.Sequential(*(nn.Linear(3, 3, bias=False) for _ in range(depth))).double()
    for p in model.parameters():
        nn.init.zeros_(p)
    x, y = torch.eye(3, dtype=torch.float64), torch.diag(torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64))
    half = lambda f, t: 0.5 * (f - t).square().sum()  # noqa: E731
    low = top_eigenvalues(model, half, x, y, k=1, which="smallest")
    assert abs(float(low.values) - lowest) < 1e-12
    assert low.converged
    top = top_eigenvalues(model, half, x, y, k=1)
    assert abs(float(top.values) + lowest) < 1e-12
    assert abs(float(hessian_trace(model, half, x, y).value)) < 1e-12


def test_a_loss_linear_in_the_parameters_has_no_curvature(classes):
    x, y = classes
    model = nn.Linear(5, 3).double()
    for matrix in ("hessian", "ggn"):
        operator = CurvatureOperator(model, lambda f, t: f.mean(), x, y, matrix=matrix)
        assert not operator.dense().any()
    assert float(top_eigenvalues(model, lambda f, t: f.mean(), x, y, k=3).values.abs().max()) == 0


# brute force


@pytest.fixture(params=["mlp", "cnn"])
def small(request, classes, network, generator):
    x, y = classes
    if request.param == "mlp":
        return network, x, y
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Tanh(), nn.Dropout(), nn.Flatten(), nn.Linear(18, 3)
    )
    return model.double(), torch.randn(40, 1, 5, 5, dtype=torch.float64, generator=generator), y


def test_the_hessian_is_autograds(small):
    model, x, y = small
    expected = dense_hessian(copy.deepcopy(model).eval(), F.cross_entropy, x, y)
    for batch_size in (None, 16):
        close(CurvatureOperator(model, F.cross_entropy, x, y, batch_size=batch_size).dense(), expected)


def test_the_gauss_newton_matrix_is_its_definition(small):
    model, x, y = small
    still = copy.deepcopy(model).eval()
    parameters = {n: p.detach() for n, p in still.named_parameters()}
    jacobian = torch.func.jacrev(lambda p: torch.func.functional_call(still, p, (x,)))(parameters)
    j = torch.cat([v.reshape(40, 3, -1) for v in jacobian.values()], 2)
    p = torch.softmax(still(x), 1).detach()
    inner = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    expected = torch.einsum("nkp,nkl,nlq->pq", j, inner, j) / 40
    for batch_size in (None, 16):
        operator = CurvatureOperator(model, F.cross_entropy, x, y, matrix="ggn", batch_size=batch_size)
        close(operator.dense(), expected)


@both
def test_the_batched_products_of_the_gpu_are_the_loops(small, matrix, generator):
    model, x, y = small
    operator = CurvatureOperator(model, F.cross_entropy, x, y, matrix=matrix)
    v = torch.randn(operator.size, 4, dtype=torch.float64, generator=generator)
    close(operator._kept(v.T.contiguous(), batched=True).T, operator @ v)


@both
@pytest.mark.parametrize("which", ["largest", "smallest", "magnitude"])
@pytest.mark.parametrize("k", [1, 6, "all"])
def test_eigenvalues_of_a_network(small, matrix, which, k, generator):
    model, x, y = small
    dense = CurvatureOperator(model, F.cross_entropy, x, y, matrix=matrix).dense()
    values = torch.linalg.eigvalsh(dense)
    order = {"largest": values.argsort(descending=True), "smallest": values.argsort()}.get(
        which, values.abs().argsort(descending=True)
    )
    k = len(values) if k == "all" else k
    e = top_eigenvalues(model, F.cross_entropy, x, y, k=k, which=which, matrix=matrix, tol=1e-6, generator=generator)
    assert e.converged
    close(e.values, values[order[:k]])
    close(e.vectors @ e.vectors.T, torch.eye(k), tol=1e-8)
    truth = (dense @ e.vectors.T - e.vectors.T * e.values).norm(dim=0)
    assert float((truth - e.residuals).abs().max()) < 1e-9, "the residuals reported are the residuals"


@pytest.mark.parametrize("which", ["largest", "smallest", "magnitude"])
def test_every_copy_of_a_multiple_eigenvalue_is_found(which, generator):
    """Three regressions at once: each eigenvalue three times; one Krylov space holds one copy."""
    x = torch.randn(60, 20, dtype=torch.float64, generator=generator) * torch.linspace(0.2, 3, 20, dtype=torch.float64)
    y = torch.zeros(60, 3, dtype=torch.float64)
    layer = nn.Linear(20, 3, bias=False).double()
    values = torch.linalg.eigvalsh(2 * x.T @ x / 180).repeat_interleave(3)
    expected = values[:10] if which == "smallest" else values.flip(0)[:10]
    e = top_eigenvalues(layer, F.mse_loss, x, y, k=10, which=which, generator=generator)
    close(e.values, expected, tol=1e-6)


def test_no_ghosts(generator):
    """Without reorthogonalisation a converged eigenvalue appears again; 60 steps on a spectrum with one outlier."""
    values = torch.cat([torch.linspace(0, 1, 199, dtype=torch.float64), torch.tensor([1e4], dtype=torch.float64)])
    lanczos = Lanczos(lambda v: values * v, torch.randn(200, dtype=torch.float64, generator=generator))
    for _ in range(60):
        lanczos.step()
    ritz, _, _ = lanczos.ritz()
    assert int((ritz > 2).sum()) == 1
    close(lanczos.basis @ lanczos.basis.T, torch.eye(60), tol=1e-12)


def test_lanczos_goes_on_after_an_invariant_subspace(generator):
    values = torch.tensor([1.0, 1.0, 2.0, 3.0, 3.0, 3.0], dtype=torch.float64)
    lanczos = Lanczos(lambda v: values * v, torch.ones(6, dtype=torch.float64), generator=generator)
    while not lanczos.closed:
        lanczos.step()
    close(lanczos.ritz()[0], values, tol=1e-12)


def test_order_is_right_where_successive_iterates_stop_too_early(generator):
    """Close eigenvalues: a peer that stops on successive power iterates returns its 9th and 10th swapped."""
    top = torch.linspace(2.0, 1.9, 10, dtype=torch.float64)
    values = torch.cat([top, torch.linspace(1.0, 0.0, 190, dtype=torch.float64)])
    x = torch.diag(values.sqrt())
    layer = nn.Linear(200, 1, bias=False).double()
    half = lambda f, t: 0.5 * (f - t).square().sum()  # noqa: E731
    e = top_eigenvalues(layer, half, x, x.new_zeros(200, 1), k=10, generator=generator)
    assert bool((e.values.diff() <= 0).all())
    close(e.values, top, tol=1e-4)


def test_an_unconverged_search_says_so(small):
    model, x, y = small
    with pytest.warns(UserWarning, match="not enough"):
        e = top_eigenvalues(model, F.cross_entropy, x, y, k=5, max_products=8)
    assert not e.converged
    assert e.products == 8


# traces and densities


@both
def test_trace_within_its_error_and_unbiased(small, matrix):
    model, x, y = small
    truth = CurvatureOperator(model, F.cross_entropy, x, y, matrix=matrix).dense().trace()
    runs = [
        hessian_trace(
            model, F.cross_entropy, x, y, matrix=matrix, products=30, generator=torch.Generator().manual_seed(s)
        )
        for s in range(60)
    ]
    values = torch.stack([r.value for r in runs])
    spread = values.std()
    assert abs(float(values.mean() - truth)) < 4 * float(spread) / math.sqrt(60)
    # The error bar is the root mean square one to 25 %: a chi-square law with some 59 and 9 * 60 degrees of freedom.
    bar = torch.stack([r.standard_error for r in runs]).square().mean().sqrt()
    assert 0.75 < float(bar / spread) < 1.33
    assert runs[0].products == 30


def test_trace_is_exact_when_the_products_suffice(small):
    model, x, y = small
    operator = CurvatureOperator(model, F.cross_entropy, x, y)
    t = hessian_trace(model, F.cross_entropy, x, y, products=operator.size)
    close(t.value, operator.dense().trace())
    assert float(t.standard_error) == 0


def test_trace_of_low_rank_is_exact(generator):
    """Hutch++ on a matrix of rank 4 with 5 range vectors: nothing is left to estimate."""
    x = torch.randn(4, 50, dtype=torch.float64, generator=generator)
    layer = nn.Linear(50, 1, bias=False).double()
    t = hessian_trace(layer, F.mse_loss, x, x.new_zeros(4, 1), products=15, generator=generator)
    close(t.value, 2 * x.square().sum() / 4)
    assert float(t.standard_error) < 1e-12


@both
def test_spectral_density_has_the_moments_of_the_spectrum(small, matrix, generator):
    model, x, y = small
    values = torch.linalg.eigvalsh(CurvatureOperator(model, F.cross_entropy, x, y, matrix=matrix).dense())
    probes = 200
    s = spectral_density(model, F.cross_entropy, x, y, matrix=matrix, samples=probes, steps=12, generator=generator)
    assert s.nodes.dtype == s.weights.dtype == torch.float64, "real nodes and weights: T is symmetric"
    assert bool((s.weights >= 0).all())
    close(s.weights.sum(1), torch.ones(probes))
    for power in (1, 2, 3):
        per_probe = (s.weights * s.nodes**power).sum(1)
        error = float(per_probe.mean() - (values**power).mean())
        assert abs(error) < 4 * float(per_probe.std()) / math.sqrt(probes)
    grid = torch.linspace(float(values[0]) - 1, float(values[-1]) + 1, 4001, dtype=torch.float64)
    density = s.density(grid, width=0.05)
    close(torch.trapezoid(density, grid), torch.ones(()), tol=1e-6)
    close(torch.trapezoid(density * grid, grid), s.moment(1), tol=1e-6)


def test_full_lanczos_gives_each_probe_the_whole_spectrum(classes, generator):
    """With m = P and simple eigenvalues the nodes of one probe are the eigenvalues, whatever the weights."""
    x, y = classes
    layer = nn.Linear(5, 3, bias=False).double()
    values = torch.linalg.eigvalsh(CurvatureOperator(layer, F.cross_entropy, x, y).dense())
    s = spectral_density(layer, F.cross_entropy, x, y, samples=2, steps=99, generator=generator)
    close(s.nodes[0].sort().values, values, tol=1e-9)


# the rules of the house


def test_the_model_is_not_touched(small):
    model, x, y = small
    model.train()
    first = next(model.parameters())
    first.grad = torch.ones_like(first)
    before = copy.deepcopy(model.state_dict())
    top_eigenvalues(model, F.cross_entropy, x, y, k=2)
    hessian_trace(model, F.cross_entropy, x, y, products=9)
    spectral_density(model, F.cross_entropy, x, y, samples=1, steps=5)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert model.training and all(m.training for m in model.modules())
    assert torch.equal(first.grad, torch.ones_like(first))
    assert all(p.grad is None for p in list(model.parameters())[1:])


def test_only_trainable_parameters_count(classes, network):
    x, y = classes
    network[0].requires_grad_(False)
    features = network[1](network[0](x)).detach()
    expected = CurvatureOperator(network[2], F.cross_entropy, features, y).dense()
    close(CurvatureOperator(network, F.cross_entropy, x, y).dense(), expected)
    assert not network[0].weight.requires_grad


def test_float32_follows_the_input(classes, network):
    x, y = classes
    exact = top_eigenvalues(network, F.cross_entropy, x, y, k=3, tol=1e-8)
    coarse = top_eigenvalues(network.float(), F.cross_entropy, x.float(), y, k=3)
    assert coarse.values.dtype == coarse.vectors.dtype == torch.float32
    torch.testing.assert_close(coarse.values.double(), exact.values, rtol=1e-4, atol=0)


def test_no_warning_in_ordinary_use(classes, network):
    x, y = classes
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        top_eigenvalues(network, F.cross_entropy, x, y, k=3)


def test_bad_input_is_named(classes, network):
    x, y = classes
    cases = [
        (lambda: top_eigenvalues(network, F.cross_entropy, x, y, k=0), "k=0"),
        (lambda: top_eigenvalues(network, F.cross_entropy, x, y, k=67), "66 eigenvalues"),
        (lambda: top_eigenvalues(network, F.cross_entropy, x, y, tol=0), "tol=0"),
        (lambda: top_eigenvalues(network, F.cross_entropy, x, y, which="LM"), "which="),
        (lambda: top_eigenvalues(network, F.cross_entropy, x, y, matrix="fisher"), "matrix="),
        (lambda: top_eigenvalues(network, F.cross_entropy, x[:0], y[:0]), "no example"),
        (lambda: top_eigenvalues(network, F.cross_entropy, x * float("nan"), y), "x holds NaN"),
        (lambda: hessian_trace(network, F.cross_entropy, x, y, products=3), "at least 6"),
        (lambda: spectral_density(network, F.cross_entropy, x, y, samples=0), "samples=0"),
        (lambda: spectral_density(network, F.cross_entropy, x, y, samples=1).density(x[0], width=0), "width=0"),
        (lambda: CurvatureOperator(network, F.cross_entropy, x, y) @ torch.ones(3), "shape"),
        (
            lambda: top_eigenvalues(nn.Linear(5, 3).requires_grad_(False), F.cross_entropy, x.float(), y),
            "require a gradient",
        ),
    ]
    for call, message in cases:
        with pytest.raises(ValueError, match=message):
            call()


def test_every_device_gives_the_same_curvature(device, classes, network):
    x, y = classes
    results = []
    for place in (torch.device("cpu"), device):
        model = copy.deepcopy(network).to(place)
        data = x.to(place), y.to(place)
        g = [torch.Generator().manual_seed(0) for _ in range(3)]
        e = top_eigenvalues(model, F.cross_entropy, *data, k=4, tol=1e-8, generator=g[0])
        t = hessian_trace(model, F.cross_entropy, *data, products=30, matrix="ggn", generator=g[1])
        s = spectral_density(model, F.cross_entropy, *data, samples=2, steps=8, generator=g[2])
        assert e.values.device == t.value.device == s.nodes.device == model[0].weight.device
        results.append([e.values, t.value, t.standard_error, s.moment(2)])
    for a, b in zip(*results, strict=True):
        close(b.cpu(), a, tol=1e-8)
