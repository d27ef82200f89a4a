"""Agreement of teacher and student, counted by hand and by SciPy; watching changes nothing."""

import json
import math
from pathlib import Path

import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from pcdistill.cli import main
from pcdistill.clouds import PointClouds
from pcdistill.data import load
from pcdistill.models import build
from pcdistill.teaching import Agreement, Online, Teacher, Watched, agreement
from pcdistill.training.loop import train
from pcdistill.training.recipe import protocol, recipe
from pcdistill.training.supervision import Batch
from pcdistill.training.trained import Trained, load_network, save_network


def test_counted_by_hand() -> None:
    teacher = torch.tensor([[0.6, 0.3, 0.08, 0.02], [0.1, 0.2, 0.3, 0.4]], dtype=torch.float64)
    student = torch.tensor([[0.5, 0.1, 0.3, 0.1], [0.7, 0.2, 0.06, 0.04]], dtype=torch.float64)
    found = agreement(teacher, student, torch.tensor([0, 3]), top=2)
    assert found.overlap == pytest.approx((1 / 2 + 0 / 2) / 2)  # {0, 1} and {0, 2}; {3, 2} and {0, 1}
    assert found.mistakes == 0.5
    assert (found.corrected, found.truth, found.shared) == (1.0, pytest.approx(0.4), 0.0)


@given(seed=st.integers(0, 999), classes=st.integers(2, 7))
def test_entropies_are_scipys(seed: int, classes: int) -> None:
    teacher, student = torch.randn(2, 5, classes, generator=torch.Generator().manual_seed(seed)).double().softmax(2)
    found = agreement(teacher, student, torch.zeros(5, dtype=torch.int64))
    assert found.kl == pytest.approx(scipy.stats.entropy(teacher, student, axis=1).mean())
    gap = scipy.stats.entropy(teacher, axis=1).mean() - scipy.stats.entropy(student, axis=1).mean()
    assert found.entropy_gap == pytest.approx(gap)
    assert 0 <= found.overlap <= 1
    same = agreement(teacher, teacher, teacher.argmax(1))
    assert (same.overlap, same.kl, same.mistakes) == (1, 0, 0)
    assert math.isnan(same.corrected)


def test_watching_changes_nothing(tiny_clouds: PointClouds) -> None:
    member = build("pointnet-small", 3, 7).eval()
    teacher = Teacher((Trained(member, tiny_clouds.class_names, protocol("tuned", "pointnet-small"), "tiny", 64),))
    how = recipe("tuned", steps=5, batch=8)
    notes: list = []  # type: ignore[type-arg]
    alone, watched = (build("pointnet", 3, 0) for _ in range(2))  # with dropout and batch norm
    train(alone, tiny_clouds, how, 0, supervision=Online(teacher))
    train(watched, tiny_clouds, how, 0, supervision=Watched(Online(teacher), teacher, 2, notes))
    for name, value in alone.state_dict().items():
        assert torch.equal(watched.state_dict()[name], value), name
    assert [(seed, step) for seed, step, _ in notes] == [(0, 0), (0, 2), (0, 4)]
    assert notes[0][2].kl != notes[1][2].kl


def test_notes_by_the_command_line(tiny_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clouds, teacher = load(str(tiny_file), "train"), tmp_path / "teacher.safetensors"
    plan = protocol("tuned", "pointnet-tiny")
    save_network(teacher, Trained(build("pointnet-tiny", 3, 1).eval(), clouds.class_names, plan, "tiny", 64, 0))
    words = ["train", str(tiny_file), "--points", "64", "--student", "nano", "--train-steps", "5"]
    for name, more in (("plain", []), ("watched", ["--watch", "2"])):
        output = str(tmp_path / f"{name}.safetensors")
        assert main([*words, "--output", output, "--teacher", str(teacher), *more]) == 0
    notes = [json.loads(line) for line in (tmp_path / "watched.agreement.jsonl").read_text().splitlines()]
    assert [note["step"] for note in notes] == [0, 2, 4]
    assert all({"overlap", "kl", "entropy_gap", "mistakes", "corrected"} <= note.keys() for note in notes)
    assert f"KL {notes[0]['kl']:.2f} to {notes[-1]['kl']:.2f}" in capsys.readouterr().out
    one, other = (load_network(tmp_path / f"{name}.safetensors").network for name in ("plain", "watched"))
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in one.state_dict().items())
    assert not (tmp_path / "plain.agreement.jsonl").exists()
    assert main([*words, "--output", str(tmp_path / "a.safetensors"), "--watch", "2"]) == 2
    assert "watch: given, but no teacher, expected --teacher" in capsys.readouterr().err


def test_both_are_compared_at_one_temperature(tiny_clouds: PointClouds) -> None:
    """A student that is its own teacher agrees with it wholly, however soft that one is."""
    network = build("pointnet-small-layernorm", 3, 7)
    trained = Trained(network, tiny_clouds.class_names, protocol("tuned", "pointnet-small-layernorm"), "tiny", 64)
    teacher, notes = Teacher((trained,), temperature=5.0), list[tuple[int, int, Agreement]]()
    batch = Batch(tiny_clouds.points, tiny_clouds.labels, tiny_clouds.labels, 0, 1)
    Watched(None, teacher, 1, notes).begin([0])(batch, [network])
    assert notes[0][2].kl == pytest.approx(0, abs=1e-6)
    assert notes[0][2].overlap == 1
