"""Tables of sets with parts say what the records say, and leave out what was not measured."""

from typing import Any

from benchmarks.parts.table import networks, without_class
from benchmarks.wording import by_bytes
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


def test_a_class_is_left_out_run_by_run() -> None:
    found = labelled("pointnet-tiny-seg", [0.5, 0.4], class_ious=[{"a": 0.6, "b": 0.8, "c": 0.1}, {"a": 0.4, "b": 0.6}])
    of_older_release = labelled("pointnet-tiny-seg", [0.9])
    assert without_class([found], "grasp5_parts", "c").splitlines()[2:] == ["| grasp5_parts | 369 | 60.0 ± 14.1 |"]
    assert without_class([of_older_release], "grasp5_parts", "c") == without_class([found], "psb19_parts", "c") == ""


def test_rows_of_arms_that_others_lack_stand_apart() -> None:
    both = [labelled("pointnet-tiny-seg", [0.5]), record("medoid", 369, 0.7, dataset="grasp5_parts", class_miou=[0.6])]
    alone = record("random", 1229, 0.8, dataset="grasp5_parts", class_miou=[0.7])
    text = by_bytes([*both, alone], {"random": "random", "medoid": "medoids"}, "class_miou")
    assert [line for line in text.splitlines() if ":" not in line] == [
        "|  | bytes per class | random | medoids |",
        "| grasp5_parts | 369 | 50.0 | 60.0 |",
        "",
        "|  | bytes per class | random |",
        "| grasp5_parts | 1,229 | 70.0 |",
    ]
