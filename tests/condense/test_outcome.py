"""Whether a run made its set better: judged under the same draws, said, and told by the exit code."""

import logging
import re
from pathlib import Path
from typing import Any

import pytest
import torch

import pcdistill as pcd
from pcdistill.cli import main
from pcdistill.clouds import PointClouds
from pcdistill.condense.outcome import Outcome

QUICK = {"bank": {"trained_steps": (0, 0), "points": 16}}
FEW: dict[str, Any] = {"clouds_per_class": 1, "points": 16, "members": 1, "options": QUICK}
FLAGS = ("--clouds-per-class", "1", "--points", "16", "--members", "1", "--steps", "5", "--options",
         "bank.trained_steps=[0, 0]", "bank.points=16")  # fmt: skip


class Judge(Outcome):
    """Keeps what it is told."""

    def judged(self, before: float, after: float) -> None:
        super().judged(before, after)
        self.losses = before, after


def judged(clouds: PointClouds, **asked: Any) -> tuple[Judge, pcd.Artefact]:
    judge = Judge()
    return judge, pcd.distill(clouds, followers=[judge], **FEW, **asked)


@pytest.mark.parametrize("objective", ["krr", "dm"])
def test_a_run_that_helps_is_not_blamed_for_its_draws(objective: str, tiny_clouds: PointClouds) -> None:
    for seed in range(3):
        judge, _ = judged(tiny_clouds, objective=objective, steps=20, seed=seed)
        assert judge.worse == ""
        before, after = judge.losses
        assert after < before


@pytest.mark.parametrize(("lr", "words"), [(1e6, "the loss rose from"), (1e-12, "the loss never fell from")])
def test_a_run_that_makes_things_worse_is_said_from_python(
    lr: float, words: str, tiny_clouds: PointClouds, caplog: pytest.LogCaptureFixture
) -> None:
    judge, _ = judged(tiny_clouds, lr=lr, steps=5)
    assert judge.worse.startswith(words)
    (record,) = [one for one in caplog.records if one.name == "pcdistill"]
    assert (record.levelno, record.getMessage()) == (logging.WARNING, f"distill: {judge.worse} (a lower lr may help)")


def test_judging_leaves_the_result_alone(tiny_clouds: PointClouds, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to judge: the clouds are put back, and snapshots and losses are those of the steps."""
    for lr in (0.02, 1e6):
        made = judged(tiny_clouds, lr=lr, steps=4, snapshots=1)[1]
        with monkeypatch.context() as patch:
            patch.setattr(pcd.condense.loop._Run, "judged", lambda run: (1.0, 0.0))
            alone = judged(tiny_clouds, lr=lr, steps=4, snapshots=1)[1]
        assert torch.equal(made.clouds.points, alone.clouds.points)
        assert made.losses == alone.losses
        assert len(made.losses) == 4
        assert all(torch.equal(one, other) for one, other in zip(made.snapshots, alone.snapshots, strict=True))


def test_no_steps_are_not_judged(tiny_clouds: PointClouds) -> None:
    judge, _ = judged(tiny_clouds, steps=0)
    assert not hasattr(judge, "losses")


def test_a_run_that_makes_things_worse_is_said_and_exits_with_1(
    tiny_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["distill", "--data", str(tiny_file), *FLAGS, "--output", str(tmp_path / "a.h5")]
    assert main([*words, "--lr", "1e6"]) == 1
    shown = capsys.readouterr()
    assert "a.h5: written, but the loss rose from" in shown.err
    assert shown.err.count("\n") == 1
    assert pcd.Artefact.load(tmp_path / "a.h5").losses[1] > 0
    assert main([*words, "--lr", "1e6"]) == 2  # there is one now
    assert main([*words, "--lr", "1e6", "--force"]) == 0
    assert "a.h5: the loss rose from" in capsys.readouterr().err
    assert main([*words, "--force"]) == 0
    assert capsys.readouterr().err == ""


def test_a_loss_that_is_no_number_exits_with_1(
    tiny_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["distill", "--data", str(tiny_file), *FLAGS, "--output", str(tmp_path / "a.h5"), "--lr", "1e38"]
    assert main([*words, "--objective", "dm", "--bits", "32"]) == 1
    shown = capsys.readouterr().err
    assert "expected a finite one (lower --lr)" in shown
    assert shown.count("\n") == 1
    assert not (tmp_path / "a.h5").exists()
    assert (tmp_path / "a.h5.checkpoint").exists()


def test_what_comes_from_the_cache_is_said(
    tiny_file: Path, tmp_path: Path, own_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["distill", "--data", str(tiny_file), *FLAGS, "--output"]
    assert main([*words, str(tmp_path / "a.h5")]) == 0
    assert re.search(r"distilling, networks or experts \(\d+ s, kept for next time\)", capsys.readouterr().out)
    assert main([*words, str(tmp_path / "b.h5")]) == 0
    assert re.search(r"distilling, networks or experts \(from the cache; \d+ s when made\)", capsys.readouterr().out)
