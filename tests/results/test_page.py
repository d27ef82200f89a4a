"""The report as a page: on the real command line, its numbers against the records, its HTML against a strict reader."""

import csv
import io
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

from pcdistill.artefact.artefact import Artefact
from pcdistill.cli import main
from pcdistill.results import artefacts
from pcdistill.results import page as report_page
from pcdistill.results.arms import Placed as At
from pcdistill.results.arms import recipe_digest, rows
from pcdistill.results.record import Record, write_records
from pcdistill.results.statistics import difference
from pcdistill.results.table import runs_of
from pcdistill.training.recipe import RECIPES

pytest.importorskip("matplotlib")

FACTS: dict[str, Any] = {
    "benchmark": "compare", "dataset": "some", "arm": "random", "distilled": False, "objective": None,
    "storage": "points", "clouds_per_class": 4, "points": 128, "bits": 8, "bytes_per_class": 1536.0,
    "protocol": "tuned v2", "network": "pointnet", "distill_network": None, "accuracy": [0.5, 0.75],
    "accuracy_mean": 0.625, "accuracy_std": 0.1768, "class_accuracy_mean": 0.55, "distill_seeds": [0],
    "train_seeds": [0, 1], "distill_seconds": 1.0, "prepare_seconds": 0.0, "train_seconds": 2.0, "peak_mib": 300,
    "command": "pcdistill compare --data some", "commit": "abc1234", "versions": {"torch": "2.9"},
    "hardware": "a processor", "date": "2026-01-02", "recipe": RECIPES["tuned"].model_dump(mode="json"),
}  # fmt: skip
WHOLE = {"arm": "whole", "storage": None, "clouds_per_class": None, "points": 1024, "bits": 32,
         "bytes_per_class": 999999.0}  # fmt: skip
NAMES = ["cup", "chair", "night_stand"]


def record(**changes: Any) -> Record:
    return Record(**{**FACTS, **changes})


def outcomes(share: float, seed: int, names: Sequence[str] = NAMES, clouds: int = 60, runs: int = 2) -> dict[str, Any]:
    """Fields of a record whose networks recognise about this share of the clouds, of its classes in turn."""
    right = torch.rand((runs, clouds), generator=torch.Generator().manual_seed(seed)) < share
    confusion = [[0] * len(names) for _ in names]
    for run in right.tolist():
        for cloud, hit in enumerate(run):
            label = cloud % len(names)
            confusion[label][label if hit else (label + 1) % len(names)] += 1
    accuracy = right.double().mean(1)
    return {
        "right": [np.packbits(run).tobytes().hex() for run in right.numpy()], "confusion": confusion,
        "accuracy": accuracy.tolist(), "accuracy_mean": accuracy.mean().item(),
        "accuracy_std": accuracy.std().item(), "ece": [0.1, 0.2], "class_names": list(names),
    }  # fmt: skip


SMALL = record(arm="medoid", **outcomes(0.6, 0))
KRR = record(arm="krr", **outcomes(0.9, 1))
LARGE = record(arm="krr", clouds_per_class=16, bytes_per_class=6144.0, **outcomes(0.92, 2))
ALL = record(**WHOLE, **outcomes(0.97, 3))
OLDER = record()  # says nothing of classes
OTHER = record(arm="krr", network="dgcnn", bytes_per_class=1600.0)
RECORDS = [SMALL, KRR, LARGE, ALL, OLDER, OTHER]

COMMAND = ["report", "a.jsonl", "made", "--by", "network", "--against", "medoid", "--html", "out.html", "--force"]

VOID = {"meta", "img", "br", "wbr"}


@dataclass
class Table:
    caption: str = ""
    rows: list[list[str]] = field(default_factory=list)
    bold: list[tuple[int, int]] = field(default_factory=list)


class Read(HTMLParser):
    """A page as a strict reader finds it: every element is closed in its turn."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.stack: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.ids: list[str] = []
        self.headings: list[tuple[int, str]] = []
        self.words: list[str] = []  # all text that is shown or told
        self.tables: list[Table] = []
        self.named: dict[str, str] = {}  # text of what has an id
        self.path: list[str | None] = []
        self.feed(text)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {key: value or "" for key, value in attrs}
        assert len(found) == len(attrs), f"an attribute twice in {tag}"
        self.elements.append((tag, found))
        if "id" in found:
            self.ids.append(found["id"])
        if tag in VOID:
            return
        self.stack.append(tag)
        self.path.append(found.get("id"))
        if re.fullmatch(r"h\d", tag):
            self.headings.append((int(tag[1]), ""))
        if tag == "table":
            self.tables.append(Table())
        if tag == "tr":
            self.tables[-1].rows.append([])
        if tag in ("td", "th"):
            self.tables[-1].rows[-1].append("")
        if tag == "strong" and "table" in self.stack:
            rows = self.tables[-1].rows
            self.tables[-1].bold.append((len(rows) - 1, len(rows[-1]) - 1))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag
        self.path.pop()

    def handle_data(self, data: str) -> None:
        if not self.stack or self.stack[-1] == "style":
            return
        self.words.append(data)
        for name in filter(None, self.path):
            self.named[name] = self.named.get(name, "") + data
        if any(re.fullmatch(r"h\d", tag) for tag in self.stack):
            level, text = self.headings[-1]
            self.headings[-1] = level, text + data
        if "caption" in self.stack:
            self.tables[-1].caption += data
        elif {"td", "th"} & set(self.stack):
            self.tables[-1].rows[-1][-1] += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


class Ran(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def page(self) -> Read:
        return Read(Path("out.html").read_text())


@pytest.fixture(scope="module")
def whole_report(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a page with all that there can be, its records and artefacts: for looking at only."""
    folder = tmp_path_factory.mktemp("whole")
    shutil.copytree(made, folder / "made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_records(Path("a.jsonl"), RECORDS)
        assert main(COMMAND) == 0
    return folder


@pytest.fixture
def page(whole_report: Path, monkeypatch: pytest.MonkeyPatch) -> Read:
    """What is on that page; its folder is the current one."""
    monkeypatch.chdir(whole_report)
    return Read(Path("out.html").read_text())


Report = Callable[..., Ran]


@pytest.fixture
def report(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Report:
    """Writes records to `a.jsonl` if there are some, and makes `out.html` of them and what else is named."""
    monkeypatch.chdir(tmp_path)

    def run(*records: Record, words: Sequence[object] = (), html: object = "out.html") -> Ran:
        names = ["a.jsonl"] if records else []
        if records:
            write_records(Path("a.jsonl"), records)
        capsys.readouterr()
        code = main(["report", *names, *map(str, words), "--html", str(html), "--force"])
        return Ran(code, *capsys.readouterr())

    return run


def lines(name: str) -> list[list[str]]:
    """Of a CSV file beside the page."""
    return list(csv.reader(io.StringIO(Path("out", f"{name}.csv").read_text())))


@pytest.fixture(scope="module")
def made(tiny_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two artefacts, one of which knows its history."""
    folder = tmp_path_factory.mktemp("made")
    words = ["select", "--data", tiny_file, "--clouds-per-class", 2, "--points", 16, "--output", folder / "plain.h5"]
    assert main(list(map(str, words))) == 0
    plain = Artefact.load(folder / "plain.h5")
    way = [plain.clouds.points * 0.5, plain.clouds.points]
    replace(plain, losses=[100.0, 10.0, 1.0, 0.5], snapshots=way).save(folder / "deep" / "moved.h5")
    return folder


def test_the_table_holds_the_numbers_of_the_records(page: Read) -> None:
    first, second = (table for table in page.tables if table.caption.startswith("In per cent"))
    paired = difference(KRR, SMALL)
    head, *rows = first.rows
    assert head == ["arm", "storage", "clouds x points @ bits", "bytes per class", "accuracy", "over", "class mean",
                    "ECE", "of whole set", "less medoid (95 %)"]  # fmt: skip
    whole = ALL.accuracy_mean
    for row, one in zip(rows, (KRR, OLDER, SMALL, LARGE, ALL), strict=True):
        size_text = "all x 1024" if one is ALL else f"{one.clouds_per_class} x 128 @ 8"
        assert row[:-1] == [
            one.arm, one.storage or "–", size_text, f"{one.bytes_per_class:,.0f}",
            f"{100 * one.accuracy_mean:.1f} ± {100 * one.accuracy_std:.1f}", runs_of(one), "55.0",
            "–" if one is OLDER else "15.0", f"{100 * one.accuracy_mean / whole:.1f}",
        ]  # fmt: skip
    assert rows[0][-1] == f"{100 * paired.mean:+.1f} ({100 * paired.low:+.1f} to {100 * paired.high:+.1f})"
    assert [row[-1] for row in rows[1:]] == ["–"] * 4
    assert first.bold == [(1, 4)]  # krr at 1536 bytes; none where there is nothing to compare with
    assert not second.bold
    assert "Bold" not in second.caption
    assert [row[:2] for row in second.rows[1:]] == [["krr", "points"]]

    written = [
        dict(zip(*pair, strict=True)) for pair in zip([lines("table-1")[0]] * 5, lines("table-1")[1:], strict=True)
    ]
    for row, one in zip(written, (KRR, OLDER, SMALL, LARGE, ALL), strict=True):
        assert (row["arm"], row["network"], float(row["bytes_per_class"])) == (one.arm, "pointnet", one.bytes_per_class)
        assert float(row["accuracy_mean"]) == one.accuracy_mean
        assert float(row["accuracy_std"]) == one.accuracy_std
        assert float(row["recovery"]) == one.accuracy_mean / whole
    assert float(written[0]["difference"]) == paired.mean
    assert [row[0] for row in lines("table-2")[1:]] == ["some"]


def test_files_of_plots_hold_the_numbers_of_the_records(page: Read) -> None:
    order = [KRR, OLDER, SMALL, LARGE, ALL]
    assert lines("frontier-1") == [
        ["arm", "bytes_per_class", "accuracy_mean", "accuracy_std", "n"],
        *([one.arm, str(one.bytes_per_class), str(one.accuracy_mean), str(one.accuracy_std), "2"] for one in order),
    ]
    with_classes = [KRR, SMALL, LARGE, ALL]
    for number, one in enumerate(with_classes, 1):
        head, *rows = lines(f"confusion-1-{number}")
        assert head == ["class", *NAMES]
        assert [row[0] for row in rows] == NAMES
        assert [list(map(int, row[1:])) for row in rows] == one.confusion
    head, *rows = lines("classes-1-1")
    assert head == ["class", "krr, 4 x 128 @ 8", "medoid, 4 x 128 @ 8", "krr, 16 x 128 @ 8", "whole, all x 1024"]
    for i, row in enumerate(rows):
        recalls = [one.confusion[i][i] / sum(one.confusion[i]) for one in with_classes]
        assert row[0] == NAMES[i]
        assert list(map(float, row[1:])) == pytest.approx(recalls)
    names = {path.name for path in Path("out").iterdir()}
    plots = {"frontier-1", "frontier-2", "classes-1-1", *(f"confusion-1-{i}" for i in (1, 2, 3, 4)), "losses-1"}
    others = {"table-1.csv", "table-2.csv", "gallery-1.png", "gallery-2.png"}
    assert names == others | {f"{plot}.{ending}" for plot in plots for ending in ("svg", "png", "csv")}
    for plot in plots:
        with Image.open(f"out/{plot}.png") as picture:
            assert np.asarray(picture.convert("L")).std() > 5


def test_a_frontier_shows_every_arm_once_and_the_whole_set_as_a_level(page: Read) -> None:
    told = page.named
    assert told["frontier-1-title"] == "Accuracy against bytes per class: some, pointnet, protocol tuned v2"
    assert told["frontier-1-description"].startswith(
        f"Highest: whole, all x 1024, {100 * ALL.accuracy_mean:.1f} per cent."
    )
    assert f"krr: {100 * LARGE.accuracy_mean:.1f} at 6,144 bytes" in told["frontier-1-description"]
    svg = Path("out/frontier-1.svg").read_text()
    shown = re.findall(r">([^<>]+)</text>", svg)
    for name in ("random", "medoid", "krr", "whole set, 999,999 bytes", "1,536", "6,144"):
        assert shown.count(name) == 1


def test_the_page_needs_no_other_file_and_names_what_it_shows(page: Read) -> None:
    assert len(page.ids) == len(set(page.ids))
    assert page.all("html") == [{"lang": "en"}]
    text = Path("out.html").read_text()
    assert not {"script", "iframe", "object", "link", "base"} & {tag for tag, _ in page.elements}
    assert "http" not in text
    assert "@import" not in text
    assert not any(key.startswith("on") for _, attributes in page.elements for key in attributes)
    for tag, attributes in page.elements:
        for key in ("src", "href"):
            if (address := attributes.get(key)) is None:
                continue
            if address.startswith("#"):
                assert address[1:] in page.ids
            elif tag == "a":
                assert Path(address).is_file()  # relative, and there
                assert not Path(address).is_absolute()
            else:
                assert address.startswith("data:image/png;base64,")
    assert set(re.findall(r"url\(#([^)]+)\)", text)) <= set(page.ids)
    for image in page.all("img"):
        assert len(image["alt"]) > 20
    plots = page.all("svg")
    assert len(plots) == len([path for path in Path("out").glob("*.svg")])
    for svg in plots:
        assert svg["role"] == "img"
        assert all(page.named[name] for name in svg["aria-labelledby"].split())
    levels = [level for level, _ in page.headings]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert all(table.caption for table in page.tables)
    assert all(cell.get("scope") in ("col", "row") for cell in page.all("th"))


def test_every_number_says_where_it_comes_from(report: Report) -> None:
    page = report(SMALL, record(arm="krr", distill_seeds=[3, 4], train_seeds=[], commit="other")).page
    (origins,) = (table for table in page.tables if table.caption == "What every record was measured with.")
    rows = {row[0]: dict(zip(origins.rows[0], row, strict=True)) for row in origins.rows[1:]}
    found = rows["krr, 4 x 128 @ 8"]
    assert found == {
        "arm": "krr, 4 x 128 @ 8", "command": "pcdistill compare --data some", "commit": "other",
        "date": "2026-01-02", "seeds of sets": "3, 4", "seeds of networks": "–", "protocol": "tuned v2",
        "recipe": recipe_digest(SMALL), "hardware": "a processor", "versions": "torch 2.9", "record": "a.jsonl:2",
    }  # fmt: skip
    assert rows["medoid, 4 x 128 @ 8"]["seeds of networks"] == "0, 1"


def test_names_from_files_are_text_and_nothing_else(report: Report, tiny_file: Path, made: Path) -> None:
    bad = "<script>alert(1)</script>"
    worse = "\"><img src=x onerror=alert(1)>&amp;'$x$ $"
    control, foreign = "bell\x07\x85", "椅子"
    folder = Path("<b>&'\"")
    folder.mkdir()
    shutil.copy(made / "deep" / "moved.h5", folder / "<i>x&.h5")
    shutil.copy(made / "deep" / "moved.h5", folder / os.fsdecode(b"\xff.h5"))  # no UTF-8
    (folder / "no.jsonl").write_text("{}\n")
    names = [bad, worse, control, foreign]
    ran = report(
        record(arm=worse, dataset=bad, command=bad, hardware=bad, versions={bad: bad}, **outcomes(0.8, 0, names)),
        record(arm="_hidden", dataset=bad, **outcomes(0.7, 1, names)),
        words=[folder],
    )
    assert (ran.code, ran.err) == (0, f"pcdistill: left out, as it holds no records: {folder}/no.jsonl\n")
    page = ran.page
    assert not {"script", "b", "i"} & {tag for tag, _ in page.elements}
    assert not any(attributes.get("src") == "x" for attributes in page.all("img"))
    text = "".join(page.words)
    for name in (bad, worse, foreign, str(folder), "<i>x&"):
        assert name in text
    assert "bell\ufffd\ufffd" in text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", Path("out.html").read_text())
    assert [row[0] for row in lines("confusion-1-1")[1:]] == names
    drawn = set(re.findall(r">([^<>]+)</text>", Path("out/confusion-1-1.svg").read_text()))
    assert "&lt;script&gt;alert(1)&lt;/scr..." in drawn
    assert foreign in drawn
    assert page.headings[0] == (1, f"Results on {bad}")
    assert {row[0] for row in lines("losses-1")[1:]} == {"<i>x&", "?"}


def test_the_same_records_give_the_same_bytes(
    whole_report: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Figures of an older report go."""

    def contents() -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in Path().rglob("*") if path.is_file()}

    monkeypatch.chdir(whole_report)
    first = contents()
    shutil.copytree(whole_report, tmp_path / "again")
    monkeypatch.chdir(tmp_path / "again")
    Path("out/frontier-9.svg").write_text("of an older report")
    Path("out.html").write_text("of an older report")
    assert main(COMMAND) == 0
    size = Path("out.html").stat().st_size
    assert capsys.readouterr().out == f"wrote out.html: {size:,} bytes, its figures in out\n"
    assert contents() == first
    assert sorted(path.name for path in Path().iterdir()) == ["a.jsonl", "made", "out", "out.html"]


def test_artefacts_alone_are_enough(report: Report, made: Path) -> None:
    ran = report(words=[made, made / "plain.h5"])
    assert (ran.code, ran.err) == (0, "")
    page = ran.page
    assert page.headings[:2] == [(1, "Artefacts"), (2, "Artefacts")]
    (facts,) = page.tables
    rows = {row[0]: dict(zip(facts.rows[0], row, strict=True)) for row in facts.rows[1:]}
    assert list(rows) == ["moved", "plain"]  # each once
    for name, path in (("plain", made / "plain.h5"), ("moved", made / "deep" / "moved.h5")):
        artefact, row = Artefact.load(path), rows[name]
        assert row["bytes of the file"] == f"{path.stat().st_size:,}"
        assert row["of which clouds"] == f"{artefact.storage.nbytes:,}"
        assert row["bytes per class"] == f"{artefact.bytes_per_class:,.0f}"
        assert row["clouds x points @ bits"] == f"2 x 16 @ {artefact.metadata.bits}"
        assert artefact.metadata.source_fingerprint[:16] in row["made of"]
        assert "tiny.h5" in row["made of"]
    assert rows["moved"]["history"] == f"{4 * 4 + 2 * 6 * 16 * 3 * 2:,}"  # float32 losses, float16 snapshots
    assert lines("losses-1") == [
        ["artefact", "step", "loss"],
        *(["moved", str(step), str(loss)] for step, loss in enumerate([100.0, 10.0, 1.0, 0.5], 1)),
    ]
    assert "loss (log scale)" in Path("out/losses-1.svg").read_text()
    sizes = []
    for number in (1, 2):
        with Image.open(f"out/gallery-{number}.png") as picture:
            sizes.append(picture.size)
    tile = artefacts.TILE
    assert sizes[0][1] - sizes[1][1] == 3 * tile  # first guesses stand above what became of them
    assert [image["alt"] for image in page.all("img")] == [
        "Clouds of moved, first guesses and what became of them, by class: ball, box, ring.",
        "Clouds of plain, by class: ball, box, ring.",
    ]


def test_of_many_artefacts_and_classes_some_are_shown(
    report: Report, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artefacts, "SHOWN", 2)
    monkeypatch.setattr(artefacts, "CLASSES", 2)
    monkeypatch.setattr(artefacts, "CLOUDS", 1)
    for number in range(5):
        Path("many").mkdir(exist_ok=True)
        shutil.copy(made / "plain.h5", f"many/{number}.h5")
    page = report(words=["many"]).page
    assert [row[0] for row in page.tables[0].rows[1:]] == ["0", "2"]
    assert "2 of 5 are shown, evenly from the list of their names; 3 are left out." in page.words
    assert [image["alt"] for image in page.all("img")] == [f"Clouds of {n}, by class: ball, box." for n in (0, 2)]
    assert any("the first 2 of 3 classes" in text for text in page.words)
    with Image.open("out/gallery-1.png") as picture:
        assert picture.size[1] < 2.5 * artefacts.TILE
    assert not list(Path("out").glob("losses*"))  # a selection has none


def test_names_of_files_that_are_the_same_have_their_folders(report: Report, made: Path) -> None:
    for folder in ("one", "two"):
        Path(folder).mkdir()
        shutil.copy(made / "plain.h5", folder)
    page = report(words=["one", "two"]).page
    assert [row[0] for row in page.tables[0].rows[1:]] == ["one/plain", "two/plain"]


def test_records_that_cannot_be_drawn_stay_in_the_table(report: Report) -> None:
    empty = record(arm="none", bytes_per_class=0.0)
    unknown = record(arm="unknown", accuracy=[float("nan")], accuracy_mean=float("nan"), accuracy_std=0.0)
    network = record(arm="network", storage=None, clouds_per_class=None, bytes_per_class=0.0, bits=32)
    path = Path("a.jsonl")
    assert report(empty, network).code == 0
    assert not list(Path("out").glob("frontier*"))  # nothing has bytes
    path.write_text("".join(json.dumps(one.model_dump()) + "\n" for one in (empty, unknown, network, OLDER)))
    ran = report(words=[path])
    assert (ran.code, ran.err) == (0, "")
    assert {row[0] for row in ran.page.tables[0].rows[1:]} == {"none", "unknown", "network", "random"}
    assert {row[0] for row in lines("frontier-1")[1:]} == {"network", "random"}
    path.write_text(json.dumps(unknown.model_dump()) + "\n")
    ran = report(words=[path])
    assert ran.code == 0
    assert [path.name for path in Path("out").iterdir()] == ["table-1.csv"]


def test_a_budget_is_a_twentieth_wide() -> None:
    sizes = [100.0, 104.0, 105.0, 106.0, 111.0, 112.0, 0.0]
    own = rows([At(record(arm=f"{size}", bytes_per_class=size), "") for size in sizes] + [At(ALL, "")], None)
    groups = [[own[place].record.bytes_per_class for place in group] for group in report_page.budgets_of(own)]
    assert groups == [[0.0], [100.0, 104.0, 105.0], [106.0, 111.0], [112.0]]


def empty_plot(path: Path) -> None:
    path.write_text('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"/>')


def test_arms_of_a_budget_stand_side_by_side_as_far_as_there_are_colours(
    report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = [record(arm=f"arm {i}", bytes_per_class=1536.0 + i, **outcomes(0.8, i)) for i in range(9)]
    other = record(arm="odd", bytes_per_class=99.0, **outcomes(0.5, 9, ["x", "y"]))
    monkeypatch.setattr(report_page, "confusion_plot", lambda matrix, names, path, title: empty_plot(path))
    report(*many, other, LARGE)
    heads = [lines(f"classes-1-{number}")[0] for number in (1, 2, 3)]
    assert [len(head) - 1 for head in heads] == [1, 7, 3]
    assert heads[0] == ["class", "odd, 4 x 128 @ 8"]  # of other classes: a plot of its own
    assert heads[2][-1] == "krr, 16 x 128 @ 8"
    assert len(set(heads[1] + heads[2])) == 11


def test_only_the_folder_of_an_older_report_is_replaced(report: Report) -> None:
    write_records(Path("grid/records.jsonl"), [SMALL])
    ran = report(words=["grid"], html="grid.html")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == (
        "pcdistill: error: grid: 'records.jsonl', which is no figure of a report, expected another name for the page\n"
    )
    assert sorted(path.name for path in Path().rglob("*")) == ["grid", "records.jsonl"]


@pytest.mark.parametrize("failing", ["plot", "rename"])
def test_a_page_that_fails_leaves_the_old_one(failing: str, report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    report(SMALL)
    old = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    with monkeypatch.context() as patch:
        if failing == "plot":

            def fails(*_: Any) -> None:
                raise OSError(28, "No space left on device", "somewhere")

            patch.setattr(report_page, "confusion_plot", fails)
        else:
            rename = Path.rename

            def renamed(path: Path, target: Path) -> Path:
                if path.name == "figures":
                    raise OSError(28, "No space left on device", str(target))
                return rename(path, target)

            patch.setattr(Path, "rename", renamed)
        ran = report(words=["a.jsonl", "--against", "medoid"])
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert "No space left on device" in ran.err
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == old
    assert sorted(path.name for path in Path().iterdir()) == ["a.jsonl", "out", "out.html"]


def test_without_matplotlib_there_is_one_line(report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    ran = report(SMALL)
    expected = "pcdistill: error: html: matplotlib is not installed, expected pip install 'pcdistill[plots]'\n"
    assert ran == (2, "", expected)
    assert [path.name for path in Path().iterdir()] == ["a.jsonl"]


@pytest.mark.parametrize(
    ("words", "html", "message"),
    [
        (["a.jsonl", "--csv"], "out.html", "report: --html with --csv, expected one of them"),
        (["a.jsonl", "--output", "x.md"], "out.html", "report: --html with --output, expected one of them"),
        (["a.jsonl"], "out.txt", "html: 'out.txt', expected a file that ends in .html"),
        (["a.jsonl"], "out", "html: 'out', expected a file that ends in .html"),
        (["a.jsonl"], "a.jsonl/out.html", "a.jsonl: File exists"),
        (["a.jsonl"], "there.html", "there.html: Is a directory"),
        (["nothing"], "out.html", "nothing: no records and no artefacts, expected at least one"),
        (["missing"], "out.html", "missing: no such file or folder, expected records (.jsonl)"),
        (["bad.h5"], "out.html", "bad.h5: no text, expected records (.jsonl)"),
        (["cut.h5"], "out.html", "cut.h5: checksum differs"),
        (["a.jsonl", "--by", "netwrk"], "out.html", "by: 'netwrk' (did you mean 'network'?)"),
        (["a.jsonl", "--against", "krr"], "out.html", "against: 'krr', expected one of medoid"),
        (["b.jsonl"], "out.html", "b.jsonl:1: 'confusion' of 2 lines and 3 class names, expected a name for each"),
        (["folder"], "out.html", "folder/newer.jsonl:1: unknown field 'note'"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    words: list[str], html: str, message: str, report: Report, made: Path
) -> None:
    write_records(Path("a.jsonl"), [SMALL])
    misfit = {**FACTS, "confusion": [[1, 2], [3, 4]], "class_names": NAMES}
    Path("b.jsonl").write_text(json.dumps(misfit) + "\n")
    Path("folder").mkdir()
    Path("folder/newer.jsonl").write_text(json.dumps({**FACTS, "note": 1}) + "\n")
    Path("there.html").mkdir()
    Path("nothing").mkdir()
    Path("bad.h5").write_bytes(b"\x89HDF\r\n\x1a\n\xff")
    Path("cut.h5").write_bytes((made / "plain.h5").read_bytes()[:-9])
    before = sorted(map(str, Path().rglob("*")))
    ran = report(words=words, html=html)
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert message in ran.err
    assert sorted(map(str, Path().rglob("*"))) == before


def test_it_fits_a_telephone_and_a_browser_asks_for_nothing(report: Report) -> None:
    sync = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("no Chromium (apt-get install chromium)")
    long = "a_name_that_is_longer_than_any_screen_of_a_telephone_is_wide"
    report(SMALL, record(arm=long, dataset="some", **outcomes(0.5, 8, [*NAMES[:2], long])))
    asked: list[str] = []
    said: list[str] = []
    with sync.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for width, scheme in ((360, "light"), (1280, "dark")):
            page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
            page.on("request", lambda request: asked.append(request.url))
            page.on("console", lambda message: said.append(message.text))
            page.goto(Path("out.html").absolute().as_uri())
            page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true })")
            assert page.evaluate("document.documentElement.scrollWidth") == width
            ink, paper = (
                page.evaluate(f"getComputedStyle(document.body).{key}") for key in ("color", "backgroundColor")
            )
            bright = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in (ink, paper)]
            assert (bright[0] > bright[1]) == (scheme == "dark")
        browser.close()
    assert said == []
    assert all(address.startswith(("file://", "data:")) for address in asked)
    assert len([address for address in asked if address.startswith("file://")]) == 2
