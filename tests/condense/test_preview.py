"""`--dry-run` of what makes sets: it says what the run then makes, and writes nothing."""

import re
from pathlib import Path
from typing import Any

import pytest

from pcdistill.artefact.artefact import Artefact
from pcdistill.commands.distill import Distill
from pcdistill.commands.select import Select
from tests.conftest import lines_of, written


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PCDISTILL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("size", [{"bytes_per_class": 60}, {"clouds_per_class": 2, "points": 16}], ids=str)
def test_select_says_what_it_then_chooses(size: dict[str, Any], tiny_file: Path, tmp_path: Path, cache: Path) -> None:
    asked: dict[str, Any] = {"data": str(tiny_file), "output": tmp_path / "out" / "a.h5", **size}
    (said,) = lines_of(Select(**asked, dry_run=True))
    assert not cache.exists()
    assert not (tmp_path / "out").exists()
    ran = lines_of(Select(**asked))
    made = Artefact.load(tmp_path / "out" / "a.h5")
    assert said == f"{ran[0].replace('wrote', 'would write')}, {made.nbytes:,} bytes in all"


def test_select_counts_random_clouds_where_networks_would_be_trained(
    tiny_file: Path, tmp_path: Path, cache: Path
) -> None:
    output = tmp_path / "a.h5"
    said = lines_of(
        Select(data=str(tiny_file), output=output, method="ccs", bytes_per_class=60, quota="gain", dry_run=True)
    )
    assert said[-1] == "  about: random clouds stood in for those that trained networks would choose"
    assert not cache.exists()
    assert not output.exists()


def test_distill_says_its_steps_and_how_long_they_take_once_that_is_known(
    tiny_file: Path, tmp_path: Path, cache: Path
) -> None:
    asked: dict[str, Any] = {
        "data": str(tiny_file), "output": tmp_path / "a.h5", "bytes_per_class": 80, "objective": "dm", "members": 1,
        "steps": 4, "storage": "coded", "points": 16, "bits": 6,
    }  # fmt: skip
    first, steps = lines_of(Distill(**asked, dry_run=True))
    assert re.fullmatch(
        r"would write .*/a.h5: 3 classes x .* bytes per class \(entropy-coded\), \d+ bytes in all", first
    )
    unknown = (
        r"  4 steps of at most \d+ clouds, after networks or experts are made of the set, which are not in the cache"
    )
    assert re.fullmatch(unknown, steps)
    assert not cache.exists()
    made = written(Distill(**asked))
    kept = sorted(cache.rglob("*"))
    again, steps = lines_of(Distill(**asked, dry_run=True))
    assert again == first
    assert re.fullmatch(r"  4 steps of at most \d+ clouds, about \d+ s distilling", steps)
    assert sorted(cache.rglob("*")) == kept
    assert Artefact.load(tmp_path / "a.h5").losses == made.losses
