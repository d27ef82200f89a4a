"""Benchmark records: one JSON object per arm in `benchmarks/results/<benchmark>.jsonl`.

Tables and plots are made from these files and from nothing else.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from pcdistill.errors import InputError
from pcdistill.files import atomic


class Record(BaseModel):
    """One arm of a benchmark; further fields are allowed, these are always there.

    Attributes:
        arm: `random`, `herding`, `kcenter`, `medoid`, `whole`, or the method's registered name.
        distilled: whether anything was learned.
        bytes_per_class: stored bytes, fixed overhead apart, over the number of classes.
        accuracy: a fraction per run; runs are distillation seeds x training seeds.
        prepare_seconds: bank, experts; computed once per data set.
        peak_mib: peak memory of the process that distilled (selected, trained).
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    benchmark: str
    dataset: str
    arm: str
    distilled: bool
    objective: str | None
    storage: str | None
    clouds_per_class: int | None
    points: int
    bits: int | None
    bytes_per_class: float
    protocol: str
    network: str
    distill_network: str | None
    accuracy: list[float]
    accuracy_mean: float
    accuracy_std: float
    class_accuracy_mean: float
    distill_seeds: list[int]
    train_seeds: list[int]
    distill_seconds: float
    prepare_seconds: float
    train_seconds: float
    peak_mib: int
    command: str
    commit: str
    versions: dict[str, str]
    hardware: str
    date: str

    def key(self) -> tuple[Any, ...]:
        """What a record is about: a newer one with the same key replaces it."""
        fields = ("benchmark", "dataset", "arm", "storage", "clouds_per_class", "points", "bits", "protocol", "network")
        return (*(getattr(self, name) for name in fields), (self.model_extra or {}).get("variant"))


def read_records(path: Path) -> list[Record]:
    """All records of a file, none if it does not exist.

    Raises:
        InputError: naming the line that is not a record.
    """
    if not path.exists():
        return []
    records = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            records.append(Record.model_validate_json(line))
        except ValidationError as error:
            first = error.errors()[0]
            found = ": ".join([*map(str, first["loc"]), first["msg"]])
            raise InputError(f"{path}:{number}", found, "a benchmark record") from None
    return records


def write_record(path: Path, record: Record) -> None:
    """Add `record` to the file, in place of the one about the same arm, if there is one."""
    records = read_records(path)
    places = [i for i, old in enumerate(records) if old.key() == record.key()]
    if places:
        records[places[0]] = record
    else:
        records.append(record)
    with atomic(path) as temporary:
        temporary.write_text("".join(json.dumps(one.model_dump()) + "\n" for one in records))


def accuracy_cell(record: Record) -> str:
    """`84.3 ± 0.6` in per cent, without the spread where there is one run only."""
    spread = f" ± {100 * record.accuracy_std:.1f}" if len(record.accuracy) > 1 else ""
    return f"{100 * record.accuracy_mean:.1f}{spread}"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, first column left, the others right."""
    lines = [header, [":--", *["--:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
