"""Anyone's torch modules as networks: of clouds `(B, P, 3)`, or of torch-geometric's flat points and batch."""

import copy
import hashlib
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from pcdistill.core.errors import InputError
from pcdistill.models.base import Network, build, networks

Make = Callable[[int], nn.Module]
TRIED = (2, 1024)  # clouds and points of a first call, with as many points as protocols test on

# By the names given here, and looked up when a network is made: a cell of a notebook may be run again.
_known: dict[str, tuple[Make, bool | None]] = {}


class Wrapped(Network):
    """A module of anyone's. Its logits are all that is known of it, so they are its global feature, too.

    Args:
        module: clouds `(B, P, 3)` to logits `(B, C)`, or to a tuple that begins with them.
        flat: it takes points `(B * P, 3)` and the number of the cloud of each, `(B * P,)` int64, as models of
            torch-geometric do.
    """

    def __init__(self, module: nn.Module, flat: bool = False) -> None:
        super().__init__()
        self.module, self.flat, self.head = module, flat, nn.Identity()

    def pooled(self, points: Tensor) -> Tensor:
        """The logits `(B, C)`."""
        if self.flat:
            batch = torch.arange(len(points), device=points.device).repeat_interleave(points.shape[1])
            found = self.module(points.flatten(0, 1), batch)
        else:
            found = self.module(points)
        logits: Tensor = found[0] if isinstance(found, tuple | list) else found
        return logits

    def point_features(self, points: Tensor) -> list[Tensor]:
        raise InputError(
            f"network {type(self.module).__name__}", "wrapped, so that features of points are not known",
            "an objective that reads none, or a pcdistill.models.Network",
        )  # fmt: skip


def as_network(module: nn.Module | Make, name: str | None = None, *, flat: bool | None = None) -> str:
    """Make a torch module known as a network of this process, for `train`, `evaluate` and all else that takes a name.

    As a surrogate it serves objectives that read logits and gradients alone, as `krr`, `gm` and `tm` do.

    Args:
        module: a class or function of the number of classes, which makes a module; or a module, of which every fresh
            network is a copy with its weights drawn anew (`reset_parameters` of its layers). It maps clouds
            `(B, P, 3)` to logits `(B, C)`, or to a tuple that begins with them; or points `(B * P, 3)` and the number
            of the cloud of each, as models of torch-geometric do.
        name: that it gets; by default that of its class or function. One that was given here before is replaced.
        flat: whether it takes points and numbers of clouds. None: if its `forward` has a second argument `batch`.

    Returns:
        The name: `pcdistill.train(clouds, network=as_network(Mine))`.

    Raises:
        InputError: no module or function, or the name of a network that is not from here. When a network is made: a
            module whose weights cannot be drawn anew, that cannot be called so, or whose logits do not fit the classes.
    """
    if not callable(module):
        raise InputError("as_network", f"a {type(module).__name__}", "a module, or a function of the number of classes")
    if name is None:
        name = type(module).__name__ if isinstance(module, nn.Module) else getattr(module, "__name__", "network")
    if name in networks and name not in _known:
        raise InputError("as_network", f"'{name}', which is a network already", "another name")
    _known[name] = (_fresh(module, name) if isinstance(module, nn.Module) else module), flat
    if name not in networks:
        networks.register(name)(lambda classes: _built(name, classes))
    return name


def _built(name: str, classes: int) -> Wrapped:
    """A fresh network, once it was seen to give logits of all classes."""
    make, flat = _known[name]
    place, module = f"network {name}", make(classes)
    if not isinstance(module, nn.Module):
        raise InputError(place, f"a {type(module).__name__}", "a torch module")
    network = Wrapped(module, _takes_batch(module) if flat is None else flat)
    modes = [(part, part.training) for part in network.modules()]
    try:
        with torch.no_grad():
            logits = network.eval().pooled(torch.randn(*TRIED, 3))
    except Exception as error:  # of anyone's code
        given = "points (B * P, 3) and batch" if network.flat else "clouds (B, P, 3)"
        found = f"{type(error).__name__} when it was called with {given}: {' '.join(str(error).split())[:160]}"
        raise InputError(place, found, "logits (see as_network)") from error
    if not isinstance(logits, Tensor) or logits.shape != (TRIED[0], classes):
        shape = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
        raise InputError(place, f"{shape} for {TRIED[0]} clouds", f"logits ({TRIED[0]}, {classes})")
    for part, mode in modes:
        part.training = mode
    return network


def digest(name: str, classes: int) -> str:
    """What a cache has to know of a network besides its name: how one answers and what it is made of, as hex.

    Empty for networks that are not from here, whose names mean one thing.

    Raises:
        InputError: as `as_network`, when a network is made.
    """
    if name not in _known:
        return ""
    network = build(name, classes, 0).eval()
    with torch.no_grad():
        answer = network(torch.randn(*TRIED, 3, generator=torch.Generator().manual_seed(0))).logits
    said = hashlib.sha256(repr(network).encode())
    said.update(answer.float().contiguous().numpy().data)
    return said.hexdigest()


def _takes_batch(module: nn.Module) -> bool:
    """Whether the second argument of its `forward` is called `batch`."""
    return list(inspect.signature(module.forward).parameters)[1:2] == ["batch"]


def _fresh(module: nn.Module, name: str) -> Make:
    """A function that copies a module and draws its weights anew."""
    kept = copy.deepcopy(module).cpu()

    def make(_: int) -> nn.Module:
        made = copy.deepcopy(kept)
        for part in made.modules():
            # Attention of torch has it under another name.
            reset: Any = getattr(part, "reset_parameters", getattr(part, "_reset_parameters", None))
            if callable(reset):
                reset()
            elif next(part.parameters(recurse=False), None) is not None:
                found = f"weights of a {type(part).__name__} that has no reset_parameters"
                raise InputError(f"network {name}", found, "a function of the number of classes in place of a module")
        return made

    return make
