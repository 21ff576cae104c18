"""A second device for machines that have none: torch keeps its tensors apart from the CPU's as it does CUDA's.

The tensors of `torch.device("pretend")` lie in the CPU's memory, and the CPU's kernels compute with them, but torch
itself takes them for tensors of an accelerator: a tensor made without `device=`, a `.numpy()` without `.cpu()` or a
generator of the other device is an error, as it is on CUDA. With it, every test that takes the `device` fixture asks
the question "does this method mix devices?" on any machine.

How it works. `PrivateUse1` is the place torch keeps for devices of others; `_setup_privateuseone_for_python_backend`
lets Python fill it. A tensor gets there through DLPack: the capsule of a CPU tensor, with the device type in its
header changed, comes back as a tensor of that device on the same memory. One fallback then serves every operation:
it checks the devices of the arguments, hands the CPU tensors on the same memory to the CPU kernel, and wraps what
comes out. It lies below autograd and torch.func, so backward, vmap, jvp, vjp and jacrev are torch's own.

As on CUDA: operations on two devices are errors, except that a CPU tensor of 0 dimensions may join an elementwise
operation and that CPU indices may index a device tensor; a device tensor never indexes a CPU one; in-place and
`out=` results stay on their device; the generator must be the device's and gives other numbers than the CPU's with
the same seed (`present(same_stream=True)` makes them equal, to compare results); operations for which torch has no
CUDA kernel (histogram) and the least-squares drivers that CUDA lacks are refused; dropout takes CUDA's fused path.

What it cannot show: memory limits and pinned memory; speed; streams and the lack of synchronisation; TF32, the order of
sums, or any rounding of CUDA's own; kernels that exist on CUDA but lack a dtype there; an index out of range, which is
an exception here but an assertion of the device there; code that asks for `device.type == "cuda"` or calls
`torch.cuda`; `torch.compile`, AMP, sparse and quantised tensors; saving and loading storages. `Module.to` makes new
Parameters where CUDA's keeps the objects. Once it is set up in a process, a *fork* of that process can no longer run
backward (torch starts a thread for the device), as with CUDA.

It rests on private functions of torch (pinned in requirements.txt); `why_not()` says why it is left out elsewhere.
"""

import contextlib
import ctypes
import functools
import weakref

import torch
from torch.overrides import TorchFunctionMode

NAME = "pretend"
_VERSION = (2, 13)  # the private functions below are those of this torch
_DLPACK_EXTENSION = 12  # DLDeviceType.kDLExtDev, which torch reads as PrivateUse1
_STREAM = 0x5EED  # the pretend device draws other numbers than the CPU from one seed, as CUDA does

aten = torch.ops.aten
_CPU_KERNEL = torch._C.DispatchKeySet(torch._C.DispatchKey.CPU)
_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.restype, _pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]

# Operations that torch computes on the CPU but not on CUDA (from its native_functions.yaml).
_NOT_ON_CUDA = {"aten::histogram", "aten::_histogramdd_bin_edges", "aten::_histogramdd_from_bin_cts"}
_NOT_ON_CUDA |= {"aten::_histogramdd_from_bin_tensors", "aten::_spdiags", "aten::_upsample_lanczos2d_aa"}
# Beside the operations tagged elementwise: the arguments that CUDA takes from the CPU if they have 0 dimensions.
_SCALARS = {("aten::masked_fill_", "value"), ("aten::masked_fill", "value"), ("aten::fill_", "value")}
_SCALARS |= {("aten::index_put_", "values"), ("aten::_index_put_impl_", "values"), ("aten::where", "self")}
_SCALARS |= {("aten::where", "other"), ("aten::where", "condition"), ("aten::index_fill_", "value")}

_libraries = []  # torch drops a registration with the Library that made it
_generators = weakref.WeakValueDictionary()  # torch wraps a generator anew for a kernel: found again by its address


def why_not() -> str | None:
    """Why the pretend device is left out here, or None where it runs."""
    version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    return None if version == _VERSION else f"the pretend device needs torch {_VERSION[0]}.{_VERSION[1]}"


@contextlib.contextmanager
def present(*, same_stream: bool = False):
    """Within it `torch.device("pretend")`, its generators and copies of its models work."""
    set_up()
    seed, PretendGenerator.stream = PretendGenerator.stream, 0 if same_stream else _STREAM
    generator, clone = torch.Generator, torch.UntypedStorage.clone
    torch.Generator, torch.UntypedStorage.clone = _Generator, _clone
    try:
        with _CpuDrawsFromCpuGenerators():
            yield torch.device(NAME)
    finally:
        torch.Generator, torch.UntypedStorage.clone = generator, clone
        PretendGenerator.stream = seed


# --- generators -----------------------------------------------------------------------------------------------------


class PretendGenerator(torch._C.Generator):
    """A generator of the pretend device: the CPU's algorithm, another stream of numbers."""

    stream = _STREAM

    def __init__(self):
        _generators[self._cdata] = self
        self.manual_seed(67280421310721)  # torch's own first seed

    @property
    def device(self) -> torch.device:
        return torch.device(NAME, 0)

    def manual_seed(self, seed: int) -> "PretendGenerator":
        super().manual_seed(seed ^ self.stream)
        return self


class _AnyGenerator(type):
    def __instancecheck__(cls, thing) -> bool:
        return isinstance(thing, torch._C.Generator)


class _Generator(metaclass=_AnyGenerator):
    """Stands for torch.Generator, which cannot make a generator of a Python backend."""

    def __new__(cls, device="cpu"):
        return PretendGenerator() if torch.device(device).type == NAME else torch._C.Generator(device)


class _CpuDrawsFromCpuGenerators(TorchFunctionMode):
    """Refuses draws on the CPU from a generator of the pretend device, which torch would take for one of the CPU."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        if isinstance(kwargs.get("generator"), PretendGenerator) and result.device.type == "cpu":
            raise RuntimeError(f"Expected a 'cpu' device type for generator but found '{NAME}'")
        return result


@functools.cache
def _default_generator() -> PretendGenerator:
    return PretendGenerator()


# --- memory ---------------------------------------------------------------------------------------------------------


def _up(tensor: torch.Tensor) -> torch.Tensor:
    """A CPU tensor as one of the device, on the same memory."""
    capsule = torch._C._to_dlpack(tensor.resolve_conj().resolve_neg())
    ctypes.c_int32.from_address(_pointer(capsule, b"dltensor") + 8).value = _DLPACK_EXTENSION
    return torch._C._from_dlpack(capsule)


def _down(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor of the device as one of the CPU, on the same memory: valid while `tensor` lives."""
    storage = tensor.untyped_storage()
    if storage.nbytes() == 0:
        return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cpu")
    memory = (ctypes.c_char * storage.nbytes()).from_address(storage.data_ptr())
    flat = torch.frombuffer(memory, dtype=torch.uint8).untyped_storage()
    bare = torch.empty(0, dtype=tensor.dtype, device="cpu")
    bare = bare.set_(flat, tensor.storage_offset(), tensor.shape, tensor.stride())
    return torch._neg_view(bare) if tensor.is_neg() else bare.conj() if tensor.is_conj() else bare


def _clone(storage: torch.UntypedStorage) -> torch.UntypedStorage:
    """UntypedStorage.clone, by which copy.deepcopy copies a tensor."""
    if storage.device.type != NAME:
        return type(storage)(storage.nbytes(), device=storage.device).copy_(storage)
    if storage.nbytes() == 0:
        return _up(torch.empty(0, device="cpu")).untyped_storage()
    memory = (ctypes.c_char * storage.nbytes()).from_address(storage.data_ptr())
    return _up(torch.frombuffer(memory, dtype=torch.uint8).clone()).untyped_storage()


def _is_ours(thing) -> bool:
    return thing.device.type == NAME


# --- operations -----------------------------------------------------------------------------------------------------


@functools.cache
def _facts(op):
    arguments = op._schema.arguments
    tensors = {a.name for a in arguments if str(a.type) == "Tensor"}
    results = {a.name for a in arguments if a.kwarg_only and a.alias_info is not None and a.alias_info.is_write}
    written = {a.name for a in arguments if a.alias_info is not None and a.alias_info.is_write}
    views = any(r.alias_info is not None and not r.alias_info.is_write for r in op._schema.returns)
    return [a.name for a in arguments], tensors, results, written, views, torch.Tag.pointwise in op.tags


def _check_cpu_argument(op, name: str, tensor: torch.Tensor, indexed) -> None:
    """Raise as CUDA does, unless it would take this CPU tensor beside tensors of the device."""
    _, _, _, written, _, pointwise = _facts(op)
    base = op._schema.name
    if name == "indices" and base in {"aten::index", "aten::index_put_", "aten::_index_put_impl_"} and indexed:
        return
    if tensor.ndim == 0 and name not in written and (pointwise or (base, name) in _SCALARS):
        return
    raise RuntimeError(
        f"Expected all tensors to be on the same device, but found at least two devices, {NAME}:0 and cpu! "
        f"({base}: argument {name}, shape {tuple(tensor.shape)})"
    )


def _call(op, *args, **kwargs):
    """Any operation: the CPU's kernel on the same memory, after the checks of devices."""
    names, tensors, results, _, views, _ = _facts(op)
    base = op._schema.name
    if views or base in _NOT_ON_CUDA:
        raise NotImplementedError(f"Could not run '{op}' with arguments from the '{NAME}' backend")
    named = [*zip(names, args, strict=False), *kwargs.items()]
    ours, memory = {}, set()  # CPU stand-ins with their originals; the memory that belongs to these
    indexed = isinstance(args[0], torch.Tensor) and _is_ours(args[0]) if args else False

    def lower(name, value):
        if isinstance(value, torch.Tensor):
            if not _is_ours(value):
                _check_cpu_argument(op, name, value, indexed)
                return value
            # A kernel may resize an empty result, and one of 0 dimensions on its way there; a stand-in's memory cannot.
            fresh = name in results and (value.ndim == 0 or value.numel() == 0)
            stand_in = torch.empty(0, dtype=value.dtype, device="cpu") if fresh else _down(value)
            ours[id(stand_in)] = (value, stand_in)
            memory.add(value.untyped_storage().data_ptr())
            return stand_in
        if isinstance(value, (list, tuple)):
            return [lower(name, element) for element in value]
        if name in tensors and isinstance(
            value, (bool, int, float, complex)
        ):  # torch hands `2` of `x % 2` on like this
            other = next(a for _, a in named if isinstance(a, torch.Tensor))
            return torch.scalar_tensor(value, dtype=torch.result_type(other, value), device="cpu")
        if isinstance(value, torch.device):
            return torch.device("cpu")
        if isinstance(value, torch._C.Generator) and value._cdata not in _generators:
            raise RuntimeError(f"Expected a '{NAME}' device type for generator but found '{value.device.type}'")
        return value

    def lift(value):
        if isinstance(value, torch.Tensor):
            if id(value) not in ours:
                return _up(value.clone() if value.untyped_storage().data_ptr() in memory else value)
            original, stand_in = ours[id(value)]
            if original.shape != stand_in.shape:
                _resize_(original, stand_in.shape)
            if stand_in.data_ptr() != original.data_ptr():
                _down(original).copy_(stand_in)
            return original
        if isinstance(value, (list, tuple)):
            return type(value)(lift(element) for element in value)
        return value

    with torch._C.DisableTorchFunction():
        lowered = {name: lower(name, value) for name, value in named}
        if "generator" in names and lowered.get("generator") is None:
            lowered["generator"] = _default_generator()
        if base == "aten::linalg_lstsq":
            if lowered.get("driver") not in (None, "gels"):
                raise RuntimeError("torch.linalg.lstsq: parameter `driver` should be (gels) on an accelerator")
            lowered["driver"] = "gels"
        return lift(op(**lowered))


def _empty(size, *, dtype=None, layout=None, device=None, pin_memory=None, memory_format=None):
    with torch._C.DisableTorchFunction():
        form = memory_format or torch.contiguous_format
        return _up(torch.empty(size, dtype=dtype, device="cpu", memory_format=form))


def _zeros(size, *, dtype=None, layout=None, device=None, pin_memory=None):
    with torch._C.DisableTorchFunction():
        return _up(torch.zeros(size, dtype=dtype, device="cpu"))


def _empty_strided(size, stride, *, dtype=None, layout=None, device=None, pin_memory=None):
    with torch._C.DisableTorchFunction():
        return _up(torch.empty_strided(size, stride, dtype=dtype, device="cpu"))


def _copy_(target, source, non_blocking=False):
    """The one operation that crosses between the devices."""
    with torch._C.DisableTorchFunction():
        here, there = (_down(t) if _is_ours(t) else t for t in (target, source))
        here.copy_(there)
    return target


def _resize_(tensor, size, *, memory_format=None):
    """As torch does it: within the storage if that has room, else in a new one that begins with the old numbers."""
    with torch._C.DisableTorchFunction():
        flat = _down(tensor).reshape(-1)
        shaped = torch.empty(size, dtype=tensor.dtype, device="cpu")
        storage, offset = tensor.untyped_storage(), tensor.storage_offset()
        if (offset + shaped.numel()) * tensor.element_size() > storage.nbytes():
            kept = min(shaped.numel(), flat.numel())
            shaped.view(-1)[:kept] = flat[:kept]
            storage, offset = _up(shaped).untyped_storage(), 0
        return tensor.set_(storage, offset, shaped.shape, shaped.stride())


def _native_dropout(x, p, train):
    """CUDA's dropout draws from the device's generator; the CPU's kernel would draw from the CPU's."""
    if not train:
        return x.clone(), torch.ones_like(x, dtype=torch.bool)
    mask = torch.rand(x.shape, dtype=x.dtype, device=x.device) >= p
    return x * mask / (1 - p), mask


def _convolution_backward(grad, x, weight, stride, padding, dilation, transposed, output_padding, groups, mask):
    bias_sizes = [weight.shape[1] * groups if transposed else weight.shape[0]]
    rest = (stride, padding, dilation, transposed, output_padding, groups, mask)
    return _call(aten.convolution_backward.default, grad, x, weight, bias_sizes, *rest)


class _Module:
    """What torch asks `torch.pretend` for."""

    is_initialized = is_available = staticmethod(lambda: True)
    current_device = staticmethod(lambda: 0)
    device_count = staticmethod(lambda: 1)
    _is_in_bad_fork = staticmethod(lambda: False)
    manual_seed_all = staticmethod(lambda seed: _default_generator().manual_seed(seed))
    get_rng_state = staticmethod(lambda device=None: _default_generator().get_state())
    set_rng_state = staticmethod(lambda state, device=None: _default_generator().set_state(state))


def set_up() -> None:
    """Tell torch of the device, once a process and before its first backward: only then does it start the thread."""
    if _libraries:
        return
    torch.utils.backend_registration._setup_privateuseone_for_python_backend(NAME, backend_module=_Module())
    everything, operations = torch.library.Library("_", "IMPL"), torch.library.Library("aten", "IMPL")
    _libraries.extend((everything, operations))
    everything.fallback(_call, "PrivateUse1")
    for name, kernel in {
        "empty.memory_format": _empty,
        "empty_strided": _empty_strided,
        "_efficientzerotensor": _zeros,  # a tangent of zeros, which torch keeps without memory
        "copy_": _copy_,
        "resize_": _resize_,
        "native_dropout": _native_dropout,
        "convolution_overrideable": functools.partial(_call, aten.convolution.default),
        "convolution_backward_overrideable": _convolution_backward,
    }.items():
        operations.impl(name, kernel, "PrivateUse1")
    # These touch only sizes, strides and storages: the CPU's kernels do it for any device.
    for op in (
        aten.as_strided.default,
        aten.view.default,
        aten._reshape_alias.default,
        aten.unfold.default,
        aten.view_as_real.default,
        aten.view_as_complex.default,
        aten.set_.source_Storage_storage_offset,
    ):
        name = op._schema.name.removeprefix("aten::") + ("." + op._overloadname) * (op._overloadname != "default")
        operations.impl(name, functools.partial(op.redispatch, _CPU_KERNEL), "PrivateUse1")
