"""Tables of sets of so many clouds: a line per size, and one per record."""

from pathlib import Path

from benchmarks.wording import NAMES, ORDER, without_gaps
from pcdistill.results.record import Record, read_records
from pcdistill.results.table import Table, accuracy_cell

METHODS = {
    "random": "random", "herding": "herding", "kcenter": "k-center", "medoid": "medoids", "sadm": "SADM",
    "quantile": "quantile", "gm": "gradient", "tm": "trajectory", "krr": "regression",
}  # fmt: skip
Size = tuple[str, int, int, int | None]


def summary(records: list[Record], protocol: str) -> str:
    """Accuracy per budget under a protocol: one line per data set and size, one column per arm that has a record."""
    own = [r for r in records if r.protocol.split(" ")[0] == protocol]
    sizes = sorted({size for r in own if (size := _size(r))})
    arms = [arm for arm in METHODS if any(r.arm == arm for r in own)]
    lines = list[list[object]]()
    for size in sizes:
        cells = {r.arm: r for r in own if _size(r) in (size, None) and r.dataset == size[0]}
        dataset, clouds, points, bits = size
        line: list[object] = [f"{NAMES.get(dataset, dataset)}, {clouds} x {points}, {bits} bits"]
        line.append(f"{next(r for r in own if _size(r) == size).bytes_per_class:,.0f}")
        lines.append(line + [accuracy_cell(cells[arm]) if arm in cells else None for arm in (*arms, "whole")])
    header = ["clouds x points per class", "bytes per class", *(METHODS[arm] for arm in arms), "whole set"]
    return without_gaps(header, lines)


def _size(record: Record) -> Size | None:
    if record.clouds_per_class is None:
        return None
    return record.dataset, record.clouds_per_class, record.points, record.bits


def details(records: list[Record]) -> str:
    """Every record: accuracy, spread, seeds, cost."""

    def place(record: Record) -> tuple[str, int, str, int]:
        return record.dataset, record.clouds_per_class or 10**6, record.protocol, ORDER.index(record.arm)

    rows = [
        [
            f"{NAMES.get(r.dataset, r.dataset)}, {r.arm}", accuracy_cell(r), str(len(r.accuracy)),
            f"{r.bytes_per_class:,.0f}", "all" if r.clouds_per_class is None else str(r.clouds_per_class),
            str(r.points), str(r.bits), r.protocol,
            f"{100 * r.class_accuracy_mean:.1f}", f"{r.distill_seconds:.0f}", f"{r.prepare_seconds:.0f}",
            f"{r.train_seconds:.0f}", str(r.peak_mib),
        ]
        for r in sorted(records, key=place)
    ]  # fmt: skip
    header = ["trained on", "accuracy %", "runs", "bytes / class", "clouds / class", "points", "bits", "protocol",
              "class mean %", "distil s", "bank s", "train s", "peak MiB"]  # fmt: skip
    return Table(header, rows).markdown()


def tables(folder: Path) -> dict[str, str]:
    """Of the records in this folder, by the name of the block that a table stands in."""
    records = read_records(folder / "records.jsonl")
    return {
        "summary": summary(records, "tuned"),
        "published": summary(records, "published"),
        "details": details(records),
    }
