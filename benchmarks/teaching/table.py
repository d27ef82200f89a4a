"""Tables of what a teacher's labels are worth, and of what they cost."""

from pathlib import Path

from benchmarks.wording import NAMES, NOTHING, SETS, budget_text, cells, how_made, without_gaps
from pcdistill.results.record import Record, read_records

LABELS = ("hard", "static", "views", "online")
STUDENTS = {"pointnet-nano": "nano", "pointnet-tiny": "tiny", "pointnet-light": "light", "pointnet": "PointNet"}


def teaching(records: list[Record], student: str | None = "pointnet-tiny", long: bool = False) -> str:
    """Accuracy by labels, one row per set and student; of a row the clear best is bold.

    Args:
        records: of `teaching.py`.
        student: the only one that is shown; None shows all others, and this one on the same sets.
        long: those trained for more steps than the others.
    """
    own = {}
    for record in records:
        arm, size, labels, *steps = str(record.variant).split()
        if bool(steps) != long:
            continue
        own[record.dataset, int(size), arm, record.network, labels] = record
    light = {place[:3] for place in own if place[3] != "pointnet-tiny"}
    shown = LABELS if student and not long else ("hard", "online")
    places = dict.fromkeys(
        place[:4] for place in own if (place[3] == student if student else place[:3] in light)
    )  # fmt: skip
    order = sorted(places, key=lambda p: (p[0], p[1] or 10**9, list(SETS).index(p[2]), list(STUDENTS).index(p[3])))
    rows = []
    for place in order:
        found = {labels: own[(*place, labels)] for labels in shown if (*place, labels) in own}
        first = next(iter(found.values()))
        size = f"{NAMES.get(place[0], place[0])}, {budget_text(first)}"
        rows.append([size, SETS[place[2]], *([] if student else [STUDENTS[place[3]]]), *cells(found, shown)])
    if not rows:
        return ""
    header = ["bytes per class", "trained on", *([] if student else ["student"]), *shown]
    return without_gaps(header, rows) + "\n" + how_made([own[key] for key in own if key[:4] in places])


def teachers(records: list[Record]) -> str:
    """What teachers cost, by data set."""
    rows = {}
    for record in records:
        if (
            record.labels == "online"
            and len(str(record.variant).split()) == 3
            and record.network == "pointnet-tiny"
            and record.dataset not in rows
        ):
            hard = next(
                (one for one in records if one.dataset == record.dataset and one.network == record.network
                 and one.labels == "hard"), record,
            )  # fmt: skip
            rows[record.dataset] = [
                NAMES.get(record.dataset, record.dataset), f"{record.teacher_seconds:.0f}",
                f"{record.teacher_gflops:,.0f}", f"{record.labelling_gflops:,.0f}",
                f"{record.student_gflops:,.0f}", f"{hard.train_seconds:.0f}", f"{record.train_seconds:.0f}",
                *(_gain(records, record.dataset, arm) for arm in ("random", "krr")),
            ]  # fmt: skip
    header = ["data", "teacher, s", "teacher, GFLOP", "labels online, GFLOP", "student, GFLOP", "student, s",
              "student taught online, s", "random, 1,229, hard to online", "distilled"]  # fmt: skip
    return without_gaps(header, list(rows.values())) if rows else ""


def _gain(records: list[Record], dataset: str, arm: str) -> str | None:
    found = {str(r.variant): r for r in records
             if (r.dataset, r.network) == (dataset, "pointnet-tiny")}  # fmt: skip
    hard, online = (found.get(f"{arm} 1229 {labels}") for labels in ("hard", "online"))
    if hard is None or online is None:
        return None
    return f"{100 * hard.accuracy_mean:.1f} to {100 * online.accuracy_mean:.1f}"


def tables(folder: Path) -> dict[str, str]:
    """Of the records in this folder, by the name of the block that a table stands in."""
    records = read_records(folder / "records.jsonl")
    return {
        "teaching": teaching(records) or NOTHING,
        "students": teaching(records, None) or NOTHING,
        "patient": teaching(records, long=True) or NOTHING,
        "teachers": teachers(records) or NOTHING,
    }
