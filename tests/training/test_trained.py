"""Files of networks, which are not trusted."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from pcdistill.core.errors import InputError
from pcdistill.core.sealed import sealed, unsealed
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
        ("class_names", ["a"], "weights 'head.2.bias' of shape (2,), expected (1,) for pointnet-nano of 1 classes"),
    ],
)
def test_what_is_not_so_is_one_line(field: str, value: Any, message: str, stored: Path) -> None:
    weights, facts = unsealed(stored.read_bytes(), stored, "a network")
    stored.write_bytes(sealed(weights, {**facts, field: json.dumps(value)}))
    with pytest.raises(InputError, match=re.escape(f"net.safetensors: {message}")) as said:
        load_network(stored)
    assert "\n" not in str(said.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(value: float, stored: Path) -> None:
    weights, facts = unsealed(stored.read_bytes(), stored, "a network")
    weights["head.2.bias"][1] = value
    stored.write_bytes(sealed(weights, facts))
    with pytest.raises(InputError, match=r"net\.safetensors: weights head\.2\.bias with NaN or infinity"):
        load_network(stored)


def test_a_bit_counts_where_there_is_a_digest(stored: Path) -> None:
    """A file of release 0.1 has none, and is read."""
    content = stored.read_bytes()
    damaged = content[:-37] + bytes([content[-37] ^ 64]) + content[-36:]
    stored.write_bytes(damaged)
    with pytest.raises(InputError, match=r"not a network of this package \(damaged: its digest differs\)"):
        load_network(stored)
    weights, facts = unsealed(content, stored, "a network")
    del facts["sha256"]
    stored.write_bytes(save(weights, facts))
    made = load_network(stored)
    assert all(torch.equal(value, weights[name]) for name, value in made.network.state_dict().items())


def test_classes_that_the_weights_have_not_take_no_memory(stored: Path) -> None:
    weights, facts = unsealed(stored.read_bytes(), stored, "a network")
    names = json.dumps([f"{number}" for number in range(10**5)])
    stored.write_bytes(sealed(weights, {**facts, "class_names": names}))
    with pytest.raises(InputError, match=r"shape \(2,\), expected \(100000,\) for pointnet-nano"):
        load_network(stored)


def test_no_more_points_than_a_reader_has_room_for(stored: Path) -> None:
    weights, facts = unsealed(stored.read_bytes(), stored, "a network")
    protocol = json.dumps({**json.loads(facts["protocol"]), "test_points": 10**12})
    stored.write_bytes(sealed(weights, {**facts, "protocol": protocol}))
    with pytest.raises(InputError, match=r"protocol: test_points = 1000000000000, expected less than or equal to"):
        load_network(stored)
