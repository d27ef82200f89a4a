"""The ladder of students: sizes as their names promise."""

from pathlib import Path

import pytest

from pcdistill.config import TrainConfig
from pcdistill.errors import InputError
from pcdistill.models import STUDENTS, build


def test_students_grow_from_twenty_thousand_to_three_million() -> None:
    sizes = [sum(value.numel() for value in build(f"pointnet-{name}", 40, 0).parameters()) for name in STUDENTS]
    assert sizes == sorted(sizes)
    assert 15e3 < sizes[0] < 21e3
    assert sizes[STUDENTS.index("light")] < 100e3
    assert 2.9e6 < sizes[-1] < 3.1e6


def test_a_student_is_a_network_by_its_size() -> None:
    given = {"source": "set", "output": Path("net.safetensors")}
    assert TrainConfig(**given, student="tiny").network_name == "pointnet-tiny"
    assert TrainConfig(**given, network="dgcnn").network_name == "dgcnn"
    assert TrainConfig(**given).network_name is None
    with pytest.raises(InputError, match="one of the two"):
        _ = TrainConfig(**given, student="tiny", network="dgcnn").network_name
