"""Files of networks, which are not trusted."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from pcdistill.core.errors import InputError
from pcdistill.models import build
from pcdistill.training.recipe import protocol
from pcdistill.training.trained import Trained, load_network, save_network


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    path = tmp_path / "net.safetensors"
    network = build("pointnet-nano", 2, 0).eval()
    taught = {"teacher": "big.safetensors"}
    save_network(path, Trained(network, ("a", "b"), protocol("tuned", "pointnet-nano"), "tiny", 64, 3, taught))
    return path


def test_what_is_known_comes_back(stored: Path) -> None:
    made = load_network(stored)
    assert (made.class_names, made.dataset, made.points, made.seed) == (("a", "b"), "tiny", 64, 3)
    assert made.taught == {"teacher": "big.safetensors"}


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("points", "abc", "points = 'abc', expected a valid integer"),
        ("points", 0, "points = 0, expected greater than or equal to 1"),
        ("points", 1.5, "points = 1.5, expected a valid integer"),
        ("seed", "x", "seed = 'x', expected a valid integer"),
        ("taught", [1], "taught = [1], expected a valid dictionary"),
        ("class_names", [1, 2], "class_names.0 = 1, expected a valid string"),
        ("class_names", [["a"], ["b"]], "class_names.0 = ['a'], expected a valid string"),
        ("class_names", ["a", "a"], "class_names = ['a', 'a'], expected names that differ"),
        ("class_names", "ab", "class_names = 'ab', expected a valid tuple"),
        ("class_names", ["a"], "not a network of this package (Error(s) in loading state_dict"),
    ],
)
def test_what_is_not_so_is_one_line(field: str, value: Any, message: str, stored: Path) -> None:
    with safe_open(stored, "numpy") as file:
        facts, weights = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(weights, stored, {**facts, field: json.dumps(value)})
    with pytest.raises(InputError, match=re.escape(f"net.safetensors: {message}")) as said:
        load_network(stored)
    assert "\n" not in str(said.value)
