"""Write the tables in README.md and benchmarks/README.md from the committed records, or check that they agree.

python benchmarks/tables.py           # rewrite the marked blocks
python benchmarks/tables.py --check   # exit 1 if a block differs from its records
"""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from pcdistill.evaluation import Record, accuracy_cell, markdown_table, read_records
from pcdistill.files import atomic
from pcdistill.matching import objectives

HERE = Path(__file__).parent
FILES = (HERE.parent / "README.md", HERE / "README.md")
NAMES = {"modelnet10": "ModelNet10", "modelnet40": "ModelNet40", "shapes": "shapes"}
METHODS = {
    "random": "random", "herding": "herding", "kcenter": "k-center", "medoid": "medoids", "sadm": "SADM",
    "quantile": "quantile", "gm": "gradient", "tm": "trajectory", "krr": "regression",
}  # fmt: skip
ORDER = ("random", "herding", "kcenter", "medoid", *objectives, "whole")
Size = tuple[str, int, int, int | None]


def summary(records: list[Record], protocol: str) -> str:
    """Accuracy per budget under a protocol: one line per data set and size, one column per arm that has a record."""
    own = [r for r in records if r.protocol.split(" ")[0] == protocol]
    sizes = sorted({size for r in own if (size := _size(r))})
    arms = [arm for arm in METHODS if any(r.arm == arm for r in own)]
    lines = []
    for size in sizes:
        cells = {r.arm: r for r in own if _size(r) in (size, None) and r.dataset == size[0]}
        dataset, clouds, points, bits = size
        line = [f"{NAMES.get(dataset, dataset)}, {clouds} x {points}, {bits} bits"]
        line.append(f"{next(r for r in own if _size(r) == size).bytes_per_class:,.0f}")
        lines.append(line + [accuracy_cell(cells[arm]) if arm in cells else "–" for arm in (*arms, "whole")])
    header = ["clouds x points per class", "bytes per class", *(METHODS[arm] for arm in arms), "whole set"]
    return markdown_table(header, lines)


def _size(record: Record) -> Size | None:
    if record.clouds_per_class is None:
        return None
    return record.dataset, record.clouds_per_class, record.points, record.bits


def costs(lines: list[dict[str, Any]]) -> str:
    """What a step of every objective costs."""
    rows = []
    for line in lines:
        where = ", ".join(f"{name.removeprefix('aten::')} {100 * share:.0f} %" for name, share in
                          list(line["operations"].items())[:3])  # fmt: skip
        name = " ".join([line["objective"], *line["options"]])
        rows.append([name, f"{line['seconds_per_step']:.3f}", str(line["steps"]), f"{line['prepare_seconds']:.0f}",
                     str(line["prepare_peak_mib"]), str(line["peak_mib"]), where])  # fmt: skip
    header = ["objective", "s / step", "steps", "prepare s", "MiB before", "peak MiB", "most time in"]
    return markdown_table(header, rows)


def frontier(records: list[Record], papers: list[dict[str, Any]]) -> str:
    """Accuracy at equal bytes: selections, distilled, the best that papers print at these bytes, and the whole set."""
    own = [r for r in records if r.arm != "whole"]
    rows = []
    for dataset, size, protocol in sorted({(r.dataset, r.variant, r.protocol) for r in own}, key=_by_size):
        cells = {r.arm: r for r in own if (r.dataset, r.variant, r.protocol) == (dataset, size, protocol)}
        cells |= {r.arm: r for r in records if (r.dataset, r.arm, r.protocol) == (dataset, "whole", protocol)}
        shape = next(iter(cells.values()))
        printed = {one["method"]: f"{100 * one['accuracy']:.1f}" for one in papers
                   if (one["dataset"], str(one["bytes_per_class"])) == (dataset, size)}  # fmt: skip
        clouds = max(r.clouds_per_class or 0 for r in cells.values())
        rows.append([
            f"{NAMES.get(dataset, dataset)}, {int(size):,}", protocol, f"{clouds:.0f} x {shape.points} @ {shape.bits}",
            *(accuracy_cell(cells[arm]) if arm in cells else "–" for arm in ("random", "herding", "kcenter", "medoid")),
            f"**{accuracy_cell(cells['krr'])}**" if "krr" in cells else "–",
            printed.get("SADM", "–"), printed.get("3DDP", "–"),
            accuracy_cell(cells["whole"]) if "whole" in cells else "–",
        ])  # fmt: skip
    header = ["bytes per class", "protocol", "clouds x points @ bits", "random", "herding", "k-center", "medoids",
              "distilled", "SADM", "3DDP", "whole set"]  # fmt: skip
    return markdown_table(header, rows) if rows else ""


def _by_size(place: tuple[str, str, str]) -> tuple[str, str, int]:
    dataset, size, protocol = place
    return protocol, dataset, int(size)


def codecs(found: dict[str, Any]) -> str:
    """Bytes per point of ours and of others."""
    names = [name for name in found["rows"][0]["bytes_per_point"] if not name.endswith("seconds")]
    rows = []
    for row in found["rows"]:
        sizes = row["bytes_per_point"]
        shape = f"{row['arm']}, {row['clouds_per_class']} x {row['points']} @ {row['bits']}"
        saved = f"{100 * (1 - sizes['ours'] / sizes['raw']):.0f} %"
        rows.append([shape, *(f"{sizes[name]:.2f}" for name in names), saved])
    return markdown_table(["clouds per class x points @ bits", *names, "below raw"], rows)


def growth(lines: list[dict[str, Any]]) -> str:
    """How time and memory of condensing grow; nothing where nothing was measured."""
    sizes = ("real_clouds", "classes", "clouds_per_class", "points")
    own = sorted((line for line in lines if line["dataset"] == "growth"), key=lambda line: [line[n] for n in sizes])
    rows = [
        [
            *(f"{line[name]:,}" for name in sizes),
            f"{line['fingerprint_seconds'] + line['select_seconds']:.1f}", f"{line['prepare_seconds']:.1f}",
            f"{line['distill_seconds']:.1f}", f"{line['distill_seconds'] / line['steps']:.3f}",
            str(line["networks"]), str(line["start_mib"]), str(line["peak_mib"]), f"{line['file_mib']:,}",
        ]
        for line in own
    ]  # fmt: skip
    header = ["real clouds", "classes", "clouds / class", "points", "select s", "prepare s", "distil s", "s / step",
              "networks", "MiB before", "peak MiB", "file MiB"]  # fmt: skip
    return markdown_table(header, rows) if rows else ""


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
    cost, grown = HERE / "results" / "cost.json", HERE / "results" / "growth.jsonl"
    codec, published = HERE / "results" / "codec.json", HERE / "results" / "published.json"
    papers = json.loads(published.read_text())["points"] if published.exists() else []
    tables = {
        "summary": summary(records, "tuned"),
        "published": summary(records, "published"),
        "details": details(records),
        "frontier": frontier(read_records(HERE / "results" / "frontier.jsonl"), papers),
        "codecs": codecs(json.loads(codec.read_text())) if codec.exists() else "",
        "costs": costs(json.loads(cost.read_text())) if cost.exists() else "",
        "growth": growth([json.loads(line) for line in grown.read_text().splitlines()] if grown.exists() else []),
    }
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
