"""The search for a teacher: stopped, gone on with, and what it says at the end."""

import json
from pathlib import Path
from typing import Any

import pytest

from pcdistill.cli import main
from pcdistill.commands.select import Select
from pcdistill.core.errors import InputError
from pcdistill.experiments import advice, teachers
from pcdistill.experiments.preparation import prepared
from pcdistill.experiments.search import TeachersSpec
from pcdistill.experiments.teachers import search
from pcdistill.training.loop import train_networks
from pcdistill.training.trained import load_network


@pytest.fixture
def chosen_set(tiny_file: Path, tmp_path: Path, short_recipes: None) -> Path:
    path = tmp_path / "set.h5"
    Select(data=str(tiny_file), output=path, clouds_per_class=2, points=32, method="random").run([].append)
    return path


def given(chosen_set: Path, tiny_file: Path, output: Path, **more: Any) -> TeachersSpec:
    facts = {
        "source": str(chosen_set), "data": str(tiny_file), "output": output, "student": "nano", "train_steps": 4,
        "teachers": ("pointnet-small", "pointnet-tiny"), "shares": (0.5, 1.0), "temperatures": (1.0, 3.0),
    }  # fmt: skip
    return TeachersSpec.checked({**facts, **more})


def steady(folder: Path) -> list[dict[str, Any]]:
    """The candidates but for their seconds."""
    lines = [json.loads(line) for line in (folder / "candidates.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if not key.endswith("seconds")} for line in lines]


def test_stopped_and_gone_on_with_is_the_same(
    chosen_set: Path, tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    whole = search(given(chosen_set, tiny_file, tmp_path / "whole"), said.append)
    calls, real = [], train_networks

    def interrupted(*words: Any, **more: Any) -> Any:
        calls.append(words)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return real(*words, **more)

    monkeypatch.setattr(teachers, "train_networks", interrupted)
    parts = given(chosen_set, tiny_file, tmp_path / "parts")
    with pytest.raises(KeyboardInterrupt):
        search(parts, said.append)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "parts" / "teachers").iterdir()}
    before = len(calls)
    again = search(parts, said.append)
    assert len(calls) - before < 1 + len(again.candidates)  # students that were there are not trained again
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert steady(tmp_path / "parts") == steady(tmp_path / "whole")
    assert (again.hard, again.chosen.teacher) == (whole.hard, whole.chosen.teacher)
    names = [one.teacher for one in whole.candidates if one.temperature == 1]
    assert names[:4] == ["pointnet-small@2", "pointnet-small@4", "pointnet-tiny@2", "pointnet-tiny@4"]
    assert " + " in names[4]
    assert " > " in names[5]
    assert len([one for one in whole.candidates if one.temperature == 3]) == 3
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
    words = [
        "teachers",
        "set.h5",
        "--data",
        str(tiny_file),
        "--output",
        "out",
        "--student",
        "nano",
        "--train-steps",
        "2",
    ]
    words += ["--teachers", "pointnet-small", "--shares", "1", "--temperatures", "2"]
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
    assert main([*words, "--train-seeds", "2"]) == 2
    assert "out: a search of other settings (seeds), expected another folder" in capsys.readouterr().err


def test_no_teacher_where_none_helps(chosen_set: Path, tiny_file: Path, tmp_path: Path) -> None:
    spec = given(chosen_set, tiny_file, tmp_path / "out")
    found, task = search(spec, lambda text: None), prepared(spec)
    for hard, expected in ((1.1, False), (-0.1, True)):
        changed = found._replace(hard=(hard,))
        assert ("--teacher" in advice.command(changed, task)) == expected
        assert ("train without one" in advice.table(changed, task)) != expected


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
        search(given(chosen_set, tiny_file, tmp_path / "out", **more), print)
    assert not (tmp_path / "out").exists()


def test_other_peoples_files_stay(chosen_set: Path, tiny_file: Path, tmp_path: Path) -> None:
    for name in ("teacher.safetensors", "teacher_of_old.safetensors"):
        (tmp_path / name).write_bytes(b"mine")
    with pytest.raises(InputError, match=r"teacher\.safetensors of something else"):
        search(given(chosen_set, tiny_file, tmp_path), print)
    (tmp_path / "teacher.safetensors").unlink()
    search(given(chosen_set, tiny_file, tmp_path), lambda text: None)
    assert (tmp_path / "teacher_of_old.safetensors").read_bytes() == b"mine"


def test_the_command_says_what_was_measured(chosen_set: Path, tiny_file: Path, tmp_path: Path) -> None:
    """Of a set with soft labels and a protocol that chooses recipes, its labels and its protocol were left aside."""
    spec = given(chosen_set, tiny_file, tmp_path / "out")
    found, task = search(spec, lambda text: None), prepared(spec)
    worse = found._replace(hard=(1.1,))
    changed = task._replace(soft=True, trained_by=("--protocol", "tuned"))
    assert "--hard" not in advice.command(worse, task)
    assert advice.command(worse, changed).endswith("--protocol tuned --hard 1")
    assert "--protocol tuned --teacher" in advice.command(found._replace(hard=(-0.1,)), changed)


@pytest.mark.parametrize(("old", "new"), [("snapshots", "shares"), ("steps", "train-steps"), ("seeds", "train-seeds")])
def test_old_flags_say_what_they_are_called_now(old: str, new: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["teachers", "shapes", "--output", "out", f"--{old}", "1"]) == 2
    assert f"'--{old}' is called '--{new}' now" in capsys.readouterr().err
