"""The grid of methods and budgets: on the real command line, and its parts in this process."""

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

from pcdistill import compare, config, jobs
from pcdistill.cli import main
from pcdistill.clouds import PointClouds
from pcdistill.compare import Cell, Task, _command, cells, jobs_of, parse_budget, plans_of, settings, table
from pcdistill.config import CompareConfig
from pcdistill.data import load, validation_split
from pcdistill.distill import _Run
from pcdistill.engine import Job, _stop_on_sigterm
from pcdistill.errors import InputError
from pcdistill.evaluation import evaluate, read_records
from pcdistill.storage import Artefact, Budget

SHORT = ("--network", "pointnet-small", "--train-steps", "2", "--steps", "1", "--train-seeds", "2")


class Ran(NamedTuple):
    """What a command gave and printed."""

    code: int
    out: str
    err: str


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

    def carried_out(left: Sequence[Job], engine: str, workers: int) -> Iterator[tuple[Job, str | None]]:
        for job in left:
            assert set(job.after) <= set(begun)
            begun.append(job.name)
            job.work(*job.arguments)
            yield job, None

    monkeypatch.setattr(compare, "carried_out", carried_out)
    return begun


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PCDISTILL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def written(pattern: str) -> list[Path]:
    return sorted(Path("grid").glob(pattern))


def configured(**values: Any) -> CompareConfig:
    return CompareConfig.checked(
        {"data": "shapes", "output": "g", "methods": ["random"], "budgets": ["1x8@8"]} | values
    )


def test_processes_of_their_own_keep_what_succeeds(grid: Compare, tmp_path: Path) -> None:
    """Two workers, one cell that fails; then the same command again does only what failed."""
    given = configured(
        data=grid.words[2], output="grid", methods=["dc"], network="pointnet-small", train_steps=2, steps=1,
        train_seeds=2, budgets=["1x16@8"],
    )  # fmt: skip
    (task,), _ = compare._planned(cells(given), given, plans_of(given))
    checkpoint = Path("grid", "artefacts", f"{task.set_key}.h5.checkpoint")
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"no checkpoint")

    ran = grid("whole dc", "1x16@8", "--workers", 2)
    assert ran.code == 2
    place = f"grid/artefacts/{task.set_key}.h5.checkpoint"
    assert f"failed: dc 1x16@8 seed 0 on pointnet-small: {place}: not a readable checkpoint" in ran.out
    start = "pcdistill: error: compare: 1 of 2 cells failed, as dc 1x16@8 seed 0 on pointnet-small: grid/"
    assert ran.err.startswith(start)
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
    made = Artefact.load(next(path for path in written("artefacts/dc*.h5")))
    again = evaluate(made.clouds, load(grid.words[2], "test"), plans_of(given)[0], [0, 1])
    assert read_records(Path("grid/records.jsonl"))[1].accuracy == pytest.approx(again.accuracies)


def test_ctrl_c_ends_with_130_and_saves_what_is_at_work(grid: Compare, tmp_path: Path) -> None:
    """As from a terminal: the signal reaches the command and its cells."""
    words = [sys.executable, "-m", "pcdistill.cli", *grid.words, "--methods", "dm", "--budgets", "1x16@8"]
    words[words.index("--steps") + 1] = "100000"
    repository = str(Path(__file__).parent.parent)
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


def test_sigterm_saves_whole_steps_only(grid: Compare, monkeypatch: pytest.MonkeyPatch, tiny_file: Path) -> None:
    """A cell that is told to end while it changes its state ends after that, and goes on to the same result."""
    usual = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    given = configured(
        data=str(tiny_file), output="grid", methods=["dc"], budgets=["1x16@8"], network="pointnet-small",
        train_steps=2, steps=3, train_seeds=1,
    )  # fmt: skip
    (task,), _ = compare._planned(cells(given), given, plans_of(given))
    real, asked = _Run._adam, [False]

    def told(self: Any, *more: Any) -> None:
        if self.step == 1 and not asked[0]:
            asked[0] = True
            signal.raise_signal(signal.SIGTERM)
        real(self, *more)

    try:
        _stop_on_sigterm()
        signal.raise_signal(signal.SIGINT)  # Ctrl-C reaches all processes; the first one tells the others
        with monkeypatch.context() as patch:
            patch.setattr(_Run, "_adam", told)
            with pytest.raises(KeyboardInterrupt, match="step 2 of 3"):
                compare.make(task, given)
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
    assert len(written("artefacts/*.checkpoint")) == 1
    compare.make(task, given)
    resumed = Artefact.load(written("artefacts/*.h5")[0])
    for path in written("*/*.*"):
        path.unlink()
    compare.make(task, given)
    assert Artefact.load(written("artefacts/*.h5")[0]).losses == resumed.losses


def test_a_grid_leaves_records_a_table_and_a_plot(
    grid: Compare, here: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    (tmp_path / "quick.toml").write_text("objective = 'dc'\n[options]\nouter = 3\n")
    for module in (compare, config):
        monkeypatch.setattr(module, "presets", lambda: {"krr": tmp_path / "quick.toml"})
    ran = grid("medoid preset:krr whole", "1x16@8 2x16@8", "--distill-seeds", 2)
    assert (ran.code, ran.err) == (0, "")
    assert here == [
        *(f"{method} {n}x16@8 seed {seed}{job}" for method in ("medoid", "preset:krr") for n in (1, 2)
          for seed in (0, 1) for job in ("", " on pointnet-small")),
        "whole seed 0 on pointnet-small",
    ]  # fmt: skip
    records = read_records(Path("grid/records.jsonl"))
    assert [(record.arm, record.clouds_per_class) for record in records] == [
        ("medoid", 1), ("medoid", 2), ("dc", 1), ("dc", 2), ("whole", None),
    ]  # fmt: skip
    assert [record.train_seeds for record in records] == [[0, 1, 100, 101]] * 4 + [[0, 1]]
    assert all(record.protocol == "tuned* v2" and record.dataset == "tiny.h5" for record in records)
    assert [record.bytes_per_class for record in records] == [48, 96, 48, 96, 8 * 1024 * 12]
    assert records[2].command == (
        "pcdistill compare --data tiny.h5 --output grid --methods medoid preset:krr whole --budgets 1x16@8 2x16@8 "
        "--distill-seeds 2 --train-seeds 2 --network pointnet-small --steps 1 --train-steps 2"
    )
    assert len({record.key() for record in records}) == 5
    lines = Path("grid/table.md").read_text().splitlines()
    assert lines[2] == "| method | 1x16@8, 48 bytes per class | 2x16@8, 96 bytes per class |"
    assert [line.split("|")[1].strip() for line in lines[4:6]] == ["medoid", "preset:krr"]
    for line, own in zip(lines[4:6], (records[:2], records[2:4]), strict=True):
        for cell, record in zip(line.split("|")[2:4], own, strict=True):
            assert cell.strip() == f"{100 * record.accuracy_mean:.1f} ± {100 * record.accuracy_std:.1f} (n = 4)"
    assert lines[7].startswith("Whole set, 98,304 bytes per class: ")
    assert Path("grid/table.md").read_text() in ran.out
    with Image.open("grid/plot.png") as picture:
        assert (picture.format, picture.size) == ("PNG", (1152, 720))
    made = {path.name.partition("-seed")[0]: Artefact.load(path) for path in written("artefacts/*.h5")}
    assert made["preset-krr-1x16@8"].metadata.objective is not None
    assert made["preset-krr-1x16@8"].metadata.objective["outer"] == 3
    assert all(artefact.metadata.protocol["name"] == "tuned*" for artefact in made.values())

    here.clear()
    stamps = {path: path.stat().st_mtime_ns for path in written("cells/*") + written("artefacts/*")}
    ran = grid("medoid preset:krr whole", "1x16@8 2x16@8", "--distill-seeds", 2)
    assert (ran.code, here) == (0, [])
    assert ran.out.startswith("9 of 9 cells are there already\n")
    assert stamps == {path: path.stat().st_mtime_ns for path in written("cells/*") + written("artefacts/*")}


def test_validation_tests_on_train_clouds_that_are_held_out(grid: Compare, here: list[str], tiny_file: Path) -> None:
    ran = grid("random whole", "1x16@8", "--validation", 0.25)
    assert (ran.code, ran.err) == (0, "")
    assert "(0.25 of train held out)" in ran.out
    selected, whole = read_records(Path("grid/records.jsonl"))
    assert whole.model_extra is not None
    assert whole.model_extra["split"] == "0.25 of train held out"
    train, held = validation_split(load(tiny_file, "train"), 0.25, 0)
    assert whole.bytes_per_class == len(train) / 3 * 1024 * 12
    (path,) = written("artefacts/*.h5")
    assert Artefact.load(path).metadata.source_fingerprint == train.fingerprint()
    (plan,) = plans_of(configured(network="pointnet-small", train_steps=2))
    assert selected.accuracy == pytest.approx(evaluate(Artefact.load(path).clouds, held, plan, [0, 1]).accuracies)
    here.clear()
    grid("random whole", "1x16@8")  # another question
    name = "random 1x16@8 seed 0"
    assert here == [name, f"{name} on pointnet-small", "whole seed 0 on pointnet-small"]


def test_a_damaged_result_is_made_again(grid: Compare, here: list[str]) -> None:
    grid("random herding")
    first, second = written("cells/*.json")
    first.write_text(first.read_text()[:-100])
    second.write_text(second.read_text().replace('"train_seeds": 2', '"train_seeds": 3'))
    here.clear()
    assert grid("random herding").code == 0
    assert here == [f"{method} 1x16@8 seed 0 on pointnet-small" for method in ("random", "herding")]


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
        ("preset:none", "1x8@8", "'preset:none' (did you mean 'preset:"),
        ("random random", "1x8@8", "'random' twice"),
        ("random", "1x8@8 1×8@8", "'1x8@8' twice"),
        ("random", "8@8", "clouds x points @ bits as in 4x128@8"),
        ("random", "0x8@8", "at least 1"),
        ("random", "1x8@13", "2 to 12 (fixed point)"),
        ("random", "9x8@8", "9x8@8, but class 'ball' has 8 clouds"),
        ("random", "1x2000@8", "1x2000@8 of clouds of 1024 points"),
    ],
)
def test_a_wrong_grid_is_refused_before_any_work(
    methods: str, budgets: str, message: str, grid: Compare, here: list[str]
) -> None:
    ran = grid(methods, budgets)
    assert (ran.code, ran.out, here) == (2, "", [])
    assert message in ran.err
    assert not written("cells/*")


def test_unknown_names_are_refused() -> None:
    with pytest.raises(InputError, match="pointnet-smal"):
        plans_of(configured(network="pointnet-smal"))
    with pytest.raises(InputError, match="tunned"):
        plans_of(configured(protocol="tunned"))
    with pytest.raises(InputError, match="pointnet-smal"):
        plans_of(configured(networks=["pointnet", "pointnet-smal"]))
    with pytest.raises(InputError, match="'pointnet' twice, expected each once"):
        plans_of(configured(networks=["pointnet", "pointnet"]))
    with pytest.raises(InputError, match="pointnet-linear as network and pointnet, expected one of the two"):
        plans_of(configured(network="pointnet-linear", networks=["pointnet"]))


def test_budgets_and_plans() -> None:
    assert parse_budget(" 4x128@8 ") == Budget(clouds_per_class=4, points=128, bits=8)
    (plan,) = plans_of(configured(protocol="published", train_steps=7))
    assert (plan.name, plan.recipe.steps, plan.recipe.total_steps(100)) == ("published*", 7, 7)
    assert [plan.name for plan in plans_of(configured())] == ["tuned"]
    plans = plans_of(configured(networks=["pointnet-small", "pointnet"], train_steps=7))
    assert [(plan.name, plan.network) for plan in plans] == [("tuned*", "pointnet-small"), ("tuned*", "pointnet")]


def test_the_grid_has_the_whole_set_once() -> None:
    grid = cells(configured(methods=["random", "whole"], budgets=["1x8@8", "2x8@8"], distill_seeds=2))
    one, two = Budget(1, 8, 8), Budget(2, 8, 8)
    assert grid == [*(Cell("random", budget, seed) for budget in (one, two) for seed in (0, 1)), Cell("whole", None, 0)]


def task_of(method: str = "krr", budget: str = "1x8@8", seed: int = 0, data: str = "d", **values: Any) -> Task:
    given = configured(**values)
    cell, plan = Cell(method, parse_budget(budget), seed), plans_of(given)[0]
    return Task(cell, plan.network, settings(cell, given, plan, [data, "test"]))


def test_a_key_changes_with_all_that_the_result_follows_from() -> None:
    def key(method: str = "krr", budget: str = "1x8@8", seed: int = 0, data: str = "d", **values: Any) -> str:
        return task_of(method, budget, seed, data, **values).key

    different = [
        key(), key("dm"), key("preset:krr"), key("random"), key(budget="1x8@7"), key(seed=1), key(data="e"),
        key(steps=5), key(network="pointnet-small"), key(train_steps=5), key(train_seeds=4), key(validation=0.5),
        key(protocol="published"),
    ]  # fmt: skip
    assert len(set(different)) == len(different)
    same = [key(), key(workers=3), key(output="elsewhere"), key(methods=["dm"]), key(data="d", root="somewhere")]
    assert len(set(same)) == 1
    assert key("random", steps=5) == key("random")  # a selection has no outer loop
    assert key().startswith("krr-1x8@8-seed-0-")
    of_set = task_of().set_key
    assert of_set != key()
    for values in ({"network": "pointnet-small"}, {"train_seeds": 4}, {"networks": ["pointnet-linear", "pointnet"]}):
        assert task_of(**values).set_key == of_set  # a matter of evaluation
    for values in ({"steps": 5}, {"data": "e"}, {"seed": 1}, {"budget": "1x8@7"}, {"method": "dm"}):
        assert task_of(**values).set_key != of_set


def test_sets_that_need_one_bank_come_after_it(tiny_clouds: PointClouds, own_cache: Path, tmp_path: Path) -> None:
    given = configured(output=str(tmp_path))
    first, other_budget, other_seed = task_of(), task_of(budget="2x8@8"), task_of(seed=1)
    shared, free = task_of("m3d"), task_of("random")  # m3d has the same bank
    assert first.bank == other_budget.bank == shared.bank
    assert first.bank != other_seed.bank
    assert free.bank is None
    bank, name = "networks for krr 1x8@8 seed 0", "krr 1x8@8 seed 0"
    found = {
        job.name: job.after for job in jobs_of([first, other_seed, shared, free, other_budget], given, tiny_clouds)
    }
    assert list(found)[:3] == [bank, name, f"{name} on pointnet"]
    assert len(found) == 1 + 2 * 5
    assert found[bank] == ()
    assert found[f"{name} on pointnet"] == (name,)
    assert found[name] == found["m3d 1x8@8 seed 0"] == found["krr 2x8@8 seed 0"] == (bank,)
    assert found["krr 1x8@8 seed 1"] == found["random 1x8@8 seed 0"] == ()  # one set builds its own bank


def test_a_bank_is_built_once(
    grid: Compare, here: list[str], own_cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    quick = "objective = '{}'\n[options.bank]\nnetworks = 1\npoints = 16\ntrained_steps = [0, 0]\n"
    for name in ("krr", "gm"):
        (tmp_path / f"{name}.toml").write_text(quick.format(name))
    for module in (compare, config):
        monkeypatch.setattr(module, "presets", lambda: {name: tmp_path / f"{name}.toml" for name in ("krr", "gm")})
    assert grid("preset:krr preset:gm", "1x16@8 2x16@8").code == 0
    banks = ["networks for preset:krr 1x16@8 seed 0", "networks for preset:gm 1x16@8 seed 0"]
    assert [name for name in here if name.startswith("networks")] == banks
    kept = {path: path.stat().st_mtime_ns for path in own_cache.rglob("*.safetensors")}
    assert len(kept) == 3  # two banks, and gradients
    here.clear()
    assert grid("preset:krr preset:gm", "1x16@8 2x16@8", "--distill-seeds", 1, "--validation", 0.5).code == 0
    assert len([name for name in here if name.startswith("networks")]) == 2  # of other data
    here.clear()
    assert grid("preset:krr preset:gm", "1x32@8 2x32@8").code == 0
    assert not [name for name in here if name.startswith("networks")]  # they are there
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in kept.items())


def test_every_set_is_made_once_for_all_networks(grid: Compare, here: list[str], tiny_file: Path) -> None:
    pytest.importorskip("matplotlib")
    place = grid.words.index("--network")
    grid.words = (*grid.words[:place], *grid.words[place + 2 :])
    names = ("pointnet-small", "pointnet-linear")
    ran = grid("random medoid whole", "1x16@8", "--networks", *names)
    assert (ran.code, ran.err) == (0, "")
    assert here == [
        *(f"{method} 1x16@8 seed 0{job}" for method in ("random", "medoid")
          for job in ("", *(f" on {name}" for name in names))),
        *(f"whole seed 0 on {name}" for name in names),
    ]  # fmt: skip
    records = read_records(Path("grid/records.jsonl"))
    assert [(record.arm, record.network) for record in records] == [
        (arm, name) for arm in ("random", "medoid", "whole") for name in names
    ]
    assert len({record.key() for record in records}) == 6
    assert " --networks pointnet-small pointnet-linear " in records[0].command
    made = Artefact.load(written("artefacts/random*.h5")[0])
    for record in records[:2]:
        (plan,) = plans_of(configured(network=record.network, train_steps=2))
        again = evaluate(made.clouds, load(tiny_file, "test"), plan, [0, 1])
        assert record.accuracy == pytest.approx(again.accuracies)
    lines = Path("grid/table.md").read_text().splitlines()
    assert lines[2] == "| method | budget | bytes per class | pointnet-small | pointnet-linear |"
    for line, own in zip(lines[4:7], (records[:2], records[2:4], records[4:]), strict=True):
        words = [word.strip() for word in line.strip("|").split("|")]
        budget = "" if own[0].arm == "whole" else "1x16@8"
        assert words[:3] == [own[0].arm, budget, f"{own[0].bytes_per_class:,.0f}"]
        assert words[3:] == [f"{compare.accuracy_cell(record)} (n = 2)" for record in own]
    curves, levels = compare.curves_of(records)
    assert [curve.label for curve in curves] == [f"{arm}, {name}" for arm in ("random", "medoid") for name in names]
    assert [level.label for level in levels] == [f"whole set, {name}\n98,304 bytes" for name in names]
    assert Path("grid/plot.png").exists()

    here.clear()  # another network needs no other sets
    assert grid("random", "1x16@8", "--networks", "pointnet-small", "pointnet-small-layernorm").code == 0
    assert here == ["random 1x16@8 seed 0 on pointnet-small-layernorm"]
    assert len(table(read_records(Path("grid/records.jsonl"))[:1]).splitlines()) == 5  # one network: the usual table


def test_a_damaged_set_is_made_again(grid: Compare, here: list[str]) -> None:
    grid("random")
    for pattern, content in (("artefacts/*.h5", b"no artefact"), ("artefacts/*.json", b"{}")):
        written("cells/*.json")[0].unlink()
        written(pattern)[0].write_bytes(content)
        here.clear()
        assert grid("random").code == 0
        assert here == ["random 1x16@8 seed 0", "random 1x16@8 seed 0 on pointnet-small"]
    written("cells/*.json")[0].unlink()
    here.clear()
    assert grid("random").code == 0
    assert here == ["random 1x16@8 seed 0 on pointnet-small"]


def test_the_command_of_a_record_names_no_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = configured(output=".", root=str(tmp_path), workers=2)
    assert (
        _command(given) == f"pcdistill compare --data shapes --output {tmp_path.name} --methods random --budgets 1x8@8"
    )


def test_a_table_leaves_gaps_and_tells_other_sizes(grid: Compare, here: list[str]) -> None:
    grid("random herding", "1x16@8 2x16@8")
    records = read_records(Path("grid/records.jsonl"))
    larger = records[3].model_copy(update={"bytes_per_class": 1100.0})
    lines = table([*records[:2], larger]).splitlines()
    assert lines[-1].split("|")[2].strip() == "–"
    assert lines[-1].rstrip(" |").endswith("(n = 2, 1,100 bytes)")
    curves, levels = compare.curves_of([records[1], records[0], larger])
    assert [(curve.label, list(curve.sizes)) for curve in curves] == [("random", [48, 96]), ("herding", [1100])]
    assert not levels
    assert all(math.isfinite(value) for curve in curves for value in (*curve.means, *curve.deviations))


def test_settings_are_json_that_survives_a_file() -> None:
    given = configured()
    facts = settings(Cell("preset:krr", Budget(1, 8, 8), 0), given, plans_of(given)[0], ["a", "b"])
    assert json.loads(json.dumps(facts)) == facts
    assert facts["distill"]["steps"] == 800
    assert (
        facts["objective"]
        == jobs.make_objective(
            config.DistillConfig(data="shapes", output=Path("x"), clouds_per_class=1, preset="krr")
        ).describe()
    )
