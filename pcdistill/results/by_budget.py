"""Tables and plots of methods at budgets, as `pcdistill compare` writes them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pcdistill.results import by_condition
from pcdistill.results.plots import Curve, accuracy_plot, curves_of
from pcdistill.results.record import WHOLE, Record
from pcdistill.results.table import Table, accuracy_cell, note_of, runs_of, split_of


class Line(NamedTuple):
    """A record, and where it stands.

    Attributes:
        name: of its arm, as it was asked for.
        size: its budget, as it was asked for; "" of the whole set.
        nbytes: that the budget allows a class.
    """

    record: Record
    name: str
    size: str
    nbytes: float


def markdown(lines: Sequence[Line]) -> str:
    """A table of what was trained and tested alike; of several conditions, they are its rows."""
    groups: dict[tuple[Any, ...], list[Line]] = {}
    for line in lines:
        groups.setdefault(_alike(line.record), []).append(line)
    return "\n".join(map(_group, groups.values()))


def _alike(record: Record) -> tuple[Any, ...]:
    return record.dataset, record.split, record.protocol, (record.recipe or {}).get("steps"), record.thin


def _group(lines: Sequence[Line]) -> str:
    if any(line.record.condition != "clean" for line in lines):
        return by_condition.markdown([line.record for line in lines])
    return table_of(lines)


def table_of(lines: Sequence[Line]) -> str:
    """Methods as rows, budgets as columns; the whole set, which has no budget, in a line of its own.

    Of several networks each has a column, and methods at budgets are rows, the whole set included.
    """
    networks = _networks(lines)
    if len(networks) > 1:
        return _title(lines[0].record) + _of_networks(lines, networks).markdown()
    text, sizes = _title(lines[0].record, networks[0]), {line.size: line.nbytes for line in lines if line.size}
    methods: dict[str, dict[str, str]] = {}
    for line in lines:
        if line.size:
            methods.setdefault(line.name, {})[line.size] = _cell(line.record, sizes[line.size])
    if methods:
        header = ["method", *(f"{size}, {nbytes:,.0f} bytes per class" for size, nbytes in sizes.items())]
        text += Table(header, [[name, *map(own.get, sizes)] for name, own in methods.items()]).markdown() + "\n"
    for line in lines:
        if not line.size:
            name = ", ".join(["Whole set", *filter(None, [line.name.removeprefix(WHOLE).strip()])])
            nbytes = line.record.bytes_per_class
            text += f"{name}, {nbytes:,.0f} bytes per class: {_cell(line.record, nbytes)}\n"
    return text.rstrip("\n") + "\n"


def _of_networks(lines: Sequence[Line], networks: Sequence[str]) -> Table:
    rows: dict[tuple[str, str], dict[str, Record]] = {}
    for line in lines:
        rows.setdefault((line.name, line.size), {})[line.record.network] = line.record
    shown = []
    for (name, size), own in rows.items():
        nbytes = next(iter(own.values())).bytes_per_class
        cells = [_cell(own[network], nbytes) if network in own else None for network in networks]
        shown.append([name, size, f"{nbytes:,.0f}", *cells])
    return Table(["method", "budget", "bytes per class", *networks], shown)


def _title(record: Record, network: str | None = None) -> str:
    steps = (record.recipe or {}).get("steps")
    how = f"protocol {record.protocol}" + (f" at {steps} steps" if steps else "")
    of = f" of {network}" if network else ""
    start = f"{record.dataset}: accuracy in per cent ({split_of(record)}){of}, {how}"
    return f"{start}; mean ± standard deviation.\n\n"


def _cell(record: Record, nbytes: float) -> str:
    """Accuracy, and over what; and the bytes where they are not those of the budget."""
    more = "" if record.bytes_per_class == nbytes else f", {record.bytes_per_class:,.0f} bytes"
    return f"{accuracy_cell(record)} ({runs_of(record)}{more})"


def _networks(lines: Sequence[Line]) -> list[str]:
    return list(dict.fromkeys(line.record.network for line in lines))


def curves(lines: Sequence[Line]) -> tuple[list[Curve], list[Curve]]:
    """What a plot shows: a curve per method, data set and network, and a level for whole sets; on clean test clouds."""
    clean = [line for line in lines if line.record.condition == "clean"]
    several = [len({getattr(line.record, field) for line in clean}) > 1 for field in ("dataset", "network")]

    def named(line: Line) -> str:
        words = zip((line.record.dataset, line.record.network), several, strict=True)
        return ", ".join([line.name, *(word for word, shown in words if shown)])

    drawn, levels = curves_of([line.record for line in clean], list(map(named, clean)))
    # Under the label of records of the whole set, "whole", and of several networks this one's.
    return drawn, [
        level._replace(label=f"whole set{level.label.removeprefix(WHOLE)}, {level.sizes[0]:,.0f} bytes")
        for level in levels
    ]


def draw(lines: Sequence[Line], path: Path) -> None:
    """Accuracy against bytes per class as a PNG or SVG.

    Raises:
        ImportError: matplotlib is not installed.
    """
    records = [line.record for line in lines]
    datasets, protocols = (", ".join(dict.fromkeys(getattr(one, name) for one in records))
                           for name in ("dataset", "protocol"))  # fmt: skip
    title = f"{datasets}, {', '.join(_networks(lines))}, protocol {protocols}"
    accuracy_plot(*curves(lines), path, title, f"{note_of(records)}; {split_of(records[0])}.")
