"""Tables of candidates for a teacher, on validation and on the test set."""

from pathlib import Path
from typing import Any

from benchmarks.wording import NAMES, NOTHING, SETS, without_gaps
from pcdistill.evaluation import mean_std
from pcdistill.results.record import Record, read_records
from pcdistill.results.table import accuracy_cell
from pcdistill.teaching.candidates import MEASURES, Candidate, correlations


def ladder(records: list[Record]) -> str:
    """Students by their teacher's accuracy, on validation; then the chosen and the strongest one on the test set."""
    parts = {(r.dataset, r.arm, str(r.part)): r for r in records}
    places = [place[:2] for place in parts if place[2] == "choose"]
    facts: dict[str, dict[str, Any]] = {}
    reached: dict[tuple[str, tuple[str, str]], float] = {}  # by the best temperature
    for place in places:
        for one in parts[*place, "choose"].ladder:
            facts.setdefault(one["teacher"], one)
            key, student = (one["teacher"], place), 100 * mean_std(one["student_accuracy"])[0]
            reached[key] = max(student, reached.get(key, 0.0))
    names = [f"{NAMES.get(d, d)}, {SETS[arm]}" for d, arm in places]
    rows = []
    for teacher, one in sorted(facts.items(), key=lambda item: float(item[1]["teacher_accuracy"])):
        cells = [f"{reached[teacher, place]:.1f}" if (teacher, place) in reached else None for place in places]
        cost = [f"{one['train_seconds']:.0f}", f"{one['train_gflops']:,.0f}", f"{one['label_gflops']:,.0f}"]
        rows.append([teacher, f"{100 * one['teacher_accuracy']:.1f}", *cells, *cost])
    header = ["teacher @ steps", "its accuracy", *(f"best student, {name}" for name in names)]
    text = without_gaps([*header, "training, s", "training, GFLOP", "labels, GFLOP"], rows)
    tests, ranks = [], []
    for place, name in zip(places, names, strict=True):
        record = parts[*place, "choose"]
        strongest, chosen = (Candidate.model_validate(one) for one in (record.strongest, record.chosen))
        cells = [accuracy_cell(parts[*place, part]) if (*place, part) in parts else None
                 for part in ("hard", "strongest", "chosen")]  # fmt: skip
        tests.append([name, cells[0], strongest.teacher, cells[1], chosen.teacher, f"{chosen.temperature:g}", cells[2]])
        rungs = [Candidate.model_validate(one) for one in record.ladder or []]
        done = [rung for rung in rungs if rung.steps >= strongest.steps]
        for which, own in (("all", rungs), ("trained to the end", done)):
            teachers = len({rung.teacher for rung in own})
            cells = [f"{value:+.2f}" if value == value else None for value in correlations(own).values()]
            ranks.append([f"{name}, {which} ({teachers})", *cells])
    if not tests:
        return ""
    shown = ["test set", "hard", "strongest", "its student", "chosen", "T", "its student"]
    text += "\n" + without_gaps(shown, tests)
    header = [name.replace("_", " ") for name in MEASURES]
    return text + "\n" + without_gaps(["rank correlation with the student", *header], ranks)


def tables(folder: Path) -> dict[str, str]:
    """Of the records in this folder, by the name of the block that a table stands in."""
    return {"ladder": ladder(read_records(folder / "records.jsonl")) or NOTHING}
