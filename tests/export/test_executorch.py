"""ExecuTorch files, where it is installed."""

import sys
from pathlib import Path

import pytest
import torch

from pcdistill.core.errors import InputError
from pcdistill.export import export_executorch, folded
from pcdistill.models import build
from pcdistill.models.pointnet import PointNet
from tests.export.conftest import points_of, stirred


def network_of(name: str) -> PointNet:
    network = stirred(build(name, 4, 0))
    assert isinstance(network, PointNet)
    return network


@pytest.mark.filterwarnings("ignore")  # executorch's own
@pytest.mark.parametrize("name", ["pointnet-tiny", "pointnet"])
def test_the_file_gives_the_networks_logits_at_any_number_of_points(name: str, tmp_path: Path) -> None:
    pytest.importorskip("executorch.exir")
    from executorch.runtime import Runtime

    network = network_of(name)
    with torch.no_grad():
        network.head[-1].weight *= 0.1
    path = tmp_path / "net.pte"
    nbytes, parity = export_executorch(folded(network), path, 128)
    assert nbytes == path.stat().st_size
    assert parity < 1e-4
    content = path.read_bytes()  # which the program refers to, and does not keep
    method = Runtime.get().load_program(content).load_method("forward")
    for points in (2, 7, 128, 1024, 4096):
        cloud = points_of(1, points)
        with torch.no_grad():
            torch.testing.assert_close(method.execute([cloud])[0], network(cloud).logits, rtol=0, atol=2e-4)


def test_without_executorch_there_is_a_hint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "executorch.backends.xnnpack.partition.xnnpack_partitioner", None)
    with pytest.raises(InputError, match=r"^executorch: not installed .*pip install 'pcdistill\[executorch\]'"):
        export_executorch(folded(network_of("pointnet-tiny")), tmp_path / "net.pte", 16)
    assert not list(tmp_path.iterdir())
