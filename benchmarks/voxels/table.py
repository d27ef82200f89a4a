"""Tables of accuracy at equal bytes in voxels, of the smallest files for most of the accuracy, and beside papers."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.wording import MODELNETS, NAMES, NETWORKS, alike, without_gaps
from pcdistill.results.arms import interval
from pcdistill.results.record import WHOLE, Record, read_records
from pcdistill.results.statistics import difference
from pcdistill.results.table import Cell, Strong, Table, accuracy_cell, note_of

ARMS = {"random": "random", "medoid": "medoids", "thrift": "thrift", "krr": "distilled"}
LABELS = {"hard": "hard labels", "stored": "a teacher's, in the bytes", "online": "a teacher beside the student"}
CHOSEN = ("random", "medoid")
PPC = 12_288  # bytes of the cloud per class that papers call one
SHARES = (0.90, 0.95, 0.99)  # of the accuracy of the whole set


def by_bytes(records: Sequence[Record], arms: Sequence[str], *, alone: bool = False) -> str:
    """Rows of the budgets at which these arms were measured, and, `alone`, no others: clouds, accuracies, whole set."""
    rows, shown = [], list[Record]()
    for dataset, size, cells in _budgets(records):
        if set(cells) == {*arms, WHOLE} or (not alone and set(cells) > {*arms, WHOLE}):
            shown += [cells[arm] for arm in (*arms, WHOLE)]
            clouds = (f"{float(cells[arm].clouds_per_class or 0):.0f}" for arm in arms)
            rows.append([
                NAMES.get(dataset, dataset), f"{size:,}", " / ".join(clouds),
                *(accuracy_cell(cells[arm]) for arm in arms), accuracy_cell(cells[WHOLE]),
                f"{cells[WHOLE].bytes_per_class / size:,.0f}",
            ])  # fmt: skip
    header = ["", "bytes per class", "clouds per class", *(ARMS[arm] for arm in arms), "whole set", "times smaller"]
    return Table(header, rows).markdown() + f"\n{note_of(shown)}.\n" if rows else ""


def smallest(records: Sequence[Record]) -> str:
    """The smallest file that trains to a share of the whole set's accuracy; no row where none of these does."""
    rows = []
    for dataset in dict.fromkeys(record.dataset for record in records):
        own = [record for record in records if record.dataset == dataset]
        whole = next(record for record in own if record.arm == WHOLE)
        made = sorted((record for record in own if record is not whole), key=lambda record: record.bytes_per_class)
        classes = len(made[0].class_names)
        for share in SHARES:
            enough = (record for record in made if record.accuracy_mean >= share * whole.accuracy_mean)
            if (first := next(enough, None)) is not None:
                rows.append([
                    NAMES.get(dataset, dataset), f"{100 * share:.0f} %", f"{first.bytes_per_class * classes:,.0f}",
                    f"{int(first.variant or 0):,}", ARMS[first.arm], accuracy_cell(first), accuracy_cell(whole),
                ])  # fmt: skip
    header = [
        "",
        "of the whole set's accuracy",
        "bytes of all classes",
        "budget of a class",
        "how",
        "accuracy",
        "whole",
    ]
    return Table(header, rows).markdown()


def beside_papers(records: Sequence[Record], papers: Sequence[dict[str, Any]]) -> str:
    """What papers print, and the fewest bytes at which these records are at least as accurate."""
    rows = []
    for one in sorted(papers, key=lambda one: (one["dataset"], one["bytes_per_class"], one["accuracy"])):
        if (ours := _as_accurate(records, one)) is not None:
            rows.append([
                NAMES[one["dataset"]], one["method"], f"{one['bytes_per_class']:,}", f"{100 * one['accuracy']:.1f}",
                *_how(ours), f"{one['bytes_per_class'] / ours.bytes_per_class:,.0f}",
            ])  # fmt: skip
    header = [
        "",
        "paper",
        "its bytes per class",
        "it prints",
        "ours, bytes per class",
        "how",
        "accuracy",
        "times smaller",
    ]
    return Table(header, rows).markdown()


def seconds(records: Sequence[Record], papers: Sequence[dict[str, Any]]) -> str:
    """How long papers distil on a GPU, and how long the smallest of these files that does as well took on a core."""
    rows = []
    timed = [one for one in papers if "hours" in one]
    for one in sorted(timed, key=lambda one: (one["dataset"], -one["hours"])):
        if (ours := _as_accurate(records, one)) is not None:
            rows.append([
                NAMES[one["dataset"]], one["method"], f"{100 * one['accuracy']:.1f}", f"{3600 * one['hours']:,.0f}",
                *_how(ours), f"{ours.distill_seconds + ours.prepare_seconds:.0f}",
            ])  # fmt: skip
    header = [
        "",
        "paper",
        "it prints",
        "seconds on a GPU",
        "ours, bytes per class",
        "how",
        "accuracy",
        "seconds on a core",
    ]
    return Table(header, rows).markdown()


def _as_accurate(records: Sequence[Record], paper: dict[str, Any]) -> Record | None:
    """The fewest bytes at which these records are as accurate as a paper prints; None if none of them is."""
    own = [record for record in records if record.dataset == paper["dataset"] and record.arm != WHOLE]
    enough = [record for record in own if record.accuracy_mean >= paper["accuracy"]]
    return min(enough, key=lambda record: record.bytes_per_class, default=None)


def _how(record: Record) -> list[object]:
    """Budget, arm and accuracy."""
    return [f"{int(record.variant or 0):,}", ARMS[record.arm], accuracy_cell(record)]


def points(finer: Sequence[Record], records: Sequence[Record]) -> str:
    """Sets that are decoded to more points, below the same ones as they are decoded otherwise, if they were tried."""
    shown = [one for record in finer for one in (*alike(record, records), record)]
    rows = [[NAMES[one.dataset], f"{int(one.variant or 0):,}", one.points, accuracy_cell(one)] for one in shown]
    header = ["", "bytes per class", "points of a cloud", "accuracy"]
    return Table(header, rows).markdown() + f"\n{note_of(shown)}.\n" if rows else ""


def quotas(shared: Sequence[Record], even: Sequence[Record]) -> str:
    """Medoids where classes share the bytes by gain, beside those where they share them evenly, and over classes."""
    rows, shown = [], list[Record]()
    for record in sorted(shared, key=lambda one: (one.dataset, one.bytes_per_class)):
        (plain,) = alike(record, even)
        both = plain, record
        shown += both
        rows.append([
            NAMES[record.dataset], f"{int(record.variant or 0):,}", *map(accuracy_cell, both),
            *(Cell.of(each.class_accuracy) for each in both),
        ])  # fmt: skip
    header = ["", "bytes per class", "even", "gain", "even, mean of classes", "gain, mean of classes"]
    return Table(header, rows).markdown() + f"\n{note_of(shown)}.\n" if rows else ""


def labels(taught: Sequence[Record], hard: Sequence[Record]) -> str:
    """Sets with hard labels, with a teacher's in their bytes, and with a teacher beside the student."""
    found: dict[tuple[str, int, str], dict[str, Record]] = {}
    for record in taught:
        size = str(record.variant).split()[0]
        place = found.setdefault((record.dataset, int(size), record.arm), {})
        (plain,) = alike(record.model_copy(update={"variant": size}), hard)
        place |= {"hard": plain, str(record.labels): record}
    rows, shown = [], list[Record]()
    for (dataset, size, arm), own in sorted(found.items()):
        shown += own.values()
        clouds = [f"{float(own[name].clouds_per_class or 0):.0f}" for name in ("hard", "stored") if name in own]
        accuracies = [accuracy_cell(own[name]) if name in own else None for name in LABELS]
        rows.append([NAMES[dataset], f"{size:,}", ARMS[arm], " / ".join(clouds), *accuracies])
    header = ["", "bytes per class", "chosen", "clouds per class", *LABELS.values()]
    return f"{without_gaps(header, rows)}\n{note_of(shown)}.\n" if rows else ""


def paired(made: Mapping[str, Sequence[Record]], chosen: Sequence[Record]) -> str:
    """By how much made sets are ahead of chosen ones with hard labels; bold are those ahead of all of these."""
    rows, shown = [], list[Record]()
    for how, records in made.items():
        for record in records:
            size = str(record.variant).split()[0]
            others = {one.arm: one for one in chosen if (one.dataset, one.variant) == (record.dataset, size)}
            apart = [difference(record, others[arm]) if arm in others else None for arm in CHOSEN]
            accuracy: Cell | Strong = accuracy_cell(record)
            if all(one.clear for one in apart if one is not None):
                accuracy = Strong(accuracy)
            name = how.format(ARMS[record.arm])
            rows.append([NAMES[record.dataset], int(size), name, accuracy, *(one and interval(one) for one in apart)])
            shown.append(record)
    ordered = sorted(rows, key=lambda row: tuple(row[:3]))
    header = ["", "bytes per class", "set", "accuracy", *(f"less {ARMS[arm]} (95 %)" for arm in CHOSEN)]
    lines = [[name, f"{size:,}", *rest] for name, size, *rest in ordered]
    return f"{without_gaps(header, lines)}\n{note_of(shown)}.\n" if rows else ""


def networks(records: Sequence[Record]) -> str:
    """Networks as rows: files at budgets, ascending, and the whole set; those of other budgets stand apart."""
    sizes = sorted({int(record.variant) for record in records if record.arm != WHOLE and record.variant})
    found: dict[tuple[str, str], dict[int, Record]] = {}
    for record in records:
        size = 0 if record.arm == WHOLE else int(record.variant or 0)
        found.setdefault((record.dataset, record.network), {})[size] = record
    rows = [
        [
            NAMES[dataset],
            NETWORKS[network],
            *(accuracy_cell(own[size]) if size in own else None for size in (*sizes, 0)),
        ]
        for (dataset, network), own in sorted(found.items())
    ]
    header = ["", "network", *(f"{size:,} bytes" for size in sizes), "whole set"]
    return f"{without_gaps(header, rows)}\n{note_of(records)}.\n" if rows else ""


def headline(records: Sequence[Record], papers: Sequence[dict[str, Any]]) -> str:
    """A row for every budget of the ModelNets at which medoids were measured, or are what random clouds are."""
    found = [
        (dataset, size, cells)
        for dataset, size, cells in _budgets(records)
        if dataset in MODELNETS and ("medoid" in cells or _holds_all(cells))
    ]
    arms = ["medoid", "random", *(["krr"] if all("krr" in cells for _, _, cells in found) else [])]
    rows, measured = [], list[Record]()
    for dataset, size, cells in found:
        shown = [cells.get(arm, cells["random"]) for arm in arms]
        measured += shown
        printed = max(one["accuracy"] for one in papers if one["dataset"] == dataset and one["bytes_per_class"] == PPC)
        rows.append([
            f"{NAMES[dataset]}, {size:,} bytes", *map(accuracy_cell, (*shown, cells[WHOLE])), f"{100 * printed:.1f}",
            f"{cells[WHOLE].bytes_per_class / size:,.0f}",
        ])  # fmt: skip
    header = [
        "bytes per class",
        *(ARMS[arm] for arm in arms),
        "whole set",
        "printed",
        "times smaller",
    ]
    words = (
        f"Test accuracy of a PointNet in per cent. {note_of(measured)}.\nPrinted: the best of published distilled sets "
        f"of one float32 cloud of 1024 points per class, {PPC:,} bytes."
    )
    return f"{Table(header, rows).markdown()}\n{words}\n" if rows else ""


def _holds_all(cells: dict[str, Record]) -> bool:
    """Whether a budget holds all clouds of the set, so that selections are one and the same."""
    return float(cells["random"].clouds_per_class or 0) * PPC > 0.999 * cells[WHOLE].bytes_per_class


def _budgets(records: Sequence[Record]) -> Iterator[tuple[str, int, dict[str, Record]]]:
    """Data sets and budgets, and by arm what was measured there, the whole set among it."""
    for dataset in dict.fromkeys(record.dataset for record in records):
        own = [record for record in records if record.dataset == dataset]
        whole = {record.arm: record for record in own if record.arm == WHOLE}
        for size in sorted({int(record.variant or 0) for record in own if record.arm != WHOLE}):
            yield dataset, size, {record.arm: record for record in own if record.variant == str(size)} | whole


def tables(folder: Path) -> dict[str, str]:
    """Of the records in this folder, and of those of whole sets under the same protocol in the folder `frontier`."""
    records, wholes = (read_records(place / "records.jsonl") for place in (folder, folder.parent / "frontier"))
    protocols = {record.protocol for record in records}
    records += [record for record in wholes if record.arm == WHOLE and record.protocol in protocols]
    papers = json.loads((folder.parent / "published.json").read_text())["points"]
    partial, taught = (read_records(folder / name) for name in ("partial.jsonl", "labels.jsonl"))
    return {
        "voxels_converged": by_bytes(read_records(folder / "converged.jsonl"), ("random", "medoid")),
        "voxels_distilled": by_bytes(records, ("random", "medoid", "krr")),
        "voxels_selected": by_bytes(records, ("random", "medoid")),
        "voxels_all": by_bytes(records, ("random",), alone=True),
        "voxels_partial": by_bytes(
            [*(one for one in records if one.arm != "krr"), *partial], ("random", "medoid", "krr")
        ),
        "voxels_points": points(read_records(folder / "fine.jsonl"), records),
        "voxels_quotas": quotas(read_records(folder / "quotas.jsonl"), records),
        "voxels_labels": labels(taught, records),
        "voxels_paired": paired(
            {
                "distilled": [one for one in records if one.arm == "krr"],
                "a fifth distilled": partial,
                "{}, labelled": [one for one in taught if one.labels == "stored"],
            },
            records,
        ),
        "voxels_networks": networks(read_records(folder / "networks.jsonl")),
        "voxels_smallest": smallest([*records, *read_records(folder / "fine.jsonl")]),
        "voxels_papers": beside_papers(records, papers),
        "voxels_seconds": seconds(records, papers),
        "headline": headline(records, papers),
    }
