"""Tables of what there is to choose from, each kind beside random clouds and medoids at the same bytes."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.wording import cells
from pcdistill.results.record import PRESET, Record, read_records
from pcdistill.results.table import Table

Key = tuple[str, str]  # arm, storage
CHOSEN: dict[Key, str] = {("random", "voxels"): "random", ("medoid", "voxels"): "medoids"}
CODED: dict[Key, str] = {("random", "coded"): "random, `coded`", ("medoid", "coded"): "medoids, `coded`"}
SELECTORS: dict[Key, str] = CHOSEN | {
    (name, "voxels"): f"`{name}`" for name in ("thrift", "el2n", "aum", "window", "ccs")
}
STORAGES: dict[Key, str] = (
    {(arm, "voxels"): f"{name}, `voxels`" for (arm, _), name in CHOSEN.items()}
    | {("krr", "voxels"): "distilled, `voxels`", ("partial", "voxels"): "distilled, a fifth of it, `voxels`"}
    | CODED
    | {
        ("krr", name): f"distilled, `{name}`"
        for name in ("coded", "rotated", "morphed", "basis", "mixture", "symmetric")
    }
)
MATCHED: dict[Key, str] = CODED | {(name, "coded"): f"`{name}`" for name in ("krr", "dm", "cafe")}
EXPANSIONS: dict[Key, str] = {("medoid", "voxels"): "medoids"} | {
    (arm, "voxels"): f"and `{option}`"
    for arm, option in {
        "mirrored": "mirror=true", "jittered": "jitter=1", "between": "interpolate=1", "mixed": "mixup=1",
        "copied": "copies=1", "densified": "densify=1024",
    }.items()
}  # fmt: skip


def tables(folder: Path) -> dict[str, str]:
    """Of the records in this folder, by the name of the block that a table stands in."""
    records = [record for name in ("records", "removed") for record in read_records(folder / f"{name}.jsonl")]
    return {
        "alternatives_selectors": _ranked(records, SELECTORS),
        "alternatives_storages": _ranked(records, STORAGES),
        "alternatives_matched": _ranked(records, MATCHED),
        "alternatives_expansions": _ranked(records, EXPANSIONS),
    }


def _name(record: Record) -> str:
    """Of its arm, as the grid calls it."""
    return str(record.variant).split()[0].removeprefix(PRESET)


def _ranked(records: Sequence[Record], names: Mapping[Key, str]) -> str:
    """A row an arm, as far as they were measured, the best first; bold is one clearly better than all others."""
    found = {names[key]: record for record in records if (key := (_name(record), str(record.storage))) in names}
    best = sorted(found, key=lambda name: -found[name].accuracy_mean)
    rows = []
    for name, accuracy in zip(best, cells(found, best), strict=True):
        one = found[name]
        rows.append([name, f"{one.clouds_per_class:.0f}", one.points, f"{one.bytes_per_class:,.0f}", accuracy])
    return Table(["", "clouds per class", "points", "bytes per class", "accuracy"], rows).markdown()
