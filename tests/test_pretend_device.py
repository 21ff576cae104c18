"""The pretend device has to refuse what CUDA refuses, allow what it allows, and compute what the CPU computes."""

import copy

import numpy as np
import pretend_device
import pytest
import torch
from torch import nn
from torch.nn import functional as F

pytestmark = pytest.mark.skipif(bool(pretend_device.why_not()), reason=str(pretend_device.why_not()))


@pytest.fixture
def there():
    with pretend_device.present() as device:
        yield device


REFUSED = {
    "sum": lambda c, d: c + d,
    "sum with what was made without device=": lambda c, d: d * torch.ones(3),
    "product of matrices": lambda c, d: d @ c,
    "0 dimensions in a product of matrices": lambda c, d: torch.addmm(c.sum(), d, d),
    "cat": lambda c, d: torch.cat([d, c]),
    "stack": lambda c, d: torch.stack([d[0, 0], torch.tensor(1.0)]),
    "where": lambda c, d: torch.where(d > 0, d, c),
    "the condition of where": lambda c, d: torch.where(c > 0, d, d),
    "in place": lambda c, d: c.add_(d),
    "in place, 0 dimensions of the device": lambda c, d: c.sum().add_(d.sum()),
    "out=": lambda c, d: torch.add(d, d, out=c),
    "out= of indices": lambda c, d: torch.ne(d, d, out=torch.empty(3, 3, dtype=torch.bool)),
    "gather": lambda c, d: d.gather(1, torch.zeros(3, 1, dtype=torch.int64)),
    "index_add": lambda c, d: d.index_add(0, torch.arange(3), d),
    "index_select": lambda c, d: d.index_select(0, torch.arange(2)),
    "a CPU tensor by indices of the device": lambda c, d: c[d.argmax(0)],
    "a CPU tensor by a mask of the device": lambda c, d: c[d > 0],
    "assignment of a tensor": lambda c, d: d.__setitem__(torch.arange(3), c),
    "cross entropy": lambda c, d: F.cross_entropy(d, torch.tensor([0, 1, 2])),
    "linear layer": lambda c, d: nn.Linear(3, 2)(d),
    "convolution": lambda c, d: F.conv2d(d[None, None], torch.ones(1, 1, 2, 2)),
    "convolution, bias": lambda c, d: F.conv2d(d[None, None], torch.ones_like(d)[None, None], torch.ones(1)),
    "triangular solve": lambda c, d: torch.linalg.solve_triangular(d, c, upper=True),
    "cholesky solve": lambda c, d: torch.cholesky_solve(c, d),
    "solve": lambda c, d: torch.linalg.solve(d, c),
    "einsum": lambda c, d: torch.einsum("ij,jk->ik", d, c),
    "bucketize": lambda c, d: torch.bucketize(d, c[0]),
    "bincount": lambda c, d: torch.bincount(torch.zeros_like(d[0], dtype=torch.int64), c[0]),
    "searchsorted": lambda c, d: torch.searchsorted(c[0], d),
    "cdist": lambda c, d: torch.cdist(d, c),
    "grid_sample": lambda c, d: F.grid_sample(d[None, None], torch.zeros(1, 3, 3, 2)),
    "outer": lambda c, d: torch.outer(d[0], c[0]),
    "numpy": lambda c, d: d.numpy(),
    "asarray": lambda c, d: np.asarray(d),
    "a CPU generator": lambda c, d: torch.randn(3, device=d.device, generator=torch.Generator()),
    "a CPU generator in place": lambda c, d: d.normal_(generator=torch.Generator()),
    "a generator of the device": lambda c, d: torch.randn(3, generator=torch.Generator(d.device)),
    "a generator of the device in place": lambda c, d: c.uniform_(generator=torch.Generator(d.device)),
    "a generator of the device, permutation": lambda c, d: torch.randperm(3, generator=torch.Generator(d.device)),
    "histogram, which CUDA lacks": lambda c, d: torch.histogram(d, 3),
    "a driver that CUDA lacks": lambda c, d: torch.linalg.lstsq(d, d, driver="gelsd"),
    "vmap": lambda c, d: torch.func.vmap(lambda v: v * c)(d),
    "jacrev": lambda c, d: torch.func.jacrev(lambda v: c @ v)(d),
    "a gradient of another device": lambda c, d: d.requires_grad_().sum(0).backward(c[0]),
    "functional_call": lambda c, d: torch.func.functional_call(nn.Linear(3, 3), {"weight": d}, d),
}


@pytest.mark.parametrize("what", REFUSED)
def test_mixed_devices_are_refused(what, there):
    cpu = torch.eye(3) + 0.1
    with pytest.raises((RuntimeError, TypeError, NotImplementedError)):
        REFUSED[what](cpu, cpu.to(there))


ALLOWED = {
    "a number": lambda d: 2 * d + 0.5,
    "a CPU tensor of 0 dimensions": lambda d: d * torch.tensor(2.0) + torch.tensor(1),
    "where": lambda d: torch.where(d > 0, d, torch.tensor(0.0)),
    "masked_fill": lambda d: d.masked_fill(d > 1, torch.tensor(9.0)),
    "assignment of a CPU number": lambda d: d.clone().index_put_((torch.tensor([0]),), torch.tensor(7.0)),
    "CPU indices": lambda d: d[torch.tensor([2, 0])],
    "a CPU mask": lambda d: d[torch.tensor([True, False, True])],
    "copy between devices": lambda d: torch.zeros(3, 3).copy_(d),
    "remainder, a number in the place of a tensor": lambda d: d % 2 + 3 % (d + 1),
}


@pytest.mark.parametrize("what", ALLOWED)
def test_what_cuda_allows_is_allowed(what, there):
    cpu = torch.eye(3) + 0.1
    torch.testing.assert_close(ALLOWED[what](cpu.to(there)).cpu(), ALLOWED[what](cpu), rtol=1e-6, atol=0)


def test_views_share_memory_and_resized_results_do(there):
    x = torch.zeros(4, 3, device=there)
    x[1:].T[0].add_(1)
    x.view(-1)[:2] = 5
    assert x.tolist() == [[5, 5, 0], [1, 0, 0], [1, 0, 0], [1, 0, 0]]
    out = torch.empty(0, device=there)
    torch.add(x, x, out=out)
    assert out.shape == (4, 3) and torch.equal(out, 2 * x)
    assert torch.fft.fftfreq(6, 1 / 6, device=there).tolist() == [0, 1, 2, -3, -2, -1]
    assert (torch.view_as_real(torch.fft.fft(x)).cpu() - torch.view_as_real(torch.fft.fft(x.cpu()))).abs().max() == 0


def test_training_a_network_gives_the_weights_of_the_cpu(there):
    def trained(device):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 3)
        )
        model = copy.deepcopy(model.double().to(device))
        x = torch.linspace(-1, 1, 5 * 36, dtype=torch.float64).view(5, 1, 6, 6).to(device)
        y = torch.arange(5).to(device) % 3
        steps = torch.optim.Adam(model.parameters(), lr=0.1)
        for _ in range(3):
            steps.zero_grad()
            F.cross_entropy(model(x), y).backward()
            steps.step()
        return [p.detach() for p in model.parameters()]

    for p, q in zip(trained(there), trained("cpu"), strict=True):
        assert p.device.type == there.type
        torch.testing.assert_close(p.cpu(), q)


def test_transforms_of_functions(there):
    x = torch.linspace(-1, 1, 6, dtype=torch.float64).view(2, 3)
    w = torch.linspace(0, 1, 6, dtype=torch.float64).view(3, 2)

    def f(v, m):
        return torch.tanh(v @ m)

    for transformed in (
        torch.func.vmap(torch.func.jacrev(f), (0, None)),
        torch.func.vmap(torch.func.jacfwd(f), (0, None)),
        lambda v, m: torch.func.jvp(lambda u: f(u, m), (v,), (v,))[1],
        torch.func.hessian(lambda v, m: f(v, m).sum()),
    ):
        result = transformed(x.to(there), w.to(there))
        assert result.device.type == there.type
        torch.testing.assert_close(result.cpu(), transformed(x, w))


def test_generators_are_those_of_the_device(there):
    def draw(seed):
        return torch.randn(5, device=there, generator=torch.Generator(there).manual_seed(seed)).cpu()

    assert torch.equal(draw(1), draw(1)) and not torch.equal(draw(1), draw(2))
    assert not torch.equal(draw(1), torch.randn(5, generator=torch.Generator().manual_seed(1)))
    assert torch.Generator(there).device.type == there.type and isinstance(torch.Generator(), torch.Generator)
    with pretend_device.present(same_stream=True):
        assert torch.equal(draw(1), torch.randn(5, generator=torch.Generator().manual_seed(1)))
    torch.manual_seed(0)
    first = torch.rand(3, device=there), F.dropout(torch.ones(50, device=there))
    state = torch.get_rng_state()
    torch.manual_seed(0)
    assert torch.equal(torch.get_rng_state(), state)  # draws on the device took nothing from the CPU's generator
    assert torch.equal(torch.rand(3, device=there), first[0])
    assert torch.equal(F.dropout(torch.ones(50, device=there)), first[1])


def test_nothing_is_left_behind():
    generator, clone = torch.Generator, torch.UntypedStorage.clone
    with pretend_device.present():
        assert torch.Generator is not generator
    assert torch.Generator is generator and torch.UntypedStorage.clone is clone
