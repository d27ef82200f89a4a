"""A teacher in the file of a set: what int8 leaves of it, what it takes, and who it teaches."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pcdistill as pcd
from pcdistill.artefact.artefact import Artefact
from pcdistill.artefact.container import seal, unseal
from pcdistill.clouds import PointClouds
from pcdistill.commands.show import Show
from pcdistill.commands.train import Train
from pcdistill.core.errors import InputError
from pcdistill.evaluation.evaluate import evaluate, train
from pcdistill.models import build
from pcdistill.teaching import KeptTeacher, Online, Teacher
from pcdistill.training.recipe import protocol
from pcdistill.training.trained import Trained, load_network, save_network
from tests.conftest import lines_of

NAMES = ("ball", "box", "ring")


def teacher_of(name: str = "pointnet-nano") -> Teacher:
    """Random weights, and norms that have seen something."""
    network = build(name, 3, 0)
    random = torch.Generator().manual_seed(0)
    for key, value in network.state_dict().items():
        if key.endswith(("running_mean", "running_var")):
            value.copy_(torch.rand(value.shape, generator=random) + 0.1)
    made = Trained(network.eval(), NAMES, protocol("tuned", name), "tiny", 64, 7)
    return Teacher((made,), 2.0, ("net.safetensors",), ("0" * 64,))


@pytest.mark.parametrize("name", ["pointnet-nano", "pointnet-small", "dgcnn"])
def test_weights_are_within_half_a_step_of_their_row_and_the_rest_is_float16(name: str) -> None:
    teacher = teacher_of(name)
    kept = KeptTeacher.of(teacher).teacher(NAMES)
    wanted, found = (one.members[0].network.state_dict() for one in (teacher, kept))
    for key, value in wanted.items():
        if not value.is_floating_point():
            continue
        if value.ndim < 2:
            np.testing.assert_array_equal(found[key], value.numpy().astype(np.float16).astype(np.float32))
            continue
        rows, ours = value.flatten(1).numpy(), found[key].flatten(1).numpy()
        step = np.abs(rows).max(1, keepdims=True) / 127
        assert (np.abs(rows - ours) <= 0.5 * step + 127 * step * 2**-11).all()  # of which the scale's rounding
        assert np.unique(np.round(ours / step)).size <= 255
    points = torch.randn(4, 64, 3, generator=torch.Generator().manual_seed(1))
    assert (teacher.probabilities(points) - kept.probabilities(points)).abs().max() < 0.02
    assert kept.describe() == teacher.describe()


def test_bytes_are_one_for_a_weight_and_two_for_what_is_none() -> None:
    state = teacher_of().members[0].network.state_dict()
    weights = [value for value in state.values() if value.ndim > 1]
    rest = sum(value.numel() for value in state.values() if value.ndim == 1)
    kept = KeptTeacher.of(teacher_of())
    assert kept.nbytes == sum(v.numel() for v in weights) + 2 * (sum(map(len, weights)) + rest)
    assert kept.nbytes == kept.codes.nbytes + kept.floats.nbytes


@pytest.mark.parametrize("name", ["pointnet-full", "pointnet2", "pointmlp-elite", "pointnet-small-layernorm"])
def test_what_is_read_is_written_again(name: str) -> None:
    kept = KeptTeacher.of(teacher_of(name))
    again = KeptTeacher.of(kept.teacher(NAMES))
    assert (again.facts, again.codes.tobytes(), again.floats.tobytes()) == (
        kept.facts, kept.codes.tobytes(), kept.floats.tobytes(),
    )  # fmt: skip


def test_rows_of_zeros_and_of_tiny_weights_keep_their_bits() -> None:
    teacher = teacher_of()
    with torch.no_grad():
        weight = next(value for value in teacher.members[0].network.parameters() if value.ndim > 1)
        weight[0], weight[1] = 0.0, torch.linspace(-1e-6, 1e-6, weight.shape[1])
    kept = KeptTeacher.of(teacher)
    again = KeptTeacher.of(kept.teacher(NAMES))
    assert again.codes.tobytes() == kept.codes.tobytes()
    first = next(value for value in kept.teacher(NAMES).members[0].network.parameters() if value.ndim > 1)
    assert not first[0].any()


def test_what_cannot_be_kept_is_refused() -> None:
    teacher = teacher_of()
    with pytest.raises(InputError, match=r"^teacher: 2 networks to be kept in the file, expected one$"):
        KeptTeacher.of(Teacher(teacher.members * 2, 1.0))
    with torch.no_grad():
        next(value for value in teacher.members[0].network.parameters() if value.ndim == 1)[0] = 1e6
    with pytest.raises(InputError, match=r"^teacher: weights beyond float16, expected up to 65504$"):
        KeptTeacher.of(teacher)


# In an artefact


@pytest.fixture
def teacher_file(tmp_path: Path) -> Path:
    path = tmp_path / "net.safetensors"
    save_network(path, teacher_of().members[0])
    return path


def made_with(clouds: PointClouds, teacher: Path, **changes: Any) -> Artefact:
    size: dict[str, Any] = {"clouds_per_class": 2, "points": 32, "bits": 8} if "bytes_per_class" not in changes else {}
    return pcd.select(clouds, labels="network", teacher=(teacher,), temperature=3.0, **{**size, **changes})


def test_an_artefact_counts_its_teacher_and_gives_it_back(
    tiny_clouds: PointClouds, teacher_file: Path, tmp_path: Path
) -> None:
    made = made_with(tiny_clouds, teacher_file)
    plain = pcd.select(tiny_clouds, clouds_per_class=2, points=32, bits=8)
    kept = KeptTeacher.of(Teacher((load_network(teacher_file),), 3.0))
    assert made.nbytes == plain.storage.nbytes + kept.nbytes
    assert made.bytes_per_class == made.nbytes / 3
    made.save(path := tmp_path / "a.h5")
    again = Artefact.load(path)
    assert again.to_bytes() == made.to_bytes()
    assert again.sizes(path).training_bytes == made.nbytes
    assert torch.equal(again.clouds.labels, plain.clouds.labels)  # hard
    assert again.supervision is not None
    points = tiny_clouds.points
    expected = kept.teacher(NAMES).probabilities(points)
    assert torch.equal(again.supervision.teacher.probabilities(points), expected)
    assert again.label_temperature == 3.0
    assert f"  teacher    pointnet-nano in the file, {kept.nbytes:,} bytes, temperature 3" in lines_of(
        Show(source=path)
    )
    assert "teacher" not in plain.metadata.to_json()
    assert plain.supervision is None


def test_a_budget_holds_the_teacher_too(tiny_clouds: PointClouds, teacher_file: Path) -> None:
    nbytes = KeptTeacher.of(Teacher((load_network(teacher_file),), 1.0)).nbytes
    room = nbytes // 3 + 60
    made = made_with(tiny_clouds, teacher_file, bytes_per_class=room)
    assert made.nbytes <= 3 * room
    alone = pcd.select(tiny_clouds, bytes=3 * room - nbytes)
    assert torch.equal(made.clouds.points, alone.clouds.points)
    with pytest.raises(
        InputError, match=r"^bytes: 300 of all classes, of which the teacher takes [\d,]+, expected more"
    ):
        made_with(tiny_clouds, teacher_file, bytes_per_class=100)
    made = pcd.distill(
        tiny_clouds, labels="network", teacher=(teacher_file,), clouds_per_class=1, points=16, objective="dm", steps=1,
        options={"bank": {"networks": 1, "trained_steps": (0, 0)}},
    )  # fmt: skip
    assert made.nbytes == made.storage.nbytes + nbytes


def test_networks_are_taught_by_it_unless_another_is_asked_for(
    tiny_clouds: PointClouds, teacher_file: Path, tmp_path: Path
) -> None:
    made = made_with(tiny_clouds, teacher_file)
    how = protocol("tuned", "pointnet-nano", test_points=64).changed(steps=3)
    assert made.teacher is not None
    online = Online(made.teacher.teacher(NAMES))
    by_hand = evaluate(made.clouds, tiny_clouds, how.changed(temperature=3.0), seeds=1, supervision=online)
    assert evaluate(made, tiny_clouds, how, seeds=1).runs == by_hand.runs
    hard = train(made.clouds, how)
    taught, other = train(made, how), train(made, how, supervision=Online(teacher_of()))
    states = [[value.tolist() for value in one.network.parameters()] for one in (hard, taught, other)]
    assert states[0] != states[1] != states[2]
    made.save(tmp_path / "a.h5")
    output = tmp_path / "student.safetensors"
    Train(source=str(tmp_path / "a.h5"), output=output, network="pointnet-nano", train_steps=3).run(lambda _: None)
    student = load_network(output)
    for mine, theirs in zip(student.network.parameters(), taught.network.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert student.taught == online.describe()
    assert student.taught["teacher"] == "net.safetensors"
    assert student.protocol.recipe.temperature == 3.0


def changed(artefact: Artefact, change: Callable[[dict[str, Any], dict[str, Any]], None], path: Path) -> Path:
    """A file with other metadata or arrays, and a right checksum."""
    text, datasets = unseal(artefact.to_bytes())
    facts = json.loads(text)
    change(facts, datasets)
    path.write_bytes(seal(json.dumps(facts), datasets))
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda facts, arrays: facts.pop("teacher"), "teacher_codes: unknown dataset, expected metadata"),
        (lambda facts, arrays: arrays.pop("teacher_codes"), "teacher: 0 codes and "),
        (lambda facts, arrays: arrays.update(teacher_floats=arrays["teacher_floats"][1:]), r"teacher: \d+ codes and "),
        (
            lambda facts, arrays: arrays.update(teacher_codes=arrays["teacher_codes"].astype(np.int16)),
            "teacher_codes: int16 of 1 dimensions, expected int8",
        ),
        (lambda facts, arrays: arrays["teacher_codes"].__setitem__(0, -128), "teacher: values that no encoder writes"),
        (lambda facts, arrays: arrays["teacher_floats"].__setitem__(0, 1e-6), "teacher: values that no encoder writes"),
        (lambda facts, arrays: arrays["teacher_floats"].__setitem__(-1, np.nan), "teacher: NaN or infinity, expected"),
        (lambda facts, arrays: facts["teacher"].update(temperature=0), "metadata 'teacher': temperature = 0, expected"),
        (lambda facts, arrays: facts["teacher"].update(code="x"), "metadata 'teacher': unknown option 'code'"),
        (
            lambda facts, arrays: facts["teacher"]["protocol"].update(network="pointnet-nan"),
            r"network: 'pointnet-nan' \(did you mean 'pointnet-nano'",
        ),
        (
            lambda facts, arrays: facts["teacher"]["protocol"].update(network="pointnet"),
            r"teacher: \d+ codes and \d+ floats, expected \d+ and \d+, those of pointnet of 3 classes",
        ),
    ],
)
def test_a_teacher_that_does_not_fit_is_one_line(
    change: Callable[[dict[str, Any], dict[str, Any]], None], message: str,
    tiny_clouds: PointClouds, teacher_file: Path, tmp_path: Path,
) -> None:  # fmt: skip
    path = changed(made_with(tiny_clouds, teacher_file), change, tmp_path / "a.h5")
    with pytest.raises(InputError, match=message) as caught:
        Artefact.load(path)
    assert "\n" not in str(caught.value)


def test_metadata_and_teacher_agree(tiny_clouds: PointClouds, teacher_file: Path) -> None:
    made = made_with(tiny_clouds, teacher_file)
    with pytest.raises(InputError, match=r"^metadata 'teacher': "):
        replace(made, teacher=None)
