"""ExecuTorch files (.pte), for runtimes on phones and microcontrollers."""

from pathlib import Path

import torch

from pcdistill.core.errors import InputError
from pcdistill.core.files import atomic
from pcdistill.export.folding import Folded
from pcdistill.export.onnx import PARITY, Logits, quiet

LARGEST = 4096  # points, and clouds: ExecuTorch plans its memory for the largest input


def export_executorch(network: Folded, path: Path, points: int) -> tuple[int, float]:
    """Write a folded network for ExecuTorch's XNNPACK kernels; one cloud of up to `LARGEST` points at a time.

    Args:
        network: in evaluation mode.
        path: file to write (.pte).
        points: at which, and at half of which, it is compared with the network.

    Returns:
        Bytes of the file, and the largest difference of logits.

    Raises:
        InputError: without the extra `executorch`, or where logits differ by more than `PARITY`.
    """
    try:
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower
        from executorch.runtime import Runtime
    except ImportError as error:
        raise InputError("executorch", f"not installed ({error})", "pip install 'pcdistill[executorch]'") from None
    size = {1: torch.export.Dim("points", min=2, max=LARGEST)}
    with quiet():
        program = torch.export.export(Logits(network), (torch.zeros(1, 64, 3),), dynamic_shapes={"points": size})
        lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
        content: bytes = lowered.to_executorch().buffer
    method = Runtime.get().load_program(content).load_method("forward")
    worst = 0.0
    for count in (points, max(2, points // 2)):
        cloud = 0.4 * torch.randn(1, count, 3, generator=torch.Generator().manual_seed(count))
        worst = max(worst, (method.execute([cloud])[0] - network(cloud).logits).abs().max().item())
    if not worst <= PARITY:
        raise InputError(path, f"logits that differ by {worst:.2g} from the network's", f"at most {PARITY:g}")
    with atomic(path) as temporary:
        temporary.write_bytes(content)
    return len(content), worst
