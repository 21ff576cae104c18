"""Small float64 networks that the tests of Laplace share, and their curvature by brute force."""

import torch
from torch import nn
from torch.func import functional_call, jacrev, vmap
from torch.nn.utils import parameters_to_vector

D = torch.float64


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=gen(seed), dtype=D)


def mlp(*widths: int, seed: int = 0, bias: bool = True) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i, (a, b) in enumerate(zip(widths, widths[1:], strict=False)):
        layers += [nn.Linear(a, b, bias=bias, dtype=D), nn.Tanh()]
        for p in layers[-2].parameters():
            p.data = 0.5 * randn(*p.shape, seed=seed + i + 1)
    return nn.Sequential(*layers[:-1])


def convnet() -> nn.Sequential:
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3, stride=2, padding=1, dtype=D),
        nn.ReLU(inplace=True),
        nn.Conv2d(2, 3, (2, 3), padding="same", padding_mode="circular", dilation=(1, 2), dtype=D),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(3 * 9, 3, dtype=D),
    )
    for i, p in enumerate(model.parameters()):
        p.data = 0.5 * randn(*p.shape, seed=40 + i)
    return model


def named(model: nn.Module, flat: torch.Tensor) -> dict[str, torch.Tensor]:
    parts = flat.split([p.numel() for p in model.parameters()])
    return {k: v.view(p.shape) for (k, p), v in zip(model.named_parameters(), parts, strict=True)}


def jacobian(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """(N, C, P) by brute force, in the order of parameters_to_vector."""

    def f(flat, one):
        return functional_call(model, named(model, flat), (one[None],))[0]

    flat = parameters_to_vector(model.parameters()).detach()
    return vmap(jacrev(f), (None, 0))(flat, x)


def softmax_curvature(logits: torch.Tensor) -> torch.Tensor:
    p = logits.softmax(-1)
    return p.diag_embed() - p[:, :, None] * p[:, None, :]


def dense_ggn(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    j = jacobian(model, x)
    return torch.einsum("ncp,ncd,ndq->pq", j, softmax_curvature(model(x).detach()), j)
