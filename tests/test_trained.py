"""Files of networks, which are not trusted."""

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from pcdistill.errors import InputError
from pcdistill.models import build
from pcdistill.trained import Trained, load_network, save_network
from pcdistill.training import protocol


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
    ("field", "value"),
    [
        ("points", "abc"), ("points", 0), ("points", 1.5), ("seed", "x"), ("taught", [1]), ("class_names", [1, 2]),
        ("class_names", [["a"], ["b"]]), ("class_names", ["a", "a"]), ("class_names", "ab"), ("class_names", ["a"]),
    ],
)  # fmt: skip
def test_what_is_not_so_is_one_line(field: str, value: Any, stored: Path) -> None:
    with safe_open(stored, "numpy") as file:
        facts, weights = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(weights, stored, {**facts, field: json.dumps(value)})
    with pytest.raises(InputError, match=r"not a network of this package") as said:
        load_network(stored)
    assert "\n" not in str(said.value)
