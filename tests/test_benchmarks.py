"""The scripts that measure and tabulate, on a tiny set and on copies: nothing in `benchmarks/` is touched."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from pcdistill.evaluation import Record, read_records, write_record
from pcdistill.training import RECIPES

REPOSITORY = Path(__file__).parent.parent
# Of the schema that every benchmark keeps to.
REQUIRED = [
    "benchmark", "dataset", "arm", "distilled", "objective", "storage", "clouds_per_class", "points", "bits",
    "bytes_per_class", "protocol", "network", "distill_network", "accuracy", "accuracy_mean", "accuracy_std",
    "class_accuracy_mean", "distill_seeds", "train_seeds", "distill_seconds", "prepare_seconds", "train_seconds",
    "peak_mib", "command", "commit", "versions", "hardware", "date",
]  # fmt: skip
TEXT = "before\n<!-- table: {} -->\nold\n<!-- end -->\nafter\n"


@pytest.fixture
def modelnet(
    script: Callable[[Path], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short_recipes: None
) -> ModuleType:
    module = script(REPOSITORY / "benchmarks" / "modelnet.py")
    monkeypatch.setattr(module, "RESULTS", tmp_path / "results" / "modelnet.jsonl")
    usual = module.DistillConfig
    few = {"steps": 2, "networks": 1}
    monkeypatch.setattr(module, "DistillConfig", lambda **given: usual(**{**given, **few}))
    plan = module.protocol
    monkeypatch.setattr(module, "protocol", lambda name: plan(name, network="pointnet-small"))
    return module


def called(module: ModuleType, monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    monkeypatch.setattr(sys, "argv", ["modelnet.py", *map(str, words)])
    module.main()


SIZE = ("--clouds", 2, "--points", 16, "--bits", 6, "--distill-seeds", 2, "--train-seeds", 2)


def test_a_distilled_arm_is_recorded_with_all_its_facts(
    modelnet: ModuleType, tiny_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called(modelnet, monkeypatch, tiny_file, "dm", *SIZE)
    (found,) = read_records(modelnet.RESULTS)
    assert set(REQUIRED) <= set(found.model_dump())
    assert set(REQUIRED) == set(Record.model_fields)
    assert (found.arm, found.objective, found.distilled, found.storage) == ("dm", "dm", True, "points")
    assert (found.clouds_per_class, found.points, found.bits) == (2, 16, 6)
    assert found.bytes_per_class == 2 * 16 * 3 * 6 / 8
    assert len(found.accuracy) == 4
    assert found.accuracy_mean == pytest.approx(sum(found.accuracy) / 4)
    assert found.distill_seeds == [0, 1]
    assert found.train_seeds == [0, 1, 100, 101]  # of every run, in the order of the accuracies
    assert (found.network, found.protocol) == ("pointnet-small", f"tuned v{RECIPES['tuned'].version}")
    assert found.distill_network == "pointnet-small"
    assert found.distill_seconds > 0
    assert found.prepare_seconds > 0
    assert found.model_extra is not None
    assert found.model_extra["recipe"] == RECIPES["tuned"].model_dump(mode="json")
    assert found.command.split()[:4] == ["python", "benchmarks/modelnet.py", str(tiny_file), "dm"]


def test_the_same_arm_again_takes_its_own_place(
    modelnet: ModuleType, tiny_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (tiny_file, "random", *SIZE[:-4], "--distill-seeds", 1, "--train-seeds", 1)
    called(modelnet, monkeypatch, *words)
    called(modelnet, monkeypatch, *words)
    called(modelnet, monkeypatch, tiny_file, "whole", "--distill-seeds", 1, "--train-seeds", 1)
    chosen, whole = read_records(modelnet.RESULTS)
    assert (chosen.arm, chosen.distilled, chosen.objective, chosen.distill_network) == ("random", False, None, None)
    assert chosen.accuracy_std == 0
    assert (whole.arm, whole.storage, whole.clouds_per_class, whole.points, whole.bits) == (
        "whole",
        None,
        None,
        1024,
        32,
    )
    assert whole.bytes_per_class == 8 * 1024 * 3 * 4
    arm = modelnet.Arm(str(tiny_file), "random", 2, 1, 1, points=16, bits=6)
    assert modelnet.recorded(arm)
    assert not modelnet.recorded(arm._replace(train_seeds=2))


def test_every_listed_arm_survives_its_own_command_line(modelnet: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = modelnet.arms()
    assert len(set(listed)) == len(listed)
    seen = []

    def measure(arm: object) -> None:
        seen.append(arm)
        raise KeyboardInterrupt

    monkeypatch.setattr(modelnet, "measure", measure)
    for arm in listed:
        with pytest.raises(KeyboardInterrupt):
            called(modelnet, monkeypatch, *arm.options())
    assert seen == listed


@pytest.mark.parametrize("words", [[], ["modelnet10"], ["modelnet10", "random"], ["modelnet10", "nonsense"]])
def test_half_a_command_is_refused(
    modelnet: ModuleType, monkeypatch: pytest.MonkeyPatch, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        called(modelnet, monkeypatch, *words)
    assert "modelnet.py: error: " in capsys.readouterr().err


def test_a_shortened_recipe_has_another_name(modelnet: ModuleType) -> None:
    plan = modelnet.plan_of(modelnet.Arm("modelnet10", "whole", None, 1, 1, protocol="published", epochs=10))
    assert (plan.name, plan.recipe.name, plan.recipe.epochs) == ("published-10-epochs", "published-10-epochs", 10)
    assert modelnet.plan_of(modelnet.Arm("modelnet10", "whole", None, 1, 1)).name == "tuned"


def record(**changes: object) -> Record:
    facts: dict[str, object] = dict.fromkeys(REQUIRED, "x")
    facts |= {"benchmark": "modelnet", "dataset": "modelnet10", "arm": "random", "distilled": False, "objective": None}
    facts |= {"clouds_per_class": 4, "points": 128, "bits": 8, "bytes_per_class": 1536.0, "protocol": "tuned v1"}
    facts |= {"accuracy": [0.5, 0.7], "accuracy_mean": 0.6, "accuracy_std": 0.1, "class_accuracy_mean": 0.6}
    facts |= dict.fromkeys(("distill_seconds", "prepare_seconds", "train_seconds"), 1.0)
    facts |= {"distill_seeds": [0], "train_seeds": [0, 1], "peak_mib": 1, "versions": {}, "date": "2026-01-01"}
    return Record(**{**facts, **changes})


@pytest.fixture
def tables(script: Callable[[Path], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script in a tree of its own: two files with tables, and three records."""
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    shutil.copy(REPOSITORY / "benchmarks" / "tables.py", folder)
    (tmp_path / "README.md").write_text(TEXT.format("summary"))
    (folder / "README.md").write_text(TEXT.format("details"))
    results = folder / "results" / "modelnet.jsonl"
    write_record(results, record())
    write_record(results, record(arm="krr", distilled=True, objective="krr", accuracy_mean=0.85))
    write_record(results, record(arm="whole", storage=None, clouds_per_class=None, points=1024, bits=32,
                                 accuracy=[0.925], accuracy_mean=0.925))  # fmt: skip
    return script(folder / "tables.py")


def run(tables: ModuleType, monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["tables.py", *words])
    code = tables.main()
    assert isinstance(code, int)
    return code


def test_tables_are_checked_written_and_then_agree(
    tables: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = (tmp_path / "README.md", tmp_path / "benchmarks" / "README.md")
    before = [file.read_text() for file in files]
    assert run(tables, monkeypatch, "--check") == 1
    shown = capsys.readouterr().out
    assert all(str(file) in shown for file in files)
    assert [file.read_text() for file in files] == before

    assert run(tables, monkeypatch) == 0
    assert run(tables, monkeypatch, "--check") == 0
    summary, details = (file.read_text() for file in files)
    for text in (summary, details):
        assert text.startswith("before\n<!-- table: ")
        assert text.endswith("<!-- end -->\nafter\n")
        assert "old" not in text
    row = next(line for line in summary.splitlines() if line.startswith("| ModelNet10"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells == ["ModelNet10, 4 x 128, 8 bits", "1,536", "60.0 ± 10.0", "85.0 ± 10.0", "92.5"]
    arms = [line.split("|")[2].strip() for line in details.splitlines() if line.startswith("| ModelNet10")]
    assert arms == ["random", "krr", "whole"]


def test_a_changed_record_or_an_edited_table_is_noticed(
    tables: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tables, monkeypatch)
    readme = tmp_path / "README.md"
    readme.write_text(readme.read_text().replace("60.0", "99.0"))
    assert run(tables, monkeypatch, "--check") == 1
    assert capsys.readouterr().out.count("tables differ") == 1
    run(tables, monkeypatch)
    write_record(tmp_path / "benchmarks" / "results" / "modelnet.jsonl", record(accuracy_mean=0.61))
    assert run(tables, monkeypatch, "--check") == 1


def test_other_sets_have_tables_as_well(tables: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_record(tmp_path / "benchmarks" / "results" / "modelnet.jsonl", record(dataset="psb19"))
    run(tables, monkeypatch)
    assert "| psb19, 4 x 128, 8 bits |" in (tmp_path / "README.md").read_text()
