"""The grids of the benchmarks: they are read, and ask for what was recorded."""

import json
from pathlib import Path
from typing import Any

import pytest

from pcdistill.core.options import read_toml
from pcdistill.experiments.cells import Cell, Digests, cells, task_of
from pcdistill.experiments.spec import GridSpec
from pcdistill.results.record import PRESET, Record, read_records

HERE = Path(__file__).parents[2] / "benchmarks"
GRIDS = sorted(HERE.glob("*/grid.toml"))


def spec_of(path: Path) -> GridSpec:
    return GridSpec.checked(read_toml(path, GridSpec), path)


def asked_for(cell: Cell, spec: GridSpec) -> tuple[Any, ...]:
    """What tells a record of this cell from others of its file."""
    protocol, arm = cell.protocol(spec), spec.arm(cell.arm).method.removeprefix(PRESET)
    return (cell.data, arm, cell.record_facts().get("variant") or None, cell.network, protocol.name,
            protocol.recipe.augmentation.rotate)  # fmt: skip


def recorded(record: Record) -> tuple[Any, ...]:
    return (record.dataset, record.arm, record.variant, record.network, record.protocol.partition(" ")[0],
            record.train_rotation or "none")  # fmt: skip


@pytest.mark.parametrize("path", GRIDS, ids=lambda path: path.parent.name)
def test_a_grid_asks_for_every_record(path: Path) -> None:
    spec, folder = spec_of(path), path.parent
    found = cells(spec)
    keys = [task_of(cell, spec, Digests(str(cell.source), "test", None)).key for cell in found]
    assert len(set(keys)) == len(keys)
    assert spec.records == Path("benchmarks", folder.name, "records.jsonl")
    assert (spec.output, spec.sets) == (Path("runs", folder.name), Path("runs", "sets"))
    assert f"$ pcdistill compare --config benchmarks/{folder.name}/grid.toml" in (folder / "README.md").read_text()
    there = {asked_for(cell, spec) for cell in found}
    records = read_records(folder / "records.jsonl")
    assert {record.benchmark for record in records} <= {spec.benchmark}
    # Labels of views are no longer made.
    assert [one for one in records if recorded(one) not in there and " views" not in str(recorded(one)[2])] == []


def test_there_is_a_folder_a_question_and_each_is_listed() -> None:
    listed = (HERE / "README.md").read_text()
    folders = sorted(path.parent.name for path in HERE.glob("*/README.md"))
    assert [name for name in folders if f"]({name}/README.md)" not in listed] == []
    for name in folders:
        title = (HERE / name / "README.md").read_text().splitlines()[0].removeprefix("# ")
        assert f"- [{title}]({name}/README.md)" in listed
        assert (HERE / name / "grid.toml").exists() != (HERE / name / "measure.py").exists()
    assert len(listed.splitlines()) <= 40


def test_trials_that_were_recorded_are_in_the_grid_of_the_search() -> None:
    spec = spec_of(HERE / "search" / "grid.toml")
    there = set()
    for cell in cells(spec):
        made = task_of(cell, spec, Digests("real", "test", None)).made
        assert made is not None
        there.add((cell.data, made.given.points, made.given.bits, cell.product.train_seeds, cell.product.train_steps))
    for line in (HERE / "search" / "trials.jsonl").read_text().splitlines():
        trial = json.loads(line)
        steps = trial["train_steps"] if "--train-steps" in trial["command"] else None
        assert (trial["dataset"], trial["points"], trial["bits"], len(trial["train_seeds"]), steps) in there
