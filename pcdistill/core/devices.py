"""Where tensors are computed: on the processor, or on an accelerator by the name that torch has for it.

Labels, indices and random numbers stay on the processor, points, features and weights lie on the device
(docs/decisions/54-labels-stay-on-the-processor.md).
"""

import os

from pcdistill.core.errors import InputError

ACCELERATORS = ("cuda", "mps")  # that `auto` looks for, in this order


def resolved(name: str) -> str:
    """The device of a name; of `auto` the first accelerator that works, else the processor.

    Raises:
        InputError: torch cannot compute there, with what it says.
    """
    if name == "auto":
        return next((one for one in ACCELERATORS if _fault(one) is None), "cpu")
    if name != "cpu" and (fault := _fault(name)) is not None:
        raise InputError("device", f"'{name}' ({fault})", "auto, cpu, or one that torch has here: cuda, cuda:1, mps")
    return name


def gpus(device: str) -> tuple[str, ...]:
    """The GPUs that jobs on a device are spread over, as CUDA_VISIBLE_DEVICES has them: of `cuda` all, else none."""
    if device != "cuda":
        return ()
    import torch

    count, named = torch.cuda.device_count(), os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return tuple(named.split(",")[:count]) if named else tuple(map(str, range(count)))


def _fault(name: str) -> str | None:
    """Why a product cannot be computed on a device; None if it can."""
    import torch

    try:
        ones = torch.ones(2, 2, device=name)
        (ones @ ones).sum().item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        return str(error).splitlines()[0][:100]
    return None
