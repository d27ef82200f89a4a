"""What tables call data sets, networks and training sets, and what several of them share."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import compress
from typing import Any

from pcdistill.matching import objectives
from pcdistill.results.record import WHOLE, Record
from pcdistill.results.statistics import clear_best
from pcdistill.results.table import Cell, Strong, Table, accuracy_cell, all_runs_of

NAMES = {"modelnet10": "ModelNet10", "modelnet40": "ModelNet40", "shapes": "shapes"}
BUDGETS = (
    123,
    369,
    1229,
    12_288,
    36_864,
    122_880,
)  # bytes per class: a hundredth, ... of a float32 cloud, and 1, 3, 10
MODELNETS = ("modelnet10", "modelnet40")
ORDER = ("random", "herding", "kcenter", "medoid", *objectives, "whole")
NETWORKS = {
    "pointnet": "PointNet", "pointnet-tiny": "PointNet-tiny", "pointnet2": "PointNet++", "dgcnn": "DGCNN",
    "pointconv": "PointConv", "point-transformer": "Point Transformer", "pointmlp-elite": "PointMLP-elite",
    "pointnext-s": "PointNeXt-S",
}  # fmt: skip
SETS = {"random": "random", "herding": "herding", "kcenter": "k-center", "medoid": "medoids", "krr": "distilled",
        "quantile": "distilled, quantile", "krr-pool": "distilled, pool", "whole": "whole set"}  # fmt: skip
NOTHING = "Not measured yet.\n"


def cells(own: Mapping[str, Record], names: Iterable[str]) -> list[Cell | Strong | None]:
    """Accuracies of `names`, as far as they were measured; bold is one that is clearly better than all others."""
    best = clear_best(list(own.values()))

    def cell(record: Record | None) -> Cell | Strong | None:
        if record is None:
            return None
        return Strong(accuracy_cell(record)) if record is best else accuracy_cell(record)

    return [cell(own.get(name)) for name in names]


def without_gaps(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table without empty cells: rows that lack the same ones, which are None, stand in a table of the others."""
    groups: dict[tuple[bool, ...], list[Sequence[object]]] = {}
    for row in rows:
        groups.setdefault(tuple(cell is not None for cell in row), []).append(row)
    return "\n".join(
        Table(list(compress(header, there)), [list(compress(row, there)) for row in own]).markdown()
        for there, own in groups.items()
    )


def alike(record: Record, records: Sequence[Record]) -> list[Record]:
    """Those of the same data, arm and budget (their `variant`)."""
    what = record.dataset, record.arm, record.variant
    return [one for one in records if (one.dataset, one.arm, one.variant) == what]


def by_bytes(records: Iterable[Record], arms: Mapping[str, str], figure: str = "accuracy") -> str:
    """Arms as columns, and the whole set where there is one; data sets at budgets (their `variant`) as rows.

    Rows that lack the same arms stand in a table of the others. A row's clear best is bold.

    Args:
        records: of one network and protocol.
        arms: what a table calls them.
        figure: `accuracy`, or another field of records that has a value a run; of these none is bold.
    """
    found: dict[tuple[str, int], dict[str, Record]] = {}
    wholes: dict[str, Record] = {}
    for record in records:
        if record.arm == WHOLE:
            wholes[record.dataset] = record
        else:
            found.setdefault((record.dataset, int(record.variant or 0)), {})[record.arm] = record

    def shown(own: Mapping[str, Record], names: Iterable[str]) -> list[Any]:
        if figure != "accuracy":
            return [Cell.of(getattr(own[name], figure)) if name in own else None for name in names]
        return cells({name: own[name] for name in names if name in own}, names)

    rows = [
        [NAMES.get(dataset, dataset), f"{size:,}", *shown(own, arms), *shown(wholes, [dataset])]
        for (dataset, size), own in sorted(found.items())
    ]
    return without_gaps(["", "bytes per class", *arms.values(), "whole set"], rows)


def by_part(records: list[Record], field: str, names: dict[str, str]) -> str:
    """Accuracy of arms that differ in one field, one row per data set, split and set; a row's clear best is bold."""
    found: dict[tuple[str, bool, str], dict[str, Record]] = {}
    for record in records:
        place = record.dataset, record.split != "test", record.arm
        found.setdefault(place, {})[str(getattr(record, field))] = record
    rows = []
    for (dataset, validation, arm), own in sorted(found.items()):
        where = NAMES.get(dataset, dataset) + (", validation" if validation else "")
        rows.append([where, SETS[arm], *cells(own, names)])
    return Table(["", "trained on", *names.values()], rows).markdown() + "\n" + how_made(records) if rows else ""


def budget_text(record: Record) -> str:
    """The budget of a set, or the bytes of a whole one."""
    size = str(record.variant).split()[1]
    return f"{int(size) if size.isdigit() and int(size) else record.bytes_per_class:,.0f}"


def how_made(records: list[Record]) -> str:
    """A line on how records were made."""

    def listed(found: set[str]) -> str:
        return " or ".join(sorted(found, key=lambda text: (len(text), text)))

    protocols = listed({f"`{record.protocol}`" for record in records})
    steps = listed({str((record.recipe or {})["steps"]) for record in records})
    points = listed({str(record.points) if record.thin else str(record.test_points) for record in records})
    runs = all_runs_of(records)
    return f"Protocol {protocols}, {steps} steps; training and test clouds of {points} points; {runs}.\n"
