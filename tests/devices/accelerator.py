"""An accelerator to test with: its tensors are on the processor, say that they are elsewhere, and keep its rules.

Numbers are computed, so that they can be compared. What CUDA or Metal refuses is refused: operations on tensors of
different devices, `.numpy()`, generators of the processor, indices that are on the device into what is not, float64.
Counted are the waits: whatever makes the processor wait for the device, as reading a value does, and operations whose
result has a shape that depends on values. It says nothing of real kernels: neither speed, memory, nor rounding.

    with accelerator() as waits:
        value = torch.ones(3, device=DEVICE).sum().item()
    assert waits.total() == 1
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils import backend_registration
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = "simulated"  # how torch's place for the devices of others is called here
FIRST = f"{DEVICE}:0"
AVAILABLE = hasattr(backend_registration, "_setup_privateuseone_for_python_backend")  # of torch, private, from 2.10 on

aten = torch.ops.aten
INDEXING = {
    aten.index.Tensor, aten._unsafe_index.Tensor, aten.index_put.default, aten.index_put_.default,
    aten._index_put_impl_.default, aten._unsafe_index_put.default,
}  # fmt: skip
WAITING = {
    "nonzero", "_unique2", "unique_dim", "unique_consecutive", "bincount", "masked_select", "_local_scalar_dense",
    "_linalg_check_errors", "equal",
}  # fmt: skip
WAITS: Counter[str] = Counter()  # by line of the package


class Simulated(torch.Tensor):
    """A tensor on the device: the numbers are those of `raw`."""

    raw: torch.Tensor

    @staticmethod
    def __new__(cls, raw: torch.Tensor) -> "Simulated":
        made = torch.Tensor._make_wrapper_subclass(
            cls, raw.shape, strides=raw.stride(), storage_offset=raw.storage_offset(), dtype=raw.dtype, device=FIRST
        )
        made.raw = raw
        return made

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(function, args, kwargs or {})

    def tolist(self) -> Any:
        _wait()
        return self.raw.tolist()

    def untyped_storage(self) -> Any:
        return self.raw.untyped_storage()

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Simulated({self.raw})"


class _Mode(TorchDispatchMode):
    """Lets tensors be made on the device, as by `torch.ones(3, device=DEVICE)`."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(function, args, kwargs or {})


@contextmanager
def accelerator() -> Iterator[Counter[str]]:
    """The device is there in this block; gives the counter of waits, by line of the package, from zero."""
    WAITS.clear()
    with _Mode():
        yield WAITS


def _register(library: torch.library.Library) -> None:
    """Give torch the device."""
    backend_registration._setup_privateuseone_for_python_backend(DEVICE)
    library.impl("empty_strided", _empty_strided, "PrivateUse1")
    library.impl("empty.memory_format", _empty, "PrivateUse1")
    module: Any = type(getattr(torch, DEVICE))
    module.get_rng_state = lambda self, device=None: torch.zeros(8, dtype=torch.uint8)
    for name in ("set_rng_state", "manual_seed", "manual_seed_all"):
        setattr(module, name, lambda self, *given, **named: None)
    module._is_in_bad_fork = lambda self: False


def _empty_strided(size: Any, stride: Any, *, dtype: Any = None, **_: Any) -> torch.Tensor:
    return Simulated(torch.empty_strided(size, stride, dtype=dtype))


def _empty(size: Any, *, dtype: Any = None, **_: Any) -> torch.Tensor:
    return Simulated(torch.empty(size, dtype=dtype))


def _wait() -> None:
    """Count a wait, at the line of the package that waits."""
    frame = sys._getframe(1)
    while frame.f_back is not None and "/pcdistill/" not in frame.f_code.co_filename:
        frame = frame.f_back
    WAITS[f"{frame.f_code.co_filename.rpartition('/pcdistill/')[2]}:{frame.f_lineno}"] += 1


def _is_device(device: Any) -> bool:
    return device is not None and torch.device(device).type == DEVICE


def _raw(tree: Any) -> Any:
    return tree_map(lambda value: value.raw if isinstance(value, Simulated) else value, tree)


def _computed(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """What an operation gives, by the rules of the device if it has to do with it."""
    tensors = [value for value in tree_leaves((args, kwargs)) if isinstance(value, torch.Tensor)]
    there = [value for value in tensors if isinstance(value, Simulated)]
    asked, name = kwargs.get("device"), function._schema.name.split("::")[1]
    if not there and not _is_device(asked):
        return function(*args, **kwargs)
    if name == "_to_copy":
        return _copied(function, args, kwargs)
    if name == "copy_":
        if there and len(there) == 1 and args[1] is there[0]:
            _wait()
        function(*_raw(args), **_raw(kwargs))
        return args[0]
    if function is aten.set_.source_Tensor:
        args[0].raw = args[1].raw
        return args[0]
    if _is_device(asked):
        if (generator := kwargs.get("generator")) is not None and generator.device.type == "cpu":
            raise RuntimeError(f"a generator of the processor for a tensor on {DEVICE} [{function}]")
        kwargs = {**kwargs, "device": torch.device("cpu")}
    _check_places(function, args, tensors)
    if name in WAITING or (name == "repeat_interleave" and isinstance(args[0], Simulated)):
        _wait()
    return _wrapped(function, args, kwargs, there)


def _copied(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """A copy, to the device, from it, or on it."""
    source, asked = args[0], kwargs.get("device")
    there = isinstance(source, Simulated)
    lands = there if asked is None else _is_device(asked)
    if lands:
        kwargs = {**kwargs, "device": torch.device("cpu")}
        if kwargs.get("dtype") == torch.float64 or (source.dtype == torch.float64 and kwargs.get("dtype") is None):
            raise TypeError(f"float64 on {DEVICE} [{function}]")
    elif there and torch.device(asked).type != "meta":
        _wait()
    made = function(*_raw(args), **kwargs)
    if made is _raw(source):
        made = made.clone()
    return Simulated(made) if lands else made


def _check_places(function: Any, args: Any, tensors: list[torch.Tensor]) -> None:
    """Refuse tensors of different devices, but for numbers `()` and indices of what is on the device."""
    if function in INDEXING:
        whole, places = args[0], [value for value in args[1] if value is not None]
        if not isinstance(whole, Simulated) and any(isinstance(place, Simulated) for place in places):
            raise RuntimeError(f"indices on {DEVICE} of a tensor that is not [{function}]")
        if any(isinstance(place, Simulated) and place.dtype == torch.bool for place in places):
            _wait()
        tensors = [whole, *(value for value in args[2:] if isinstance(value, torch.Tensor))]
    if any(not isinstance(value, Simulated) and value.dim() for value in tensors):
        raise RuntimeError(f"expected all tensors on one device, found {DEVICE} and cpu [{function}]")


def _wrapped(function: Callable[..., Any], args: Any, kwargs: Any, there: list[Simulated]) -> Any:
    """The operation on raw tensors; what it made is on the device, what it changed in place stays the tensor it was."""
    known = {id(value.raw): value for value in there}
    result = function(*_raw(args), **_raw(kwargs))
    if torch.Tag.inplace_view in function.tags:  # type: ignore[attr-defined]
        with no_dispatch():
            function(*args, **kwargs)
        return args[0]

    def made(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        if value.dtype == torch.float64:
            raise TypeError(f"float64 on {DEVICE} [{function}]")
        return known.get(id(value)) if id(value) in known else Simulated(value)

    return tree_map(made, result)


if AVAILABLE:  # at once: the engine of gradients counts the devices when it is first used
    LIBRARY = torch.library.Library("aten", "IMPL")
    _register(LIBRARY)
