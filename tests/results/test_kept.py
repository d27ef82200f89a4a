"""Records of evaluations in a folder: those of other processes stay, and what a killed one leaves is not read."""

from collections.abc import Callable
from pathlib import Path

from pcdistill.results.arms import gathered
from pcdistill.results.artefacts import among
from pcdistill.results.kept import Kept
from pcdistill.results.record import Record, read_records, write_records

Recorded = Callable[..., Record]


def test_two_at_once_lose_nothing(tmp_path: Path, recorded: Recorded) -> None:
    one, other = Kept(tmp_path), Kept(tmp_path)  # both have seen an empty folder
    for kept, arm in ((one, "random"), (other, "herding"), (one, "medoid")):
        kept.add(recorded([0.5], arm=arm))
    assert [record.arm for record in read_records(tmp_path / "records.jsonl")] == ["random", "herding", "medoid"]
    assert len(one.records) == 3


def test_what_a_killed_run_leaves_is_not_read(
    tmp_path: Path, recorded: Recorded, make_artefact: Callable[..., object]
) -> None:
    write_records(tmp_path / "sub" / "records.jsonl", [recorded([0.5])])
    (tmp_path / "sub" / ".records.jsonl.8fpyvh_p.jsonl").write_text("half a li")
    write_records(tmp_path / ".old" / "records.jsonl", [recorded([0.1])])
    make_artefact().save(tmp_path / "x.h5")  # type: ignore[attr-defined]
    (tmp_path / ".x.h5.gwomdlw_.h5").write_bytes((tmp_path / "x.h5").read_bytes()[:2000])
    placed, skipped = gathered([tmp_path])
    assert [one.record.accuracy for one in placed] == [[0.5]]
    assert skipped == []
    assert among([tmp_path]) == [tmp_path / "x.h5"]
