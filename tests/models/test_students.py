"""The ladder of students: sizes as their names promise."""

from pathlib import Path

import pytest

from pcdistill.commands.train import Train
from pcdistill.core.errors import InputError
from pcdistill.models import STUDENTS, build


def test_students_grow_from_twenty_thousand_to_three_million() -> None:
    sizes = [sum(value.numel() for value in build(f"pointnet-{name}", 40, 0).parameters()) for name in STUDENTS]
    assert sizes == sorted(sizes)
    assert 15e3 < sizes[0] < 21e3
    assert sizes[STUDENTS.index("light")] < 100e3
    assert 2.9e6 < sizes[-1] < 3.1e6


def test_a_student_is_a_network_by_its_size() -> None:
    given = {"source": "set", "output": Path("net.safetensors")}
    assert Train(**given, student="tiny")._network() == "pointnet-tiny"
    assert Train(**given, network="dgcnn")._network() == "dgcnn"
    assert Train(**given)._network() is None
    with pytest.raises(InputError, match="one of the two"):
        _ = Train(**given, student="tiny", network="dgcnn")._network()
