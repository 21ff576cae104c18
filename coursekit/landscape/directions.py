"""Directions in parameter space: random ones scaled to the network, and the principal ones of a training run."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

Direction = dict[str, Tensor]
Checkpoint = nn.Module | Mapping[str, Tensor]

_NORMS = (
    nn.modules.batchnorm._NormBase,  # batch and instance normalisation
    nn.LayerNorm,
    nn.GroupNorm,
    *([nn.RMSNorm] if hasattr(nn, "RMSNorm") else []),
)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class Directions(Sequence):
    """Some directions of parameter space, each a dict from parameter name to a tensor of the parameter's shape.

    Args:
        vectors: the directions.
        explained_variance: (k,) share of the trajectory's squared length along each; ``None`` for random ones.
    """

    vectors: tuple[Direction, ...]
    explained_variance: Tensor | None = None

    def __len__(self) -> int:
        return len(self.vectors)

    def __getitem__(self, index):
        return self.vectors[index]

    def __iter__(self) -> Iterator[Direction]:
        return iter(self.vectors)


@dataclass(frozen=True)
class Trajectory:
    """A training run seen from a plane: where it passes, and how far off the plane.

    Args:
        coordinates: (n, k) coordinates of the n checkpoints along k directions, the origin at 0.
        distance: (n,) Euclidean distance of each checkpoint from the plane, in the unit of the parameters. The loss
            drawn below a checkpoint is its own loss only where this is 0.
    """

    coordinates: Tensor
    distance: Tensor

    def extent(self, margin: float = 0.15) -> tuple[tuple[float, float], ...]:
        """((low, high), ...) of a box that holds the trajectory and the origin: the ``extent`` of a plane."""
        points = torch.cat([self.coordinates, torch.zeros_like(self.coordinates[:1])])
        low, high = points.amin(0), points.amax(0)
        room = margin * (high - low).clamp_min(1e-12)
        return tuple(zip((low - room).tolist(), (high + room).tolist(), strict=True))


def random_directions(
    model: nn.Module,
    *,
    normalize: Literal["filter", "layer", "none"] = "filter",
    count: int = 2,
    generator: torch.Generator | None = None,
) -> Directions:
    r"""Gaussian directions, rescaled so that networks of different scale can be compared.

    With ``"filter"`` each filter :math:`d_{i,j}` of layer i (the weights that make one output channel, a row of a
    linear layer) gets the norm of the filter it moves,

    .. math:: d_{i,j} \leftarrow \frac{d_{i,j}}{\|d_{i,j}\|}\,\|\theta_{i,j}\|,

    with ``"layer"`` each weight tensor gets the norm of its parameter. In both, biases and the parameters of
    normalisation layers stay where they are (the default of Li et al.'s own code). ``"none"`` leaves a standard
    normal draw on every parameter.

    Args:
        model: the network; only its parameters are read.
        count: number of directions.
        generator: source of randomness; the draw is made on its device, else on the model's.

    Raises:
        ValueError: unknown ``normalize``, ``count`` < 1, or a model whose direction would be zero.

    Source: Li, Xu, Taylor, Studer and Goldstein, "Visualizing the loss landscape of neural nets" (NeurIPS 2018).

    >>> layer = nn.Linear(3, 2)
    >>> d1, d2 = random_directions(layer, generator=torch.Generator().manual_seed(0))
    >>> torch.allclose(d1["weight"].norm(dim=1), layer.weight.norm(dim=1)), float(d1["bias"].abs().sum())
    (True, 0.0)
    """
    if normalize not in ("filter", "layer", "none"):
        raise ValueError(f"normalize={normalize!r}: choose 'filter', 'layer' or 'none'")
    if count < 1:
        raise ValueError(f"count={count}: at least one direction is needed")
    roles = _roles(model)
    if not roles:
        raise ValueError("the model has no parameters")
    vectors = []
    for _ in range(count):
        direction = {}
        for name, (parameter, module) in roles.items():
            device = parameter.device if generator is None else generator.device
            d = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype, device=device)
            direction[name] = _rescale(d.to(parameter.device), parameter.detach(), module, normalize)
        if not any(bool(d.any()) for d in direction.values()):
            raise ValueError(
                f"normalize={normalize!r} gives a zero direction: every weight matrix is zero or there is none "
                "(biases and normalisation layers do not move); use normalize='none'"
            )
        vectors.append(direction)
    return Directions(tuple(vectors))


def pca_directions(
    checkpoints: Sequence[Checkpoint], *, origin: Checkpoint | None = None, count: int = 2
) -> Directions:
    r"""The principal directions of a training run: where it moved most.

    The rows of the matrix are :math:`\theta_t - \theta_{\text{origin}}`; its first right singular vectors are the
    directions, orthonormal in the Euclidean norm of all parameters; ``explained_variance`` is
    :math:`\sigma_i^2 / \sum_j \sigma_j^2`. The origin is not the mean but the end of the run, so that the plane
    passes through the trained network. Signs: the first checkpoint has non-negative coordinates.

    Args:
        checkpoints: n modules, or dicts from parameter name to tensor (a ``state_dict`` that was *cloned*; running
            statistics of normalisation layers in it are left out).
        origin: the point the plane passes through; ``None``: the last checkpoint.
        count: number of directions k <= number of checkpoints that differ from the origin.

    Raises:
        ValueError: checkpoints that do not fit each other, that are all the same, or span fewer than k directions.

    Cost: a singular value decomposition of (n, P), O(n^2 P).

    Source: Li et al. (NeurIPS 2018), section on optimisation trajectories.

    Example: a run along a straight line lies in one direction.

    >>> start, end = torch.zeros(2, dtype=torch.float64), torch.tensor([3.0, 4.0], dtype=torch.float64)
    >>> run = [{"w": start + t * (end - start)} for t in (0.0, 0.4, 1.0)]
    >>> d = pca_directions(run, count=1)
    >>> (-d[0]["w"]).tolist(), float(d.explained_variance[0])
    ([0.6, 0.8], 1.0)
    """
    if len(checkpoints) < 2:
        raise ValueError(f"{len(checkpoints)} checkpoint(s) make no trajectory: give at least two")
    centre = parameters_of(checkpoints[-1] if origin is None else origin)
    rows = torch.stack([flatten_like(centre, parameters_of(c)) for c in checkpoints])
    rows = rows - flatten_like(centre, centre)
    if rows.dtype in (torch.float16, torch.bfloat16):  # no decomposition in half precision
        rows = rows.float()
    if not bool(rows.any()):
        raise ValueError(
            "all checkpoints are the same. A state_dict shares memory with its model: keep a copy at each step, "
            "{name: p.detach().clone() for name, p in model.named_parameters()} or copy.deepcopy(model)"
        )
    u, s, vt = torch.linalg.svd(rows, full_matrices=False)
    rank = int((s > s[0] * torch.finfo(s.dtype).eps * max(rows.shape)).sum())
    if not 1 <= count <= rank:
        raise ValueError(f"count={count}, but the trajectory spans {rank} direction(s)")
    signs = torch.where(u[0, :count] < 0, -1.0, 1.0).to(vt)
    basis = vt[:count] * signs[:, None]
    variance = s.square() / s.square().sum()
    return Directions(tuple(_unflatten(centre, v) for v in basis), variance[:count])


def project(checkpoints: Sequence[Checkpoint], origin: Checkpoint, directions: Sequence[Direction]) -> Trajectory:
    r"""Project a training run onto the plane through ``origin`` along ``directions``.

    The coordinates solve the least-squares problem :math:`\min_c \|\theta - \theta_0 - \sum_i c_i d_i\|`, which is
    right also where the directions are not orthogonal (random ones never are quite).

    Args:
        checkpoints: n modules or dicts of parameters.
        origin: the centre of the plane.
        directions: k directions.

    Returns: coordinates (n, k) and distances (n,).

    Raises:
        ValueError: no checkpoint, shapes that do not fit, or directions that are linearly dependent.

    >>> origin = {"w": torch.zeros(3)}
    >>> t = project([{"w": torch.tensor([1.0, 2.0, 5.0])}], origin,
    ...             [{"w": torch.tensor([1.0, 0.0, 0.0])}, {"w": torch.tensor([1.0, 1.0, 0.0])}])
    >>> [round(v, 4) for v in t.coordinates[0].tolist()], round(float(t.distance), 4)
    ([-1.0, 2.0], 5.0)
    """
    if len(checkpoints) == 0:
        raise ValueError("no checkpoint to project")
    centre = parameters_of(origin)
    zero = {name: torch.zeros_like(p) for name, p in centre.items()}
    axes = torch.stack([flatten_like(centre, zero | d) for d in directions], dim=1)  # (P, k)
    rows = torch.stack([flatten_like(centre, parameters_of(c)) for c in checkpoints], dim=1)  # (P, n)
    rows = rows - flatten_like(centre, centre)[:, None]
    q, r = torch.linalg.qr(axes)
    diagonal = r.diagonal().abs()
    if bool((diagonal <= axes.norm(dim=0) * torch.finfo(axes.dtype).eps * 100).any()):
        raise ValueError("the directions are zero or linearly dependent: they span no plane")
    inside = q.T @ rows
    coordinates = torch.linalg.solve_triangular(r, inside, upper=True).T
    return Trajectory(coordinates, (rows - q @ inside).norm(dim=0))


def parameters_of(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """The parameters of a checkpoint by name, detached; of a ``state_dict`` the normalisation statistics left out."""
    if isinstance(checkpoint, nn.Module):
        return {name: p.detach() for name, p in checkpoint.named_parameters()}
    if not isinstance(checkpoint, Mapping):
        raise TypeError(f"a checkpoint is a module or a dict of tensors, got {type(checkpoint).__name__}")
    return {
        name: p.detach()
        for name, p in checkpoint.items()
        if p.is_floating_point() and name.rpartition(".")[2] not in _STATISTICS
    }


def flatten_like(template: Mapping[str, Tensor], parameters: Mapping[str, Tensor]) -> Tensor:
    """(P,) the parameters in the order of the template."""
    if parameters.keys() != template.keys():
        odd = sorted(parameters.keys() ^ template.keys())
        raise ValueError(f"checkpoints and directions must have the same parameters; they differ in {', '.join(odd)}")
    for name, p in template.items():
        if parameters[name].shape != p.shape:
            raise ValueError(
                f"{name!r} has shape {tuple(parameters[name].shape)} in one checkpoint and {tuple(p.shape)} in another"
            )
    flat = torch.cat([parameters[name].to(p).reshape(-1) for name, p in template.items()])
    if not bool(torch.isfinite(flat).all()):
        raise ValueError("a checkpoint or direction holds NaN or infinity")
    return flat


def _unflatten(template: Mapping[str, Tensor], vector: Tensor) -> Direction:
    pieces = vector.split([p.numel() for p in template.values()])
    return {name: v.view(p.shape) for (name, p), v in zip(template.items(), pieces, strict=True)}


def _roles(model: nn.Module) -> dict[str, tuple[Tensor, nn.Module]]:
    """Each parameter by name, with the module that owns it; a shared one belongs to its first owner."""
    names = {id(p): name for name, p in model.named_parameters()}
    roles = {}
    for module in model.modules():
        for p in module.parameters(recurse=False):
            if id(p) in names:
                roles.setdefault(names[id(p)], (p, module))
    return {name: roles[name] for name in names.values()}  # in the order of the parameters


def _rescale(d: Tensor, parameter: Tensor, module: nn.Module, normalize: str) -> Tensor:
    if normalize == "none":
        return d
    if parameter.ndim <= 1 or isinstance(module, _NORMS):
        return torch.zeros_like(d)
    if normalize == "layer":
        return d * (parameter.norm() / d.norm())
    shape, filters = parameter.shape, (parameter.shape[0], -1)
    if isinstance(module, _TRANSPOSED):  # (in, out/groups, ...): one output channel is a slice of one group
        filters = (module.groups, shape[0] // module.groups, shape[1], -1)
        d, parameter = d.reshape(filters), parameter.reshape(filters)
        ratio = parameter.norm(dim=(1, 3), keepdim=True) / d.norm(dim=(1, 3), keepdim=True)
    else:
        d, parameter = d.reshape(filters), parameter.reshape(filters)
        ratio = parameter.norm(dim=1, keepdim=True) / d.norm(dim=1, keepdim=True)
    return (d * ratio).reshape(shape)
