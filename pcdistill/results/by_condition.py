"""Tables and plots of networks under test conditions, as `pcdistill evaluate` writes them."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from pcdistill.core.files import atomic
from pcdistill.core.progress import Say
from pcdistill.evaluation import condition_label
from pcdistill.geometry import MODELNET_C, POINTCLOUD_C, SEVERITIES
from pcdistill.results.plots import Curve, accuracy_bars, accuracy_plot
from pcdistill.results.record import Record
from pcdistill.results.table import Cell, Table, all_runs_of

ROTATED = {"none": "trained unrotated", "z": "trained turned about z", "so3": "trained turned about any axis"}
CORRUPTED = {"ModelNet40-C": MODELNET_C, "PointCloud-C": POINTCLOUD_C}
PLOTS = ("plot-severities", "plot-kinds", "plot-resolutions")
PLOT_FILES = tuple(f"{plot}.{ending}" for plot in PLOTS for ending in ("png", "svg"))


class Column(NamedTuple):
    """One network of a table: what it was trained on, how, and its records by condition."""

    label: str
    rotation: str
    records: Mapping[str, Record]


class Row(NamedTuple):
    """Conditions that a table shows the mean of."""

    label: str
    conditions: Sequence[str]
    rotation: str | None = None  # of training; None for any


def markdown(records: Sequence[Record]) -> str:
    """Conditions as rows and networks as columns: accuracies, then calibration errors."""
    columns, first = columns_of(records), records[0]

    def part(what: str, field: str) -> str:
        rows = [[row.label, *(cell(row, column, field) for column in columns)] for row in rows_of(columns)]
        note = f"{what} in per cent; mean ± standard deviation over {all_runs_of(records)}.\n\n"
        return note + Table(["condition", *(column.label for column in columns)], rows).markdown()

    accuracies = part(f"{first.dataset}, protocol {first.protocol}: test accuracy", "accuracy")
    return accuracies + "\n" + part("Expected calibration error", "ece")


def columns_of(records: Sequence[Record]) -> list[Column]:
    """Networks by what tells them apart."""
    groups: dict[tuple[str, ...], dict[str, Record]] = {}
    for record in records:
        groups.setdefault(column_of(record), {})[record.condition] = record
    apart = [0, *(place for place in range(1, 6) if len({key[place] for key in groups}) > 1)]
    return [
        Column(", ".join(key[place] for place in apart), _rotation(next(iter(own.values()))), own)
        for key, own in groups.items()
    ]


def _rotation(record: Record) -> str:
    """Of training clouds: none, z or so3."""
    return str(record.train_rotation)


def column_of(record: Record) -> tuple[str, ...]:
    """What records of one column agree in: they are of one training."""
    return (
        record.network, str(record.variant), record.dataset, record.protocol,
        ROTATED[_rotation(record)], "thinned" if record.thin else "not thinned",
    )  # fmt: skip


def rows_of(columns: Sequence[Column]) -> list[Row]:
    """Every condition that some network has; all severities of a kind in one row, kinds of a benchmark on average."""
    names = list(dict.fromkeys(name for column in columns for name in column.records))
    rotations = list(dict.fromkeys(column.rotation for column in columns))
    rows = [Row("clean", ["clean"])]
    rows += [
        Row(condition_label(v, trained), [v], trained) for v in ("z", "so3") if v in names for trained in rotations
    ]
    rows += [Row(condition_label(name, ""), [name]) for name in sorted(filter(str.isdigit, names), key=int)]
    for benchmark, kinds in CORRUPTED.items():
        own = {kind: [f"{kind}:{s}" for s in SEVERITIES if f"{kind}:{s}" in names] for kind in kinds}
        own = {kind: degrees for kind, degrees in own.items() if degrees}
        rows += [Row(degrees[0] if len(degrees) == 1 else kind, degrees) for kind, degrees in own.items()]
        if len(own) > 1:
            rows += [
                Row(f"{benchmark}, severity {s}", degree)
                for s in SEVERITIES
                if (degree := [f"{kind}:{s}" for kind in own if f"{kind}:{s}" in names])
            ]
            rows.append(Row(f"{benchmark}, mean", [name for degrees in own.values() for name in degrees]))
    return [*rows, *(Row(name, [name]) for name in names if name.startswith("data:"))]


def values(row: Row, column: Column, field: str = "accuracy") -> list[float] | None:
    """Of every network the mean over the row's conditions; None where one is missing or training was another."""
    if row.rotation not in (None, column.rotation) or any(name not in column.records for name in row.conditions):
        return None
    runs = [getattr(column.records[name], field) for name in row.conditions]
    return torch.tensor(runs, dtype=torch.float64).mean(0).tolist()


def cell(row: Row, column: Column, field: str = "accuracy") -> Cell | None:
    """The mean over networks of their `values`, if there are any."""
    fractions = values(row, column, field)
    return None if fractions is None else Cell.of(fractions)


def draw(records: Sequence[Record], folder: Path, say: Say) -> None:
    """The plots that there are conditions for; those of an older run that there are none for are removed."""
    for file in PLOT_FILES:
        (folder / file).unlink(missing_ok=True)
    drawings = _drawings(records)
    files = [file for file in PLOT_FILES if Path(file).stem in drawings]
    try:
        for file in files:
            with atomic(folder / file) as temporary:
                drawings[Path(file).stem](temporary)
    except ImportError:
        say("no plots: matplotlib is not installed (pip install 'pcdistill[plots]')")
        return
    say(f"wrote {', '.join(['records.jsonl', 'table.md', *files])} to {folder}")


def _drawings(records: Sequence[Record]) -> dict[str, Callable[[Path], None]]:
    """What draws every plot that there are conditions for, by its name."""
    first, columns = records[0], columns_of(records)
    title, note = f"{first.dataset}, protocol {first.protocol}", "Mean ± standard deviation over networks"
    kinds = [row for row in rows_of(columns) if row.label in (*MODELNET_C, *POINTCLOUD_C)]
    bars = [bar for column in columns if (bar := _bar(kinds, column))]
    sizes = {int(name): [name] for column in columns for name in column.records if name.isdigit()}
    drawings: dict[str, Callable[[Path], None]] = {}
    if severities := _curves(columns, _severities(columns)):
        below = f"{note}, of each the mean over kinds of corruption; 0: clean."
        drawings[PLOTS[0]] = partial(accuracy_plot, severities, [], title=title, note=below, axis="severity", log=False)
    if kinds and bars:
        below = f"{note}, of each the mean over severities."
        drawings[PLOTS[1]] = partial(accuracy_bars, [row.label for row in kinds], bars, title=title, note=below)
    if resolutions := _curves(columns, dict(sorted(sizes.items()))):
        drawings[PLOTS[2]] = partial(
            accuracy_plot, resolutions, [], title=title, note=f"{note}.", axis="points per test cloud"
        )
    return drawings


def _severities(columns: Sequence[Column]) -> dict[int, list[str]]:
    """The conditions of every severity that all kinds have which occur; the clean one is severity 0."""
    names = {name for column in columns for name in column.records if ":" in name and not name.startswith("data:")}
    kinds = {name.partition(":")[0] for name in names}
    degrees = {s: sorted(f"{kind}:{s}" for kind in kinds) for s in SEVERITIES}
    whole = {s: own for s, own in degrees.items() if own and names.issuperset(own)}
    return {0: ["clean"], **whole} if whole else {}


def _curves(columns: Sequence[Column], places: Mapping[int, Sequence[str]]) -> list[Curve]:
    """A curve per network that has any of the places, where it has all their conditions."""
    curves = []
    for column in columns:
        cells = {place: cell(Row("", names), column) for place, names in places.items()}
        own = {place: one for place, one in cells.items() if one is not None}
        if any(place > 0 for place in own):
            curves.append(_curve(column.label, own))
    return curves


def _curve(label: str, cells: Mapping[int, Cell]) -> Curve:
    return Curve(label, list(cells), [one.mean for one in cells.values()], [one.spread for one in cells.values()])


def _bar(kinds: Sequence[Row], column: Column) -> Curve | None:
    cells = [cell(row, column) for row in kinds]
    own = {place: one for place, one in enumerate(cells) if one is not None}
    return _curve(column.label, own) if len(own) == len(kinds) else None
