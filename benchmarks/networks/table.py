"""Tables of training sets by the networks that are trained on them."""

import json
from pathlib import Path
from typing import Any

from benchmarks.wording import MODELNETS, NAMES, NETWORKS, NOTHING, SETS, budget_text, cells, how_made, without_gaps
from pcdistill.results.record import Record, read_records

PRINTED = " Printed: on sets distilled with PointNet under the paper's own protocol, clouds per class not stated.\n"


def networks(records: list[Record], papers: list[dict[str, Any]], only: tuple[str, ...] = ()) -> str:
    """What every network learns from every set; of sets of one size the clear best of a column is bold.

    Args:
        records: of `networks.py`; those on a validation split are left out.
        papers: of other networks, as printed.
        only: the sizes that are shown, beside whole sets; all of them where there are none.
    """
    own: dict[tuple[str, str, str, str], Record] = {}
    for record in records:
        arm, size, validation = str(record.variant).split()
        if validation == "validation=False" and arm in SETS and (not only or size in (*only, "None")):
            own[record.dataset, size, arm, record.network] = record
    datasets = sorted({place[0] for place in own if not only or place[0] in MODELNETS})
    printed = {(one["dataset"], one["method"], one["network"]): one for one in papers if one["dataset"] in datasets}
    columns = [name for name in NETWORKS if any(place[-1] == name for place in (*own, *printed))]
    rows: list[list[object]] = []
    for dataset in datasets:
        sizes = sorted(
            {place[1] for place in own if place[0] == dataset}, key=lambda size: (size == "None", size.zfill(9))
        )
        for size in sizes:
            rows += _of_size({place[2:]: r for place, r in own.items() if place[:2] == (dataset, size)}, columns)
        for method in dict.fromkeys(place[1] for place in printed if place[0] == dataset):
            line = [_printed(printed.get((dataset, method, name))) for name in columns]
            rows.append([NAMES[dataset], f"{method}, printed", *line])
    if not rows:
        return ""
    header = ["bytes per class", "trained on", *(NETWORKS[name] for name in columns)]
    return without_gaps(header, rows) + "\n" + how_made(list(own.values())).rstrip() + PRINTED


def _of_size(own: dict[tuple[str, str], Record], columns: list[str]) -> list[list[object]]:
    """Rows of the sets of one size, by set and network."""
    found = [arm for arm in SETS if any(place[0] == arm for place in own)]
    of_network = [cells({arm: r for (arm, network), r in own.items() if network == name}, found) for name in columns]
    rows: list[list[object]] = []
    for arm, line in zip(found, zip(*of_network, strict=True), strict=True):
        first = next(r for place, r in own.items() if place[0] == arm)
        size = f"{NAMES.get(first.dataset, first.dataset)}, {budget_text(first)}"
        rows.append([size, SETS[arm], *line])
    return rows


def _printed(one: dict[str, Any] | None) -> str | None:
    return None if one is None else f"{100 * one['accuracy']:.1f} ± {100 * one['std']:.1f}"


def tables(folder: Path) -> dict[str, str]:
    """Of the records in this folder, by the name of the block that a table stands in."""
    records = read_records(folder / "records.jsonl")
    papers = json.loads((folder.parent / "published.json").read_text())["networks"]
    return {
        "networks": networks(records, papers) or NOTHING,
    }
