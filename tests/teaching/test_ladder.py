"""Which teacher: snapshots, measures, and the command that climbs the ladder."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from pcdistill import teach
from pcdistill.augment import Augmentation
from pcdistill.cli import main
from pcdistill.clouds import PointClouds
from pcdistill.config import SelectConfig, TeachConfig
from pcdistill.errors import InputError
from pcdistill.jobs import run_select
from pcdistill.models import build
from pcdistill.teaching.ladder import (
    Rung,
    assistant,
    best,
    correlations,
    own_inputs,
    pass_gflops,
    read_rungs,
    size,
    snapshot_steps,
    snapshots,
    strongest,
)
from pcdistill.trained import load_network
from pcdistill.training import predict, recipe, train


def rung(teacher: str, accuracy: float, overlap: float, *students: float, **more: Any) -> Rung:
    before = dict.fromkeys(("kl", "entropy_gap", "mistakes", "corrected", "truth", "shared"), None)
    facts = {"files": (f"{teacher}.safetensors",), "steps": 9, "temperature": 1.0, "nbytes": 7, "label_gflops": 1.0}
    costs = dict.fromkeys(("train_seconds", "train_gflops", "label_seconds"), 1.0)
    given = {**facts, **costs, "before": {**before, "overlap": overlap}, **more}
    return Rung(teacher=teacher, teacher_accuracy=accuracy, student_accuracy=students, **given)


def test_snapshots_are_the_training_on_its_way(tiny_clouds: PointClouds) -> None:
    """The last one is what training returns; an earlier one has the weights of that step, found by stopping there."""
    how = recipe("tuned", steps=6, batch=8)
    kept = snapshots("pointnet", tiny_clouds, how, 3, (2, 6))
    network, early = build("pointnet", 3, 3), {}

    class Enough(Exception):
        pass

    def stop(step: int, loss: float) -> None:
        if step == 2:
            early.update({name: value.clone() for name, value in network.state_dict().items()})
            raise Enough

    with pytest.raises(Enough):
        train(network, tiny_clouds, how, 3, stop)
    for name, value in kept[2].state_dict().items():
        assert torch.equal(value, early[name]), name
    whole = build("pointnet", 3, 3)
    train(whole, tiny_clouds, how, 3)
    assert torch.equal(predict(kept[6], tiny_clouds.points), predict(whole, tiny_clouds.points))
    assert not torch.equal(predict(kept[2], tiny_clouds.points), predict(kept[6], tiny_clouds.points))
    assert not kept[2].training


def test_averaged_weights_have_no_snapshots(tiny_clouds: PointClouds) -> None:
    with pytest.raises(InputError, match=r"ema 0.9 with snapshots, expected ema 0"):
        snapshots("pointnet-small", tiny_clouds, recipe("tuned", ema=0.9), 0, (1,))


def test_steps_of_snapshots() -> None:
    assert snapshot_steps(600, (1.0, 0.05, 0.5, 0.5)) == (30, 300, 600)
    assert snapshot_steps(3, (0.01, 1.0)) == (1, 3)


def test_own_inputs_are_augmented_clouds(tiny_clouds: PointClouds) -> None:
    points, classes = own_inputs(tiny_clouds, recipe("tuned"), 0, least=50)
    assert points.shape == (72, 64, 3)
    assert torch.equal(classes, tiny_clouds.labels.repeat(3))
    assert not torch.equal(points[:24], points[24:48])
    assert torch.equal(points, own_inputs(tiny_clouds, recipe("tuned"), 0, least=50)[0])


def test_products_are_counted(tiny_clouds: PointClouds) -> None:
    """Two operations a product: three shared layers at 64 points, and the head."""
    products = 64 * (3 * 64 + 64 * 128 + 128 * 256) + 256 * 128 + 128 * 3
    assert pass_gflops("pointnet-small", 3, tiny_clouds.points[:2], False) == pytest.approx(2 * products / 1e9)
    assert pass_gflops("pointnet-small", 3, tiny_clouds.points[:2], True) > 4 * products / 1e9


@pytest.mark.parametrize("name", ["dgcnn", "pointnet2"])
def test_networks_with_neighbours_are_counted_too(name: str, tiny_clouds: PointClouds) -> None:
    """In pointnet2 it depends on how many neighbours the balls of a cloud hold."""
    few, all_of_them = (pass_gflops(name, 3, tiny_clouds.points[:count], False) for count in (8, 24))
    assert few == pytest.approx(all_of_them, rel=0.3)
    assert pass_gflops(name, 3, tiny_clouds.points[:8], True) > 1.5 * few > 0


def test_an_assistant_stands_between() -> None:
    found = assistant("pointnet", "pointnet-nano", 10, ("pointnet-small",))
    assert found is not None
    assert size("pointnet-nano", 10) < size(found, 10) < size("pointnet", 10)
    assert assistant("pointnet-nano", "pointnet-nano", 10, ()) is None


def test_the_choice() -> None:
    early, late, dear = rung("a@1", 0.7, 0.5, 0.9, 0.8), rung("a@9", 0.9, 0.4, 0.6, 0.7), rung("b@9", 0.8, 0.9, 0.85)
    cheaper = dear.model_copy(update={"label_gflops": 0.5})
    assert best([late, early]) is early
    assert best([dear, cheaper, late]) is cheaper
    assert best([early, late, dear], cheap=True) is dear
    pair = rung("a@9 + b@9", 0.99, 0.1, 0.1, files=("a", "b"))
    assert strongest([early, late, dear, pair]) is late


def test_rank_correlations_by_hand(tmp_path: Path) -> None:
    """Ranks of students 1 2 3 4; of overlaps 1 3 2 4: 1 - 6 (0 + 1 + 1 + 0) / (4 · 15)."""
    rungs = [rung(str(n), 0.9 - n / 10, overlap, n / 10) for n, overlap in enumerate((0.1, 0.3, 0.2, 0.4))]
    hotter = rung("0", 0.1, 0.9, 0.9, temperature=2.0)
    found = correlations([*rungs, hotter])
    assert found["overlap"] == pytest.approx(1 - 12 / 60)
    assert found["teacher_accuracy"] == pytest.approx(-1)
    assert math.isnan(found["kl"])
    path = tmp_path / "ladder.jsonl"
    path.write_text("".join(one.model_dump_json() + "\n" for one in rungs))
    assert read_rungs(path) == rungs
    path.write_text("{}\n")
    with pytest.raises(InputError, match="line 1"):
        read_rungs(path)


@pytest.fixture
def chosen_set(tiny_file: Path, tmp_path: Path, short_recipes: None) -> Path:
    path = tmp_path / "set.h5"
    run_select(SelectConfig(data=str(tiny_file), output=path, clouds_per_class=2, points=32, method="random"))
    return path


def given(chosen_set: Path, tiny_file: Path, output: Path, **more: Any) -> TeachConfig:
    """Whichever teacher is the better one after four steps: between it and the student there is an assistant."""
    facts = {
        "source": str(chosen_set), "data": str(tiny_file), "output": output, "student": "nano", "steps": 4,
        "teachers": ("pointnet-small", "pointnet-light"), "snapshots": (0.5, 1.0), "temperatures": (1.0, 3.0),
    }  # fmt: skip
    return TeachConfig.checked({**facts, **more})


def steady(folder: Path) -> list[dict[str, Any]]:
    """The rungs but for their seconds."""
    lines = [json.loads(line) for line in (folder / "ladder.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if not key.endswith("seconds")} for line in lines]


def test_stopped_and_gone_on_with_is_the_same(
    chosen_set: Path, tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    whole = teach.run_teach(given(chosen_set, tiny_file, tmp_path / "whole"), said.append)
    calls, real = [], teach.train_networks

    def interrupted(*words: Any, **more: Any) -> Any:
        calls.append(words)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return real(*words, **more)

    monkeypatch.setattr(teach, "train_networks", interrupted)
    parts = given(chosen_set, tiny_file, tmp_path / "parts")
    with pytest.raises(KeyboardInterrupt):
        teach.run_teach(parts, said.append)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "parts" / "teachers").iterdir()}
    before = len(calls)
    again = teach.run_teach(parts, said.append)
    assert len(calls) - before < 1 + len(again.rungs)  # students that were there are not trained again
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert steady(tmp_path / "parts") == steady(tmp_path / "whole")
    assert (again.hard, again.chosen.teacher) == (whole.hard, whole.chosen.teacher)
    names = [one.teacher for one in whole.rungs if one.temperature == 1]
    assert names[:4] == ["pointnet-small@2", "pointnet-small@4", "pointnet-light@2", "pointnet-light@4"]
    assert " + " in names[4]
    assert " > " in names[5]
    assert len([one for one in whole.rungs if one.temperature == 3]) == 3
    for copy, file in zip(again.files, again.chosen.files, strict=True):
        assert copy.read_bytes() == (tmp_path / "parts" / "teachers" / file).read_bytes()
        assert load_network(copy).points == 32
    assert "may have been made of them" in (tmp_path / "whole" / "table.md").read_text()


def test_command_line(
    chosen_set: Path,
    tiny_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["teach", "set.h5", "--data", str(tiny_file), "--output", "out", "--student", "nano", "--steps", "2"]
    words += ["--teachers", "pointnet-small", "--snapshots", "1", "--temperatures", "2"]
    assert main([*words, "--cheap"]) == 0
    printed = capsys.readouterr().out
    assert "by agreement alone" in printed
    assert not (tmp_path / "out" / "students.jsonl").exists()
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert (tmp_path / "out" / "plot.png").stat().st_size > 1000
    follow = printed.partition("go on with: pcdistill ")[2].split()
    assert main(follow) == 0
    assert load_network(tmp_path / "student.safetensors").protocol.network == "pointnet-nano"
    assert main([*words, "--seeds", "2"]) == 2
    assert "out: a ladder of other settings (seeds), expected another folder" in capsys.readouterr().err


def test_no_teacher_where_none_helps(chosen_set: Path, tiny_file: Path, tmp_path: Path) -> None:
    config = given(chosen_set, tiny_file, tmp_path / "out")
    found, task = teach.run_teach(config, lambda text: None), teach.prepared(config)
    for hard, wanted in ((1.1, False), (-0.1, True)):
        changed = found._replace(hard=(hard,))
        assert ("--teacher" in teach.command(changed, task)) == wanted
        assert ("train without one" in teach.table(changed, task)) != wanted


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"teachers": ("pointnot",)}, "pointnot"),
        ({"student": "tini"}, "did you mean 'tiny'"),
        ({"protocol": "sweep"}, "chooses among recipes"),
        ({"data": "nowhere.h5"}, "nowhere.h5"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(
    more: dict[str, Any], says: str, chosen_set: Path, tiny_file: Path, tmp_path: Path
) -> None:
    with pytest.raises((InputError, OSError), match=says):
        teach.run_teach(given(chosen_set, tiny_file, tmp_path / "out", **more), print)
    assert not (tmp_path / "out").exists()


def test_other_peoples_files_stay(chosen_set: Path, tiny_file: Path, tmp_path: Path) -> None:
    for name in ("teacher.safetensors", "teacher_of_old.safetensors"):
        (tmp_path / name).write_bytes(b"mine")
    with pytest.raises(InputError, match=r"teacher\.safetensors of something else"):
        teach.run_teach(given(chosen_set, tiny_file, tmp_path), print)
    (tmp_path / "teacher.safetensors").unlink()
    teach.run_teach(given(chosen_set, tiny_file, tmp_path), lambda text: None)
    assert (tmp_path / "teacher_of_old.safetensors").read_bytes() == b"mine"


def test_what_is_not_a_number_never_wins() -> None:
    other, known = rung("a@1", 0.5, 0.5), rung("b@1", 0.5, 0.1)
    unknown = other.model_copy(update={"before": {**other.before, "overlap": None}})
    assert best([unknown, known], cheap=True) is best([known, unknown], cheap=True) is known


def test_inputs_are_normalised_as_in_training() -> None:
    clouds = PointClouds(0.3 * torch.rand(4, 9, 3), torch.arange(4) % 2, ("a", "b"))
    points, _ = own_inputs(clouds, recipe("published").model_copy(update={"augmentation": Augmentation()}), 0, least=4)
    torch.testing.assert_close(points.norm(dim=2).amax(1), torch.ones(4))
    torch.testing.assert_close(points.mean(1), torch.zeros(4, 3), atol=1e-6, rtol=0)


def test_the_command_says_what_was_measured(chosen_set: Path, tiny_file: Path, tmp_path: Path) -> None:
    """Of a set with soft labels and a protocol that chooses recipes, its labels and its protocol were left aside."""
    config = given(chosen_set, tiny_file, tmp_path / "out")
    found, task = teach.run_teach(config, lambda text: None), teach.prepared(config)
    worse = found._replace(hard=(1.1,))
    changed = task._replace(soft=True, trained_by=("--protocol", "tuned"))
    assert "--hard" not in teach.command(worse, task)
    assert teach.command(worse, changed).endswith("--protocol tuned --hard 1")
    assert "--protocol tuned --teacher" in teach.command(found._replace(hard=(-0.1,)), changed)
