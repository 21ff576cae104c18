r"""What Laplace needs of a network: the inputs of its layers and the gradients at their outputs, never a Jacobian.

A linear layer :math:`z_{n,t} = W a_{n,t} + b` seen at T places (T = 1 for an ordinary layer, pixels for a convolution,
tokens for a sequence) has the Jacobian :math:`\partial f_{n,j} / \partial [W, b] = \sum_t g_{j,n,t}\,[a_{n,t}; 1]^\top`
with :math:`g_{j,n,t} = \partial f_{n,j}/\partial z_{n,t}`. The two factors are small; their product, (N, C, P) in all,
is what this module never builds.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from coursekit.bayes._likelihood import Likelihood, as_columns
from coursekit.bayes._memory import activation_bytes, chunks

Root = Callable[[Tensor], Tensor]  # outputs (N, K) -> vectors (J, N, K) to send backwards


@dataclass(frozen=True)
class Block:
    """One layer with weights: [W, b] as a matrix (rows, columns), the bias as its last column."""

    name: str
    module: nn.Module
    rows: int
    columns: int

    @property
    def size(self) -> int:
        return self.rows * self.columns

    @property
    def mean(self) -> Tensor:
        """(rows, columns) the weights, and the bias as last column."""
        weight = self.module.weight.flatten(1)
        return weight if self.module.bias is None else torch.cat([weight, self.module.bias[:, None]], 1)

    def named(self, matrix: Tensor) -> dict[str, Tensor]:
        """The matrix (rows, columns) as parameters of the model, by name."""
        prefix = f"{self.name}." if self.name else ""
        if self.module.bias is None:
            return {f"{prefix}weight": matrix.reshape(self.module.weight.shape)}
        return {
            f"{prefix}weight": matrix[:, :-1].reshape(self.module.weight.shape),
            f"{prefix}bias": matrix[:, -1],
        }

    def order(self) -> Tensor:
        """(size,) where the entries of the flat parameters (W row by row, then b) stand in the flat matrix."""
        index = torch.arange(self.size).view(self.rows, self.columns)
        if self.module.bias is None:
            return index.flatten()
        return torch.cat([index[:, :-1].flatten(), index[:, -1]])


@dataclass(frozen=True)
class Trace:
    """One layer on N inputs: ``inputs`` (N, T, columns); ``gradients`` (J, N, T, rows), ``None``: the identity."""

    inputs: Tensor
    gradients: Tensor | None


class Network:
    """A frozen copy of a model: its mode, parameters and hooks are ours, the caller's stay as they are."""

    def __init__(self, model: nn.Module, x: Tensor, *, last_layer: bool, likelihood: Likelihood):
        with torch.inference_mode(False):  # a tensor made in inference mode can never enter a graph
            self.model = copy.deepcopy(getattr(model, "_orig_mod", model)).eval().requires_grad_(False)
        self.last_layer = last_layer
        self.likelihood = likelihood
        probe = x[:1]
        self.blocks = _last_block(self.model, probe) if last_layer else _all_blocks(self.model, probe)
        self.parameters = sum(block.size for block in self.blocks)
        outputs, traces = self.trace(probe, _identity)
        self.outputs = outputs.shape[1]
        # Bytes that one input occupies: its traces, their temporaries, and the activations kept for going backwards.
        self._trace_bytes = 3 * sum(
            t.inputs.numel() + t.gradients.numel() for t in traces
        ) * x.element_size() + 2 * activation_bytes(self.model, probe)
        # A layer seen at several places is handled one small Jacobian at a time.
        self._place_bytes = (
            self.outputs
            * x.element_size()
            * max(
                (2 * block.size for block, t in zip(self.blocks, traces, strict=True) if t.inputs.shape[1] > 1),
                default=0,
            )
        )

    def chunks(self, x: Tensor, *, jacobian: bool = False) -> Iterator[slice]:
        """Slices of the rows of x that fit into the working memory; ``jacobian``: room for (J, P) an input."""
        each = self._trace_bytes + self._place_bytes
        if jacobian:
            each += 2 * self.outputs * self.parameters * x.element_size()
        return chunks(x, each)

    def forward(self, x: Tensor, parameters: dict[str, Tensor] | None = None) -> Tensor:
        """(N, K) outputs, with some parameters replaced if asked."""
        with torch.no_grad():
            outputs = torch.func.functional_call(self.model, parameters or {}, (x,))
        return as_columns(outputs, len(x), self.likelihood)

    def trace(self, x: Tensor, root: Root | None) -> tuple[Tensor, list[Trace]]:
        """Outputs (N, K), and for each block its trace for the vectors ``root(outputs)`` sent backwards."""
        recorded: dict[str, tuple[Tensor, Tensor]] = {}
        grad = not self.last_layer

        def record(block: Block):
            def hook(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
                if grad and not output.requires_grad:  # nothing before this layer needs a gradient: start here
                    output = output.detach().requires_grad_()
                recorded[block.name] = args[0].detach(), output
                return output.clone() if grad else output  # a copy, so that ReLU(inplace=True) may follow

            return hook

        handles = [block.module.register_forward_hook(record(block)) for block in self.blocks]
        try:
            with torch.inference_mode(False), torch.set_grad_enabled(grad):
                x = x.clone() if x.is_inference() else x
                outputs = as_columns(self.model(x), len(x), self.likelihood)
        finally:
            for handle in handles:
                handle.remove()
        if self.last_layer:
            block = self.blocks[0]
            vectors = None if root is None else root(outputs)[:, :, None, :]
            return outputs, [Trace(_places(block, recorded[block.name][0]), vectors)]
        layer_outputs = [recorded[block.name][1] for block in self.blocks]
        options = {"is_grads_batched": True, "materialize_grads": True}
        with torch.inference_mode(False):
            vectors = (root or _identity)(outputs.detach())
            gradients = torch.autograd.grad(outputs, layer_outputs, vectors, **options)
        traces = []
        for block, gradient in zip(self.blocks, gradients, strict=True):
            if isinstance(block.module, nn.Conv2d):
                gradient = gradient.flatten(3).transpose(2, 3)  # (J, N, rows, H, W) -> (J, N, T, rows)
            else:
                gradient = gradient.reshape(*gradient.shape[:2], -1, block.rows)
            traces.append(Trace(_places(block, recorded[block.name][0]), gradient))
        return outputs.detach(), traces


def _identity(outputs: Tensor) -> Tensor:
    n, k = outputs.shape
    return torch.eye(k, dtype=outputs.dtype, device=outputs.device)[:, None, :].expand(k, n, k)


def _places(block: Block, inputs: Tensor) -> Tensor:
    """(N, T, columns) the inputs of the layer at each place, with a 1 for the bias."""
    module = block.module
    if isinstance(module, nn.Conv2d):
        inputs = F.unfold(_padded(module, inputs), module.kernel_size, module.dilation, 0, module.stride)
        inputs = inputs.transpose(1, 2)  # (N, T, in * kernel height * kernel width)
    else:
        inputs = inputs.reshape(len(inputs), -1, inputs.shape[-1])
    return inputs if module.bias is None else F.pad(inputs, (0, 1), value=1.0)


def _padded(module: nn.Conv2d, x: Tensor) -> Tensor:
    if module.padding == "same":
        total = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
        pads = [(t // 2, t - t // 2) for t in total]
    else:
        pads = [(0, 0)] * 2 if module.padding == "valid" else [(p, p) for p in module.padding]
    flat = [*pads[1], *pads[0]]  # F.pad starts with the last axis
    if not any(flat):
        return x
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    return F.pad(x, flat, mode=mode)


def _block(name: str, module: nn.Module) -> Block:
    weight = module.weight
    return Block(name, module, weight.shape[0], weight[0].numel() + (module.bias is not None))


def _is_plain(module: nn.Module) -> bool:
    """A Linear or Conv2d that computes with its own weight: not a subclass or a parametrization of one."""
    kinds = (nn.Linear, nn.Conv2d)
    return any(isinstance(module, k) and type(module).forward is k.forward for k in kinds) and (
        "weight" in module._parameters
    )


def _all_blocks(model: nn.Module, probe: Tensor) -> list[Block]:
    blocks, seen = [], set()
    for name, module in model.named_modules():
        own = [p for p in module._parameters.values() if p is not None]
        if not own:
            continue
        label = f"{name or 'the model itself'} ({type(module).__name__})"
        if not _is_plain(module) or getattr(module, "groups", 1) != 1:
            raise ValueError(
                f'weights="all" supports Linear and Conv2d (groups=1) layers, not {label}; take weights="last_layer", '
                "or a model without it"
            )
        if any(id(p) in seen for p in own):
            raise ValueError(f'{label} shares its weights with another layer; take weights="last_layer"')
        seen.update(map(id, own))
        blocks.append(_block(name, module))
    if not blocks:
        raise ValueError("the model has no Linear or Conv2d layer")
    counts = dict.fromkeys((block.name for block in blocks), 0)
    shapes: dict[str, torch.Size] = {}

    def count(block: Block):
        def hook(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            counts[block.name] += 1
            shapes[block.name] = args[0].shape

        return hook

    _run(model, probe, [block.module.register_forward_hook(count(block)) for block in blocks])
    for block in blocks:
        if counts[block.name] != 1:
            raise ValueError(
                f"layer {block.name!r} runs {counts[block.name]} times in one forward pass; each layer must run once"
            )
        if shapes[block.name][0] != 1 or len(shapes[block.name]) < 2:
            raise ValueError(
                f"layer {block.name!r} got {tuple(shapes[block.name])} for one input: keep the batch as first axis"
            )
    return blocks


def _last_block(model: nn.Module, probe: Tensor) -> list[Block]:
    calls: list[tuple[str, nn.Module, Tensor, Tensor]] = []

    def record(name: str):
        def hook(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            calls.append((name, module, args[0], output.clone()))

        return hook

    linear = [(name, m) for name, m in model.named_modules() if isinstance(m, nn.Linear) and _is_plain(m)]
    outputs = _run(model, probe, [m.register_forward_hook(record(name)) for name, m in linear])
    if not calls:
        raise ValueError('weights="last_layer" needs a model that ends in a Linear layer; it has none')
    name, module, inputs, result = calls[-1]
    same = isinstance(outputs, Tensor) and torch.equal(result.flatten(), outputs.flatten())
    if not same or inputs.ndim != 2:
        raise ValueError(
            f"the model must return the output of its last Linear layer ({name!r}) as it is: logits, not "
            "probabilities, one row an input"
        )
    if sum(called is module for _, called, _, _ in calls) != 1:
        raise ValueError(f"layer {name!r} runs several times in one forward pass; the last layer must run once")
    own = {id(p) for p in module._parameters.values() if p is not None}
    if any(id(p) in own for m in model.modules() if m is not module for p in m._parameters.values()):
        raise ValueError(
            f"layer {name!r} shares its weights with another layer: its curvature is not that of one layer"
        )
    return [_block(name, module)]


def _run(model: nn.Module, x: Tensor, handles: list) -> Tensor:
    try:
        with torch.no_grad():
            return model(x)
    finally:
        for handle in handles:
            handle.remove()
