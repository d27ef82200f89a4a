"""Tables of sets with parts say what the records say, and leave out what was not measured."""

from typing import Any

from benchmarks.parts.table import networks
from pcdistill.results.record import Record
from tests.benchmarks.test_frontier import record


def labelled(network: str, mious: list[float], **changes: Any) -> Record:
    return record("random", 369, 0.8, dataset="grasp5_parts", network=network, class_miou=mious, **changes)


def test_networks_stand_in_their_order() -> None:
    found = [labelled("dgcnn-seg", [0.7, 0.6], instance_miou=[0.5, 0.5])]
    found.append(labelled("pointnet-seg", [0.7], instance_miou=[0.6]))
    assert networks(found).splitlines()[2:] == [
        "| PointNet | 70.0 | 60.0 | 81.0 ± 1.4 |",
        "| DGCNN | 65.0 ± 7.1 | 50.0 ± 0.0 | 81.0 ± 1.4 |",
    ]
    assert networks([]) == ""
