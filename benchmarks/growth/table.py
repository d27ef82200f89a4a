"""Tables of how time and memory of condensing grow, and of a pass that is shared."""

import json
from pathlib import Path
from typing import Any

from benchmarks.wording import without_gaps
from pcdistill.results.table import Table


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
    return Table(header, rows).markdown() if rows else ""


def shards(lines: list[dict[str, Any]]) -> str:
    """Ways to pass a real set, the single sum first; nothing where nothing was measured."""
    whole = {line["real_clouds"]: line["prepare_seconds"] for line in lines if line["shards"] == 1}
    rows = [
        [
            f"{line['real_clouds']:,}", line["variant"], str(line["shards"]), f"{line['prepare_seconds']:.0f}",
            f"{whole[line['real_clouds']] / line['prepare_seconds']:.2f}" if line["real_clouds"] in whole else None,
            str(line["peak_mib"]),
            f"{line['distance']:.0e}" if line["distance"] else "0",
        ]
        for line in sorted(lines, key=lambda line: line["real_clouds"])
    ]  # fmt: skip
    header = ["real clouds", "passed by", "shards", "seconds", "times as fast", "peak MiB",
              "distance from one sum"]  # fmt: skip
    return without_gaps(header, rows)


def tables(folder: Path) -> dict[str, str]:
    """Of the records in this folder, by the name of the block that a table stands in."""
    return {"growth": growth(_lines(folder / "records.jsonl")), "shards": shards(_lines(folder / "shards.jsonl"))}


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
