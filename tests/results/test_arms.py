"""Records joined into tables: on the real command line, with the committed records and with made-up ones."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from pcdistill.cli import main
from pcdistill.core.errors import InputError
from pcdistill.results.arms import FIELDS, arm_of, recipe_digest, rows
from pcdistill.results.arms import Placed as At
from pcdistill.results.record import Record, read_records, write_records
from pcdistill.results.statistics import difference
from pcdistill.results.table import size_of
from pcdistill.training.recipe import RECIPES

RESULTS = Path(__file__).parents[2] / "benchmarks"
FACTS: dict[str, Any] = {
    "benchmark": "compare", "dataset": "some", "arm": "random", "distilled": False, "objective": None,
    "storage": "points", "clouds_per_class": 4, "points": 128, "bits": 8, "bytes_per_class": 1536.0,
    "protocol": "tuned v2", "network": "pointnet", "distill_network": None, "accuracy": [0.5, 0.75],
    "accuracy_mean": 0.625, "accuracy_std": 0.1768, "class_accuracy_mean": 0.5, "distill_seeds": [0],
    "train_seeds": [0, 1], "distill_seconds": 1.0, "prepare_seconds": 0.0, "train_seconds": 2.0, "peak_mib": 300,
    "command": "x", "commit": "abc", "versions": {}, "hardware": "a processor", "date": "2026-01-01",
    "recipe": RECIPES["tuned"].model_dump(mode="json"),
}  # fmt: skip
WHOLE = {"arm": "whole", "storage": None, "clouds_per_class": None, "points": 1024, "bits": 32,
         "bytes_per_class": 999999.0}  # fmt: skip


def record(**changes: Any) -> Record:
    return Record(**{**FACTS, **changes})


def outcome_fields(share: float, seed: int, clouds: int = 40, runs: int = 2) -> dict[str, Any]:
    """Fields of a record whose networks recognise about this share of the clouds, of two classes in turn."""
    right = torch.rand((runs, clouds), generator=torch.Generator().manual_seed(seed)) < share
    confusion = [[0, 0], [0, 0]]
    for run in right.tolist():
        for cloud, hit in enumerate(run):
            confusion[cloud % 2][cloud % 2 if hit else 1 - cloud % 2] += 1
    accuracy = right.double().mean(1)
    return {
        "right": [np.packbits(run).tobytes().hex() for run in right.numpy()], "confusion": confusion,
        "accuracy": accuracy.tolist(), "accuracy_mean": accuracy.mean().item(), "ece": [0.1, 0.2],
        "class_names": ["cup", "chair"],
    }  # fmt: skip


class Shown(NamedTuple):
    code: int
    out: str
    err: str

    def table(self, number: int = 0) -> dict[tuple[str, ...], dict[str, str]]:
        """Lines of a Markdown table by their first three cells."""
        blocks = [block for block in self.out.split("\n\n") if block.startswith("| ")]
        header, _, *lines = [
            [cell.strip() for cell in line.strip("|").split(" | ")] for line in blocks[number].splitlines() if line
        ]
        return {tuple(line[:3]): dict(zip(header, line, strict=True)) for line in lines}


Report = Callable[..., Shown]


@pytest.fixture
def report(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Report:
    """Writes records to `a.jsonl`, `b.jsonl`, ... and reports them."""
    monkeypatch.chdir(tmp_path)

    def run(*files: Sequence[Record], words: Sequence[object] = ()) -> Shown:
        names = []
        for letter, records in zip("abc", files, strict=False):
            write_records(Path(f"{letter}.jsonl"), records)
            names.append(f"{letter}.jsonl")
        capsys.readouterr()
        code = main(["report", *names, *map(str, words)])
        return Shown(code, *capsys.readouterr())

    return run


def test_files_are_joined_and_the_whole_set_is_the_measure(report: Report) -> None:
    whole = record(**{**WHOLE, "accuracy": [0.8], "accuracy_mean": 0.8, "accuracy_std": 0.0})
    large = record(clouds_per_class=107.5, bytes_per_class=12208.4, arm="krr", storage="coded", ece=[0.1, 0.3])
    shown = report([whole, large], [record(arm="medoid", accuracy_mean=0.7), record()])
    assert (shown.code, shown.err) == (0, "")
    assert shown.out.startswith(
        f"some (test split, 1024 points): pointnet, protocol tuned v2 {recipe_digest(whole)}; per cent, mean"
    )
    table = shown.table()
    assert list(table) == [
        ("medoid", "points", "4 x 128 @ 8"), ("random", "points", "4 x 128 @ 8"), ("krr", "coded", "107.5 x 128 @ 8"),
        ("whole", "–", "all x 1024"),
    ]  # fmt: skip
    assert table["random", "points", "4 x 128 @ 8"] == {
        "arm": "random", "storage": "points", "clouds x points @ bits": "4 x 128 @ 8", "bytes per class": "1,536",
        "accuracy": "62.5 ± 17.7", "over": "1 set x 2 networks", "class mean": "50.0", "ECE": "–",
        "of whole set": "78.1",
    }  # fmt: skip
    assert table["krr", "coded", "107.5 x 128 @ 8"]["ECE"] == "20.0"
    assert table["whole", "–", "all x 1024"]["accuracy"] == "80.0"
    assert "–" in report([record()]).table()["random", "points", "4 x 128 @ 8"]["of whole set"]


@pytest.mark.parametrize(
    ("field", "changes", "left", "right"),
    [
        ("dataset", {"dataset": "other"}, "some", "other"),
        ("split", {"split": "0.2 of train held out"}, "test", "0.2 of train held out"),
        ("condition", {"condition": "so3"}, "clean", "so3"),
        ("test_points", {"test_points": 512}, "1024", "512"),
        ("thin", {"thin": True}, "False", "True"),
        ("network", {"network": "dgcnn"}, "pointnet", "dgcnn"),
        ("protocol", {"protocol": "tuned v1"}, r"tuned v2 \w{8}", r"tuned v1 \w{8}"),
        ("protocol", {"recipe": {**FACTS["recipe"], "lr": 0.1}}, r"tuned v2 \w{8}", r"tuned v2 \w{8}"),
        ("protocol", {"grid": {"lr": [0.1]}}, r"tuned v2 \w{8}", r"tuned v2 \w{8}"),
        ("protocol", {"recipe": None}, r"tuned v2 \w{8}", "tuned v2"),
    ],
)
def test_what_does_not_belong_together_is_refused_unless_apart(
    field: str, changes: dict[str, Any], left: str, right: str, report: Report
) -> None:
    files = [record(), record(arm="krr")], [record(arm="herding", **changes)]
    shown = report(*files)
    assert (shown.code, shown.out, shown.err.count("\n")) == (2, "", 1)
    expected = (
        rf"a\.jsonl:1: {field} '{left}', but '{right}' in b\.jsonl:1, expected the same in one table \(--by {field} "
    )
    with pytest.raises(AssertionError, match=expected):
        raise AssertionError(shown.err)
    apart = report(*files, words=["--by", field])
    assert [len(apart.table(number)) for number in (0, 1)] == [2, 1]


def test_conditions_have_an_old_name(report: Report, tmp_path: Path) -> None:
    """In records, and in what tables are made by."""
    shown = []
    for name in ("view", "condition"):
        lines = [{**FACTS, name: condition} for condition in ("clean", "so3")]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        shown.append(report(words=[f"{name}.jsonl", "--by", name]))
    assert shown[0] == shown[1]
    assert [len(shown[0].table(number)) for number in (0, 1)] == [1, 1]
    assert "some (test split, 1024 points, condition so3): pointnet" in shown[0].out


def test_other_test_clouds_under_the_same_name_are_refused(report: Report) -> None:
    older, one, other = record(), record(arm="krr", test_set="1a"), record(arm="medoid", test_set="2b")
    shown = report([older, one], [other])
    assert (shown.code, shown.out) == (2, "")
    assert (
        "a.jsonl:2: other test clouds than b.jsonl:1, expected the same test set in one table (--by test_set"
        in shown.err
    )
    apart = report([older, one], [other], words=["--by", "test_set"])
    assert [len(apart.table(number)) for number in (0, 1, 2)] == [1, 1, 1]
    assert [word in apart.out for word in ("clouds unknown", "clouds 1a", "clouds 2b")] == [True] * 3
    assert len(report([older, one], [record(arm="medoid", test_set="1a")]).table()) == 3  # older ones do not say


def test_recipes_that_only_lack_new_fields_are_the_same(report: Report) -> None:
    older = {key: value for key, value in FACTS["recipe"].items() if key not in ("ema", "normalise")}
    assert recipe_digest(record(recipe=older)) == recipe_digest(record())
    assert recipe_digest(record(recipe={"of": "another release"})) != recipe_digest(record())


def test_against_an_arm_at_equal_bytes(report: Report) -> None:
    two = {"distill_seeds": [0, 1]}
    medoid = record(arm="medoid", bytes_per_class=1500.0, **outcome_fields(0.6, 0), **two)
    krr = record(arm="krr", **outcome_fields(0.9, 1), **two)
    large = record(arm="krr", clouds_per_class=32, bytes_per_class=12288.0, **outcome_fields(0.9, 2))
    older = record(arm="herding")
    whole = record(**WHOLE, **outcome_fields(0.95, 3))
    single = record(arm="herding", clouds_per_class=3, **outcome_fields(0.99, 4))
    files = [medoid, krr, large, older, whole, single]
    shown = report(files, words=["--against", "medoid"])
    assert "Bold: better than medoid, the 95 % interval of the difference above zero.\n" in shown.out
    table = shown.table()
    found = difference(krr, medoid)
    assert found.clear
    accuracies = {key[0] + key[2][:2]: line["accuracy"] for key, line in table.items()}
    assert {name for name, cell in accuracies.items() if "**" in cell} == {"krr4 ", "herding3 "}
    cells = {key[0] + key[2][:2]: line["less medoid (95 %)"] for key, line in table.items()}
    assert cells.pop("krr4 ") == (
        f"{100 * found.mean:+.1f} ({100 * found.low:+.1f} to {100 * found.high:+.1f}), p = {found.p:.2g}"
    )
    found = difference(single, medoid)
    assert found.p is None  # of one set
    assert cells.pop("herding3 ") == f"{100 * found.mean:+.1f} ({100 * found.low:+.1f} to {100 * found.high:+.1f})"
    assert set(cells.values()) == {"–"}  # itself, other bytes, or no outcomes
    against_whole = report(files, words=["--against", "whole", "--csv"]).out
    rows = {
        (row["arm"], row["points"], row["clouds_per_class"]): row for row in csv.DictReader(io.StringIO(against_whole))
    }
    found = difference(large, whole)
    row = rows["krr", "128", "32"]
    assert [float(row[key]) for key in ("difference", "difference_low", "difference_high")] == pytest.approx(
        [found.mean, found.low, found.high]
    )
    assert (row["p"], row["n"], row["sets"]) == ("", "2", "1")
    assert float(rows["krr", "128", "4"]["p"]) == difference(krr, whole).p
    assert float(row["recovery"]) == pytest.approx(large.accuracy_mean / whole.accuracy_mean)
    assert (row["ece"], rows["herding", "128", "4"]["difference"]) == (str((0.1 + 0.2) / 2), "")


def test_of_several_sizes_of_an_arm_the_like_one_is_compared_with() -> None:
    alike = record(arm="medoid", bytes_per_class=1550.0, **outcome_fields(0.5, 0))
    nearer = record(arm="medoid", points=64, clouds_per_class=8, bytes_per_class=1537.0, **outcome_fields(0.7, 1))
    krr = record(arm="krr", **outcome_fields(0.9, 2))
    found = {row.record.arm: row for row in rows([At(one, "") for one in (nearer, alike, krr)], "medoid")}
    assert found["krr"].against == difference(krr, alike)


def test_classes_and_confusions(report: Report) -> None:
    krr = record(arm="krr", **outcome_fields(0.9, 1))
    shown = report([record(), krr], words=["--per-class"])
    matrix = krr.confusion
    recalls = [100 * matrix[i][i] / sum(matrix[i]) for i in (0, 1)]
    assert f"| cup | {recalls[0]:.1f} |\n| chair | {recalls[1]:.1f} |\n" in shown.out
    assert f"| class | cup | chair |\n| :-- | --: | --: |\n| cup | {matrix[0][0]} | {matrix[0][1]} |\n" in shown.out
    assert "No record has a confusion matrix." in report([record()], words=["--per-class"]).out
    many = [[0] * 20 for _ in range(20)]
    for i in range(20):
        many[i][i] = 9
    many[3][5], many[4][2] = 27, 1
    shown = report([record(confusion=many)], words=["--per-class"])
    assert "| class | taken for | per cent |\n| :-- | --: | --: |\n| 3 | 5 | 75.0 |\n| 4 | 2 | 10.0 |\n" in shown.out
    mixed = report([record(confusion=many), krr], words=["--per-class"])
    assert mixed.err == "pcdistill: error: report: records of 2 and 20 classes, expected the same classes\n"


def test_arms_are_named_as_they_were_asked_for() -> None:
    assert arm_of(record(variant="preset:fast")) == "preset:fast"
    assert arm_of(record(variant="12288")) == "random"  # a budget, not a method
    assert arm_of(record(expansion={"mixup": 1})) == "random expanded"
    assert size_of(record(clouds_per_class=9.9, bits=5)) == "9.9 x 128 @ 5"


def test_lines_of_one_arm_and_size_are_told_apart_by_their_variants(report: Report) -> None:
    shown = report([
        record(variant="random 4 mix"), record(variant="random 4 relabel"), record(arm="krr", variant="krr 4 mix"),
        record(variant="random 8 mix", clouds_per_class=8, bytes_per_class=3072.0), record(bits=5),
    ])  # fmt: skip
    assert [key[0] for key in shown.table()] == ["random (mix)", "random (relabel)", "krr", "random", "random"]


def test_a_file_is_written_and_a_record_counts_once(report: Report, tmp_path: Path) -> None:
    shown = report([record()], [record(), record(arm="krr")], words=["--output", "out/table.md"])
    assert (shown.out, shown.err) == ("wrote out/table.md\n", "")
    text = (tmp_path / "out" / "table.md").read_text()
    assert text.count("| random |") == text.count("| krr |") == 1
    assert text == report([record()], [record(), record(arm="krr")]).out


def test_folders_are_searched_and_what_holds_no_records_is_named(report: Report, tmp_path: Path) -> None:
    write_records(tmp_path / "runs" / "deep" / "records.jsonl", [record()])
    (tmp_path / "runs" / "log.jsonl").write_text('{"step": 1, "loss": 0.5}\n')
    shown = report(words=["runs"])
    assert len(shown.table()) == 1
    assert shown.err == "pcdistill: left out, as it holds no records: runs/log.jsonl\n"


def test_the_committed_records_can_be_reported(report: Report) -> None:
    shown = report(words=[RESULTS / "frontier" / "records.jsonl", "--by", "dataset", "--csv"])
    lines = list(csv.DictReader(io.StringIO(shown.out)))
    records = read_records(RESULTS / "frontier" / "records.jsonl")
    assert sorted(float(line["accuracy_mean"]) for line in lines) == sorted(one.accuracy_mean for one in records)
    assert all(set(FIELDS) < line.keys() for line in lines)
    for line in lines:
        (whole,) = (one.accuracy_mean for one in records if (one.arm, one.dataset) == ("whole", line["dataset"]))
        assert float(line["recovery"]) == pytest.approx(float(line["accuracy_mean"]) / whole)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none"], "none: no such file or folder, expected records (.jsonl)"),
        (["a.jsonl", "--by", "netwrk"], "by: 'netwrk' (did you mean 'network'?), expected some of dataset, split,"),
        (
            ["a.jsonl", "--against", "medoit"],
            "against: 'medoit' (did you mean 'medoid'?), expected one of medoid, random",
        ),
        (["a.jsonl", "--csv", "--per-class"], "report: --csv with --per-class, expected one of them"),
        (["empty.jsonl"], "empty.jsonl: no records, expected at least one"),
        (["bad.jsonl"], "bad.jsonl:2: 'dataset' is missing"),
        ([], "pcdistill report: 'results' is missing"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str], message: str, report: Report, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report([record(), record(arm="medoid")])
    (tmp_path / "empty.jsonl").write_text("")
    lacking = {key: value for key, value in FACTS.items() if key != "dataset"}
    (tmp_path / "bad.jsonl").write_text(f"{json.dumps(FACTS)}\n{json.dumps(lacking)}\n")
    assert main(["report", *words]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert message in err


def test_outcomes_that_are_damaged_are_named(report: Report) -> None:
    damaged = record(arm="krr", **{**outcome_fields(0.9, 1), "right": ["zz"]})
    shown = report([record(arm="medoid", **outcome_fields(0.6, 0)), damaged], words=["--against", "medoid"])
    assert (shown.code, shown.err.count("\n")) == (2, 1)
    assert "compare, krr: 'right' that does not fit 'confusion'" in shown.err
    with pytest.raises(InputError):
        difference(damaged, damaged)
