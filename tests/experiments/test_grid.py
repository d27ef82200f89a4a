"""A grid carried out: on the real command line, and its parts in this process."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from PIL import Image

from pcdistill.artefact.artefact import Artefact
from pcdistill.cli import main
from pcdistill.clouds import PointClouds
from pcdistill.condense import spec as making
from pcdistill.condense.loop import _Run
from pcdistill.core.engine import Job, _stop_on_sigterm
from pcdistill.data import last_split, load
from pcdistill.evaluation import evaluate
from pcdistill.experiments import grid as grids
from pcdistill.experiments import making as jobs
from pcdistill.experiments import spec as specs
from pcdistill.experiments.cells import CellTask, Digests, SetTask, cells, task_of
from pcdistill.experiments.grid import jobs_of, run_grid, set_of, teacher_of
from pcdistill.experiments.spec import GridSpec
from pcdistill.results.by_budget import Line, curves, table_of
from pcdistill.results.record import Record, read_records
from pcdistill.results.table import accuracy_cell, runs_of
from pcdistill.training.recipe import protocol
from pcdistill.training.trained import load_network

SHORT = (
    "--networks",
    "pointnet-small",
    "--train-steps",
    "2",
    "--steps",
    "1",
    "--distill-seeds",
    "1",
    "--train-seeds",
    "2",
)


class Ran(NamedTuple):
    """What a command gave and printed."""

    code: int
    out: str
    err: str


def shown(job: Job) -> str:
    """What a job is about, in words."""
    return {jobs.prepare: "networks", jobs.teach: "teacher"}.get(job.work) or str(job.arguments[0])


class Compare:
    """Runs `pcdistill compare` on the tiny set, into `grid`."""

    def __init__(self, capsys: pytest.CaptureFixture[str], data: Path) -> None:
        self.capsys = capsys
        self.words = ("compare", "--data", str(data), "--output", "grid", *SHORT)

    def __call__(self, methods: str, budgets: str = "1x16@8", *more: object) -> Ran:
        self.capsys.readouterr()
        words = [*self.words, "--methods", *methods.split(), "--budgets", *budgets.split(), *map(str, more)]
        code = main(words)
        return Ran(code, *self.capsys.readouterr())


@pytest.fixture
def grid(
    capsys: pytest.CaptureFixture[str], tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Compare:
    monkeypatch.chdir(tmp_path)
    return Compare(capsys, tiny_file)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Jobs are carried out in this process, without the seconds that a new one takes; lists them as they begin."""
    begun: list[str] = []
    done: list[str] = []

    def carried_out(left: Sequence[Job], engine: str, workers: int, device: str) -> Iterator[tuple[Job, str | None]]:
        for job in left:
            assert set(job.after) <= set(done)
            begun.append(shown(job))
            done.append(job.name)
            job.work(*job.arguments)
            yield job, None

    monkeypatch.setattr(grids, "carried_out", carried_out)
    return begun


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PCDISTILL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def written(pattern: str) -> list[Path]:
    return sorted(Path("grid").glob(pattern))


def spec_of(**values: Any) -> GridSpec:
    return GridSpec.checked({"data": ["shapes"], "output": "g", "methods": ["random"], "budgets": ["1x8@8"]} | values)


def short(data: str, /, **values: Any) -> GridSpec:
    """A grid of tiny cells, as the command line has them."""
    given: dict[str, Any] = {"data": [data], "output": "grid", "networks": ["pointnet-small"], "train_steps": 2,
                             "steps": 1, "distill_seeds": 1, "train_seeds": 2, "budgets": ["1x16@8"]}  # fmt: skip
    return spec_of(**given | values)


def first_set(spec: GridSpec) -> SetTask:
    """The set of the first cell."""
    made = grids._planned(cells(spec), spec, lambda _: None)[0][0].made
    assert made is not None
    return made


def test_processes_of_their_own_keep_what_succeeds(grid: Compare, tmp_path: Path) -> None:
    """Two workers, one cell that fails; then the same command again does only what failed."""
    made = first_set(short(grid.words[2], methods=["dc"]))
    checkpoint = Path("grid", "artefacts", f"{made.key}.h5.checkpoint")
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"no checkpoint")

    ran = grid("whole dc", "1x16@8", "--workers", 2)
    assert ran.code == 2
    name = "tiny.h5 dc 1x16@8 seed 0 on pointnet-small"
    assert f"failed: {name}: grid/artefacts/{made.key}.h5.checkpoint: not a readable checkpoint" in ran.out
    assert ran.err.startswith(f"pcdistill: error: compare: 1 of 2 cells failed, as {name}: grid/")
    assert ran.err.count("\n") == 1
    assert [record.arm for record in read_records(Path("grid/records.jsonl"))] == ["whole"]
    (kept,) = written("cells/*.json")
    before = kept.read_bytes(), kept.stat().st_mtime_ns

    checkpoint.unlink()
    ran = grid("whole dc", "1x16@8", "--workers", 2)
    assert (ran.code, ran.err) == (0, "")
    assert "1 of 2 cells are there already\n" in ran.out
    assert (kept.read_bytes(), kept.stat().st_mtime_ns) == before
    assert [record.arm for record in read_records(Path("grid/records.jsonl"))] == ["whole", "dc"]
    assert {path.suffix for path in written("artefacts/*")} == {".h5", ".json"}  # no checkpoint is left

    # What a process of its own measured is what this one does.
    again = evaluate(Artefact.load(next(iter(written("artefacts/*dc*.h5")))).clouds, load(grid.words[2], "test"),
                     protocol("tuned", "pointnet-small").changed(steps=2), seeds=[0, 1])  # fmt: skip
    assert read_records(Path("grid/records.jsonl"))[1].accuracy == pytest.approx(again.accuracies)


def test_ctrl_c_ends_with_130_and_saves_what_is_at_work(grid: Compare, tmp_path: Path) -> None:
    """As from a terminal: the signal reaches the command and its cells."""
    words = [sys.executable, "-m", "pcdistill.cli", *grid.words, "--methods", "dm", "--budgets", "1x16@8"]
    words[words.index("--steps") + 1] = "100000"
    repository = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": repository, "PCDISTILL_CACHE": str(tmp_path / "cache")}
    running = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True)
    try:
        deadline = time.monotonic() + 200
        while not list(tmp_path.glob("cache/banks/*.safetensors")) and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(1)  # the loop starts right after the bank is there
        os.killpg(running.pid, signal.SIGINT)
        _, shown = running.communicate(timeout=200)
    finally:
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
    assert running.returncode == 130
    assert shown == "pcdistill: stopped with 0 of 1 cells done (the same command goes on from there)\n"
    assert [path.suffix for path in written("artefacts/*")] == [".checkpoint"]
    assert not written("cells/*")


def test_what_is_done_when_it_is_stopped_can_be_reported(
    grid: Compare, here: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = grids.carried_out

    def stopped(*asked: Any) -> Iterator[tuple[Job, str | None]]:
        for ended in real(*asked):
            yield ended
            if ended[0].work is grids.carry_out:
                raise KeyboardInterrupt

    monkeypatch.setattr(grids, "carried_out", stopped)
    ran = grid("random herding")
    assert (ran.code, ran.err.count("stopped with 1 of 2 cells done")) == (130, 1)
    assert [record.arm for record in read_records(Path("grid/records.jsonl"))] == ["random"]
    assert main(["report", "grid"]) == 0
    assert "random" in capsys.readouterr().out


def test_sigterm_saves_whole_steps_only(grid: Compare, monkeypatch: pytest.MonkeyPatch, tiny_file: Path) -> None:
    """A job that is told to end while it changes its state ends after that, and goes on to the same result."""
    usual = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    spec = short(str(tiny_file), methods=["dc"], steps=3)
    made = first_set(spec)
    real, asked = _Run._adam, [False]

    def signalled(self: Any, *more: Any) -> None:
        if self.step == 1 and not asked[0]:
            asked[0] = True
            signal.raise_signal(signal.SIGTERM)
        real(self, *more)

    try:
        _stop_on_sigterm()
        signal.raise_signal(signal.SIGINT)  # Ctrl-C reaches all processes; the first one tells the others
        with monkeypatch.context() as patch:
            patch.setattr(_Run, "_adam", signalled)
            with pytest.raises(KeyboardInterrupt, match="step 2 of 3"):
                jobs.make(made, spec)
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
    assert len(written("artefacts/*.checkpoint")) == 1
    jobs.make(made, spec)
    resumed = Artefact.load(written("artefacts/*.h5")[0])
    for path in written("*/*.*"):
        path.unlink()
    jobs.make(made, spec)
    assert Artefact.load(written("artefacts/*.h5")[0]).losses == resumed.losses


def test_a_grid_leaves_records_a_table_and_a_plot(
    grid: Compare, here: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    (tmp_path / "quick.toml").write_text("objective = 'dc'\n[options]\nouter = 3\n")
    for module in (specs, making):
        monkeypatch.setattr(module, "presets", lambda: {"krr": tmp_path / "quick.toml"})
    ran = grid("medoid preset:krr whole", "1x16@8 2x16@8", "--distill-seeds", 2)
    assert (ran.code, ran.err) == (0, "")
    assert here == [
        *(f"tiny.h5 {method} {n}x16@8 seed {seed}{job}" for method in ("medoid", "preset:krr") for n in (1, 2)
          for seed in (0, 1) for job in ("", " on pointnet-small")),
        "tiny.h5 whole seed 0 on pointnet-small",
    ]  # fmt: skip
    records = read_records(Path("grid/records.jsonl"))
    assert [(record.arm, record.clouds_per_class) for record in records] == [
        ("medoid", 1), ("medoid", 2), ("dc", 1), ("dc", 2), ("whole", None),
    ]  # fmt: skip
    assert [record.train_seeds for record in records] == [[0, 1, 100, 101]] * 4 + [[0, 1]]
    assert all(record.protocol == "tuned* v2" and record.dataset == "tiny.h5" for record in records)
    assert [record.bytes_per_class for record in records] == [48, 96, 48, 96, 8 * 1024 * 12]
    assert records[2].command == (
        "pcdistill compare --data tiny.h5 --methods preset:krr --budgets 1x16@8 --networks pointnet-small "
        "--distill-seeds 2 --train-seeds 2 --steps 1 --train-steps 2 --output grid"
    )
    assert len({record.key() for record in records}) == 5
    lines = Path("grid/table.md").read_text().splitlines()
    assert lines[2] == "| method | 1x16@8, 48 bytes per class | 2x16@8, 96 bytes per class |"
    assert [line.split("|")[1].strip() for line in lines[4:6]] == ["medoid", "preset:krr"]
    for line, own in zip(lines[4:6], (records[:2], records[2:4]), strict=True):
        for cell, record in zip(line.split("|")[2:4], own, strict=True):
            assert (
                cell.strip()
                == f"{100 * record.accuracy_mean:.1f} ± {100 * record.accuracy_std:.1f} (2 sets x 2 networks)"
            )
    assert lines[7].startswith("Whole set, 98,304 bytes per class: ")
    assert Path("grid/table.md").read_text() in ran.out
    with Image.open("grid/plot.png") as picture:
        assert (picture.format, picture.size) == ("PNG", (1080, 876))
    made = {path.name.partition("-seed")[0]: Artefact.load(path) for path in written("artefacts/*.h5")}
    assert made["tiny-h5-dc-1x16@8"].metadata.objective is not None
    assert made["tiny-h5-dc-1x16@8"].metadata.objective["outer"] == 3
    # However networks are trained here: sets serve other grids as well.
    assert all(artefact.metadata.protocol["name"] == "tuned" for artefact in made.values())

    here.clear()
    stamps = {path: path.stat().st_mtime_ns for path in written("cells/*") + written("artefacts/*")}
    ran = grid("medoid preset:krr whole", "1x16@8 2x16@8", "--distill-seeds", 2)
    assert (ran.code, here) == (0, [])
    assert ran.out.startswith("9 of 9 cells are there already\n")
    assert stamps == {path: path.stat().st_mtime_ns for path in written("cells/*") + written("artefacts/*")}


def test_validation_tests_on_train_clouds_that_are_held_out(grid: Compare, here: list[str], tiny_file: Path) -> None:
    ran = grid("random whole", "1x16@8", "--validation", 0.25)
    assert (ran.code, ran.err) == (0, "")
    assert "(the last 25% of every class of train)" in ran.out
    selected, whole = read_records(Path("grid/records.jsonl"))
    assert whole.split == "the last 25% of every class of train"
    train, held = last_split(load(tiny_file, "train"), 0.25)
    assert whole.bytes_per_class == len(train) / 3 * 1024 * 12
    (path,) = written("artefacts/*.h5")
    assert Artefact.load(path).metadata.source_fingerprint == train.fingerprint()
    how = protocol("tuned", "pointnet-small").changed(steps=2)
    assert selected.accuracy == pytest.approx(evaluate(Artefact.load(path).clouds, held, how, seeds=[0, 1]).accuracies)
    here.clear()
    grid("random whole", "1x16@8")  # another question
    name = "tiny.h5 random 1x16@8 seed 0"
    assert here == [name, f"{name} on pointnet-small", "tiny.h5 whole seed 0 on pointnet-small"]


def test_a_damaged_result_is_made_again(grid: Compare, here: list[str]) -> None:
    grid("random herding")
    first, second = written("cells/*.json")
    first.write_text(first.read_text()[:-100])
    second.write_text(second.read_text().replace('"seeds": [', '"seeds": [7,'))
    here.clear()
    assert grid("random herding").code == 0
    assert here == [f"tiny.h5 {method} 1x16@8 seed 0 on pointnet-small" for method in ("random", "herding")]


def test_without_matplotlib_all_but_the_plot_is_written(
    grid: Compare, here: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)  # an import of it fails
    Path("grid").mkdir()
    Path("grid/plot.png").write_bytes(b"of another grid")
    ran = grid("random")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.endswith(
        "no plot: matplotlib is not installed (pip install 'pcdistill[plots]')\nwrote records.jsonl, table.md to grid\n"
    )
    assert {path.name for path in Path("grid").iterdir()} == {"records.jsonl", "table.md", "cells", "artefacts"}


@pytest.mark.parametrize(
    ("methods", "budgets", "message"),
    [
        ("medoit", "1x8@8", "'medoit' (did you mean 'medoid'?)"),
        ("random", "0x8@8", "clouds_per_class = '0'"),
        ("random", "9x8@8", "9x8@8, but class 'ball' has 8 clouds"),
        ("random", "1x2000@8", "1x2000@8 of clouds of 1024 points"),
        ("random", "99B@2000x8", "99B@2000x8 of clouds of 1024 points"),
    ],
)
def test_a_wrong_grid_is_refused_before_any_work(
    methods: str, budgets: str, message: str, grid: Compare, here: list[str]
) -> None:
    ran = grid(methods, budgets)
    assert (ran.code, ran.out, here) == (2, "", [])
    assert message.replace("'0'", "0") in ran.err
    assert ran.err.count("\n") == 1
    assert not written("cells/*")


def tasks_of(methods: Sequence[str], real: PointClouds, **values: Any) -> tuple[list[CellTask], GridSpec]:
    spec = spec_of(methods=methods, **values)
    return [task_of(cell, spec, Digests(real.fingerprint(), "test", None)) for cell in cells(spec)], spec


def test_sets_that_need_one_bank_come_after_it(tiny_clouds: PointClouds, own_cache: Path, tmp_path: Path) -> None:
    tasks, spec = tasks_of(["krr", "m3d", "random"], tiny_clouds, output=str(tmp_path), budgets=["1x8@8", "2x8@8"],
                           distill_seeds=2)  # fmt: skip
    left = [task for task in tasks if task.cell.number == 0 or "m3d" not in str(task)]  # m3d has the same bank
    found = {job.name: job for job in jobs_of(left, spec, tiny_clouds)}
    made = {str(task.made): task.made.key for task in left if task.made is not None}
    (bank, other) = [name for name, job in found.items() if job.work is jobs.prepare]
    assert found[bank].after == found[other].after == ()
    for text, key in made.items():
        shared = () if "random" in text else (bank,) if text.endswith("seed 0") else (other,)
        assert found[key].after == shared
    for task in left:
        assert task.made is not None
        assert found[task.key].after == (task.made.key,)
    few = [task for task in tasks if task.cell.number == 0 and task.cell.size == "1x8@8" and "m3d" not in str(task)]
    assert not [job for job in jobs_of(few, spec, tiny_clouds) if job.work is jobs.prepare]  # one set builds its own


def test_a_bank_is_built_once(
    grid: Compare, here: list[str], own_cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    quick = "objective = '{}'\n[options.bank]\nnetworks = 1\npoints = 16\ntrained_steps = [0, 0]\n"
    for name in ("krr", "gm"):
        (tmp_path / f"{name}.toml").write_text(quick.format(name))
    for module in (specs, making):
        monkeypatch.setattr(module, "presets", lambda: {name: tmp_path / f"{name}.toml" for name in ("krr", "gm")})
    assert grid("preset:krr preset:gm", "1x16@8 2x16@8").code == 0
    assert here.count("networks") == 2
    kept = {path: path.stat().st_mtime_ns for path in own_cache.rglob("*.safetensors")}
    assert len(kept) == 3  # two banks, and gradients
    here.clear()
    assert grid("preset:krr preset:gm", "1x16@8 2x16@8", "--distill-seeds", 1, "--validation", 0.5).code == 0
    assert here.count("networks") == 2  # of other data
    here.clear()
    assert grid("preset:krr preset:gm", "1x32@8 2x32@8").code == 0
    assert "networks" not in here  # they are there
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in kept.items())


def line_of(record: Record) -> Line:
    """A record as grids show it."""
    size = "" if record.clouds_per_class is None else f"{record.clouds_per_class}x{record.points}@{record.bits}"
    nbytes = (record.clouds_per_class or 0) * record.points * 3 * (record.bits or 0) / 8
    return Line(record, record.arm, size, nbytes or record.bytes_per_class)


def test_a_dry_run_says_what_is_left_and_does_nothing(grid: Compare, here: list[str]) -> None:
    pytest.importorskip("matplotlib")
    assert grid("random", "1x16@8").code == 0
    begun, files = list(here), sorted(Path("grid").rglob("*"))
    ran = grid("random medoid", "1x16@8", "--dry-run")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        "tiny.h5 random 1x16@8 seed 0 on pointnet-small: there",
        "tiny.h5 medoid 1x16@8 seed 0 on pointnet-small: 2 networks to train",
        "1 of 2 cells to do, and 1 sets, banks of networks and teachers before",
    ]
    assert (here, sorted(Path("grid").rglob("*"))) == (begun, files)


def test_every_set_is_made_once_for_all_networks(grid: Compare, here: list[str], tiny_file: Path) -> None:
    pytest.importorskip("matplotlib")
    place = grid.words.index("--networks")
    grid.words = (*grid.words[:place], *grid.words[place + 2 :])
    names = ("pointnet-small", "pointnet-linear")
    ran = grid("random medoid whole", "1x16@8", "--networks", *names)
    assert (ran.code, ran.err) == (0, "")
    assert here == [
        *(f"tiny.h5 {method} 1x16@8 seed 0{job}" for method in ("random", "medoid")
          for job in ("", *(f" on {name}" for name in names))),
        *(f"tiny.h5 whole seed 0 on {name}" for name in names),
    ]  # fmt: skip
    records = read_records(Path("grid/records.jsonl"))
    assert [(record.arm, record.network) for record in records] == [
        (arm, name) for arm in ("random", "medoid", "whole") for name in names
    ]
    assert len({record.key() for record in records}) == 6
    assert " --networks pointnet-small " in records[0].command
    made = Artefact.load(written("artefacts/*random*.h5")[0])
    for record in records[:2]:
        how = protocol("tuned", record.network).changed(steps=2)
        again = evaluate(made.clouds, load(tiny_file, "test"), how, seeds=[0, 1])
        assert record.accuracy == pytest.approx(again.accuracies)
    lines = Path("grid/table.md").read_text().splitlines()
    assert lines[2] == "| method | budget | bytes per class | pointnet-small | pointnet-linear |"
    for line, own in zip(lines[4:7], (records[:2], records[2:4], records[4:]), strict=True):
        words = [word.strip() for word in line.strip("|").split("|")]
        budget = "" if own[0].arm == "whole" else "1x16@8"
        assert words[:3] == [own[0].arm, budget, f"{own[0].bytes_per_class:,.0f}"]
        assert words[3:] == [f"{accuracy_cell(record)} ({runs_of(record)})" for record in own]
    drawn, levels = curves(list(map(line_of, records)))
    assert [curve.label for curve in drawn] == [f"{arm}, {name}" for arm in ("random", "medoid") for name in names]
    assert [level.label for level in levels] == [f"whole set, {name}, 98,304 bytes" for name in names]
    assert Path("grid/plot.png").exists()

    here.clear()  # another network needs no other sets
    assert grid("random", "1x16@8", "--networks", "pointnet-small", "pointnet-small-layernorm").code == 0
    assert here == ["tiny.h5 random 1x16@8 seed 0 on pointnet-small-layernorm"]
    first = line_of(read_records(Path("grid/records.jsonl"))[0])
    assert len(table_of([first]).splitlines()) == 5  # one network: the usual table


def test_a_damaged_set_is_made_again(grid: Compare, here: list[str]) -> None:
    grid("random")
    for pattern, content in (("artefacts/*.h5", b"no artefact"), ("artefacts/*.json", b"{}")):
        written("cells/*.json")[0].unlink()
        written(pattern)[0].write_bytes(content)
        here.clear()
        assert grid("random").code == 0
        assert here == [f"tiny.h5 random 1x16@8 seed 0{job}" for job in ("", " on pointnet-small")]
    written("cells/*.json")[0].unlink()
    here.clear()
    assert grid("random").code == 0
    assert here == ["tiny.h5 random 1x16@8 seed 0 on pointnet-small"]


def test_a_table_leaves_gaps_and_tells_other_sizes(grid: Compare, here: list[str]) -> None:
    grid("random herding", "1x16@8 2x16@8")
    records = read_records(Path("grid/records.jsonl"))
    first, second, larger = map(line_of, (*records[:2], records[3]))
    larger = larger._replace(record=records[3].model_copy(update={"bytes_per_class": 1100.0}))
    lines = table_of([first, second, larger]).splitlines()
    assert lines[-1].split("|")[2].strip() == "–"
    assert lines[-1].rstrip(" |").endswith("(1 set x 2 networks, 1,100 bytes)")
    drawn, levels = curves([second, first, larger])
    assert [(curve.label, list(curve.sizes)) for curve in drawn] == [("random", [48, 96]), ("herding", [1100])]
    assert not levels
    assert all(math.isfinite(value) for curve in drawn for value in (*curve.means, *curve.deviations))


def test_sets_may_be_shared_and_committed_records_renewed(grid: Compare, here: list[str], tiny_file: Path) -> None:
    more = ("--sets", "shared", "--records", "kept.jsonl")
    assert grid("random", "1x16@8 200B", *more).code == 0
    old = read_records(Path("kept.jsonl"))
    assert [record.storage for record in old] == ["points", "voxels"]
    assert old[1].bytes_per_class <= 200
    here.clear()
    spec = short(str(tiny_file), sets="shared", output="elsewhere", arms={"mine": {"method": "random"}}, train_seeds=1,
                 methods=["mine"], records="kept.jsonl", facts={"variant": ""}, train_steps=3)  # fmt: skip
    run_grid(spec)
    assert here == ["tiny.h5 mine 1x16@8 seed 0 on pointnet-small"]  # its set was there
    renewed = read_records(Path("kept.jsonl"))
    assert renewed[1:] == old[1:]
    assert [len(record.accuracy) for record in renewed] == [1, 2]
    assert set_of(spec).parent == Path("shared")


def test_labels_stored_and_given_while_training(grid: Compare, here: list[str], tiny_file: Path) -> None:
    given: dict[str, Any] = {
        "supervision": {"stored": {"by": "stored", "temperature": 4.0}, "online": {"soft_loss": "mse"},
                        "mix": {"policy": {"kind": "mix"}, "soft_loss": "mse"},
                        "file": {"by": "file", "temperature": 2.0}},
        "teacher": {"network": "pointnet-tiny", "steps": 3}, "whole_points": 16, "facts": {"labels": "{labels}"},
    }  # fmt: skip
    spec = short(str(tiny_file), methods=["random"], labels=["hard", "stored", "online", "mix", "file"], **given)
    hard, stored, online, mix, file = run_grid(spec)
    assert here.count("teacher") == 1
    assert (
        sum(" on " not in name for name in here) == 4
    )  # the teacher, a set without its labels, one with them and one with it
    facts = [record.model_dump() for record in (hard, stored, online, mix, file)]
    assert [one["labels"] for one in facts] == ["hard", "stored", "online", "mix", "file"]
    assert "teacher" not in facts[0]
    assert stored.bytes_per_class > hard.bytes_per_class == online.bytes_per_class == mix.bytes_per_class
    assert 3 * (file.bytes_per_class - hard.bytes_per_class) > 20_000  # a byte for a weight
    assert [one["recipe"]["temperature"] for one in facts[1:]] == [4, 1, 1, 2]
    assert [one["recipe"]["soft_loss"] for one in facts[1:]] == ["kl", "mse", "mse", "kl"]
    assert all(one["teacher"]["network"] == "pointnet-tiny" for one in facts[1:])
    assert facts[1]["labelled_per_network"] == 3
    assert facts[2]["labelled_per_network"] == facts[4]["labelled_per_network"] == 2 * 32  # steps x batch
    assert facts[2]["labelling_gflops"] == pytest.approx(64 / 3 * facts[1]["labelling_gflops"])
    assert facts[3]["labelling_seconds_per_network"] > 0
    assert facts[2]["teacher_seconds"] == facts[1]["teacher_seconds"] > 0
    network = load_network(teacher_of(short(str(tiny_file), methods=["whole"], labels=["online"], **given)))
    assert (network.protocol.network, network.protocol.recipe.steps, network.points) == ("pointnet-tiny", 3, 16)
    assert here.count("teacher") == 1


def test_a_set_beside_another_and_one_that_complements_it(
    grid: Compare, here: list[str], tiny_file: Path, own_cache: Path
) -> None:
    bank = {"options": {"bank": {"networks": 1, "points": 16, "trained_steps": [0, 0]}}}
    arms = {
        "half": {"method": "krr", "budgets": ["60B@8x6"], "settings": bank},
        "other": {"method": "krr", "budgets": ["60B@8x6"], "settings": {**bank, "init": "random"}, "first_seed": 100,
                  "beside": "half", "focus": "half"},
    }  # fmt: skip
    half, both = run_grid(short(str(tiny_file), methods=["half", "other"], arms=arms, distill_seeds=2, steps=2))
    made = [Artefact.load(path) for path in written("artefacts/*.h5")]
    seeds = {artefact.metadata.seed: artefact for artefact in made}
    assert sorted(seeds) == [0, 1, 100, 101]
    for number in (0, 1):
        assert seeds[100 + number].metadata.objective is not None
        assert "focus" in seeds[100 + number].metadata.objective
        assert "focus" not in (seeds[number].metadata.objective or {})
    assert both.bytes_per_class == seeds[0].bytes_per_class + seeds[100].bytes_per_class
    assert half.bytes_per_class == seeds[0].bytes_per_class
    assert both.clouds_per_class == sum(seeds[number].metadata.clouds_per_class for number in (0, 100))
    assert both.train_seeds == half.train_seeds == [0, 1, 100, 101]
    assert both.distill_seconds > half.distill_seconds
    place = [here.index(f"tiny.h5 {arm} 60B@8x6 seed 0") for arm in ("half", "other")]
    assert place == sorted(place)


def test_conditions_are_records_of_one_training(grid: Compare, here: list[str], tiny_file: Path) -> None:
    plain = short(str(tiny_file), methods=["random"])
    spec = short(str(tiny_file), methods=["random", "whole"], conditions=["z", "64"], rotate="z", thin=True)
    found = run_grid(spec)
    facts = [record.model_dump() for record in found]
    assert [(one["arm"], one["condition"]) for one in facts] == [
        (arm, condition) for arm in ("random", "whole") for condition in ("clean", "z", "64")
    ]
    assert {(one["train_rotation"], one["thin"], one["protocol"]) for one in facts} == {("z", True, "tuned* v2")}
    assert len({record.key() for record in found}) == 6
    assert sum(" on " in name for name in here) == 2
    text = Path("grid/table.md").read_text()
    assert all(f"| {row} |" in text for row in ("clean", "z/z", "64 points"))
    (unturned,) = run_grid(plain.model_copy(update={"conditions": ("clean",)}))
    (usual,) = run_grid(plain)
    assert unturned.accuracy == usual.accuracy


def test_several_data_sets_have_tables_of_their_own(grid: Compare, here: list[str], tiny_file: Path) -> None:
    spec = short(str(tiny_file), data=[str(tiny_file), "shapes"], methods=["random"], train_seeds=1)
    assert [record.dataset for record in run_grid(spec)] == ["tiny.h5", "shapes"]
    text = Path("grid/table.md").read_text()
    assert text.count("| method | 1x16@8, 48 bytes per class |") == 2
    records = [json.loads(line)["command"] for line in Path("grid/records.jsonl").read_text().splitlines()]
    assert ["--data tiny.h5 " in records[0], "--data shapes " in records[1]] == [True, True]


def test_a_file_asks_for_what_flags_cannot(grid: Compare, here: list[str], tmp_path: Path) -> None:
    (tmp_path / "grid.toml").write_text(
        f"data = ['{grid.words[2]}']\noutput = 'grid'\nbudgets = ['1x16@8']\nsteps = 1\ntrain_steps = 2\n"
        "networks = ['pointnet-small']\n\n[arms.few]\nmethod = 'random'\nsettings = { features = 'raw' }\n\n"
        "[[grids]]\nmethods = ['few']\n\n[[grids]]\nmethods = ['whole']\ntrain_seeds = 1\n"
    )
    assert main(["compare", "--config", "grid.toml", "--only", "few", "whole"]) == 0
    few, whole = read_records(Path("grid/records.jsonl"))
    assert (few.variant, len(few.accuracy), len(whole.accuracy)) == ("few", 9, 1)
    assert main(["compare", "--config", "grid.toml", "--only", "fewer"]) == 2
    assert "only: no cell of 'fewer'" in grid.capsys.readouterr().err
