"""Write the tables in README.md and benchmarks/README.md from the committed records, or check that they agree.

python benchmarks/tables.py           # rewrite the marked blocks
python benchmarks/tables.py --check   # exit 1 if a block differs from its records
"""

import argparse
import re
import sys
from pathlib import Path

from pcdistill.evaluation import Record, accuracy_cell, markdown_table, read_records
from pcdistill.files import atomic

HERE = Path(__file__).parent
FILES = (HERE.parent / "README.md", HERE / "README.md")
NAMES = {"modelnet10": "ModelNet10", "modelnet40": "ModelNet40", "shapes": "shapes"}
ORDER = ("random", "herding", "kcenter", "medoid", "dm", "quantile", "krr", "whole")


def summary(records: list[Record]) -> str:
    """Accuracy per budget: one line per data set and size, one column per arm."""
    lines = []
    sizes = sorted({(r.dataset, r.clouds_per_class, r.points, r.bits) for r in records if r.clouds_per_class})
    for dataset, clouds, points, bits in sizes:
        cells = [f"{NAMES.get(dataset, dataset)}, {clouds} x {points}, {bits} bits"]
        own = [
            r for r in records if (r.dataset, r.clouds_per_class, r.points, r.bits) == (dataset, clouds, points, bits)
        ]
        cells.append(f"{own[0].bytes_per_class:,.0f}")
        for arm in ("random", "herding", "kcenter", "medoid", "krr"):
            found = [r for r in own if r.arm == arm and r.protocol.startswith("tuned")]
            cell = accuracy_cell(found[0]) if found else "–"
            cells.append(cell)
        whole = [r for r in records if r.dataset == dataset and r.arm == "whole" and r.protocol.startswith("tuned")]
        cells.append(accuracy_cell(whole[0]) if whole else "–")
        lines.append(cells)
    header = [
        "clouds x points per class",
        "bytes per class",
        "random",
        "herding",
        "k-center",
        "medoids",
        "distilled (krr)",
        "whole set",
    ]
    return markdown_table(header, lines)


def details(records: list[Record]) -> str:
    """Every record: accuracy, spread, seeds, cost."""

    def place(record: Record) -> tuple[str, int, str, int]:
        return record.dataset, record.clouds_per_class or 10**6, record.protocol, ORDER.index(record.arm)

    rows = [
        [
            NAMES.get(r.dataset, r.dataset), r.arm, "all" if r.clouds_per_class is None else str(r.clouds_per_class),
            str(r.points), str(r.bits), f"{r.bytes_per_class:,.0f}", r.protocol, accuracy_cell(r), str(len(r.accuracy)),
            f"{100 * r.class_accuracy_mean:.1f}", f"{r.distill_seconds:.0f}", f"{r.prepare_seconds:.0f}",
            f"{r.train_seconds:.0f}", str(r.peak_mib),
        ]
        for r in sorted(records, key=place)
    ]  # fmt: skip
    header = ["data", "arm", "clouds / class", "points", "bits", "bytes / class", "protocol", "accuracy %", "runs",
              "class mean %", "distil s", "bank s", "train s", "peak MiB"]  # fmt: skip
    return markdown_table(header, rows)


def filled(text: str, records: list[Record]) -> str:
    """`text` with every `<!-- table: NAME -->` block made anew."""
    tables = {"summary": summary(records), "details": details(records)}
    pattern = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
    return pattern.sub(lambda match: match[1] + tables[match[2]] + match[3], text)


def main() -> int:
    """Rewrite or check the files that hold tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    records = read_records(HERE / "results" / "modelnet.jsonl")
    stale = [file for file in FILES if filled(file.read_text(), records) != file.read_text()]
    for file in stale:
        if check:
            print(f"{file}: tables differ from benchmarks/results; run python benchmarks/tables.py")
            continue
        with atomic(file) as temporary:
            temporary.write_text(filled(file.read_text(), records))
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
