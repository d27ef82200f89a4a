"""`pcdistill audit` through the real command line, on coresets of which every cloud is a copy, and on fresh clouds."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pcdistill.artefact.artefact import Artefact
from pcdistill.cli import main
from pcdistill.clouds import PointClouds
from pcdistill.commands.audit import Audit
from pcdistill.commands.select import Select
from pcdistill.condense import select
from pcdistill.core.options import Reading
from pcdistill.data import load, write_hdf5
from pcdistill.evaluation.audit import audit, rounding
from pcdistill.evaluation.subject import made_from
from pcdistill.storage import storages

Run = Callable[..., tuple[str, str]]


def selected(data: Path, output: Path, **given: Any) -> Artefact:
    """Random clouds of a set, in a file."""
    Select(data=str(data), output=output, method="random", force=True, **given).run([].append)
    return Artefact.load(output)


@pytest.fixture(scope="module")
def place(tiny_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a set, copies of some of its clouds, and as many fresh ones."""
    folder = tmp_path_factory.mktemp("audit")
    train, test = load(tiny_file, "train"), load(tiny_file, "test")
    write_hdf5(train, test, folder / "set.h5", dtype="float32")
    write_hdf5(test, train, folder / "turned.h5", dtype="float32")  # training and test clouds change places
    for name, data in (("copies", "set"), ("fresh", "turned")):
        selected(folder / f"{data}.h5", folder / f"{name}.h5", bytes_per_class=150, points=32, bits=6)
    return folder


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], place: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A command line that has to succeed, in the folder; what it prints, and what it says besides."""
    monkeypatch.chdir(place)
    capsys.readouterr()

    def call(*words: object) -> tuple[str, str]:
        assert main(["audit", *map(str, words)]) == 0
        return tuple(capsys.readouterr())

    return call


def test_copies_are_called_copies(run: Run, place: Path) -> None:
    count = len(Artefact.load(place / "copies.h5").clouds)
    said, aside = run("copies.h5", "--per-class")
    assert aside == ""
    assert f"random: {count} clouds x 32 points beside the 24 training clouds that they were made from\n" in said
    assert re.search(rf"\n{count} of {count} clouds are as near to a training cloud as copies would be \(", said)
    assert re.search(
        r"\n\d+ can be traced to one training cloud, .* \(of real clouds that are no copies \d+ %\)\.\n",
        said,
    )
    assert re.search(r"\nNearest: (ball|box|ring) \d+ to training cloud \d+ \(0\.\d\d\)", said)
    assert [line.split()[0] for line in said.splitlines()[1:4]] == ["ball", "box", "ring"]
    assert re.search(r"\ncoverage +\d+ %", said)


def test_json_holds_every_cloud_and_names_its_source(run: Run, place: Path) -> None:
    found = json.loads(run("copies.h5", "--json")[0])
    artefact = Artefact.load(place / "copies.h5")
    assert (found["dataset"], found["real"], found["made_from_it"]) == ("set.h5", "set.h5", True)
    assert (found["points"], found["rounded_to_bits"]) == (32, 6)
    assert found["made"]["clouds"] == len(found["clouds"]) == len(artefact.clouds)
    assert list(found["classes"]) == ["ball", "box", "ring"]
    assert all(
        cloud["near"] and cloud["source"] == cloud["nearest"] and not cloud["authentic"] for cloud in found["clouds"]
    )
    train = load(place / "set.h5", "train")
    for cloud, points in zip(found["clouds"], artefact.clouds.points, strict=True):
        assert train.class_names[int(train.labels[cloud["source"]])] == cloud["class"]
        # A point is off by half a step of 2 / 63 in each coordinate.
        assert torch.cdist(points, train.points[cloud["source"]]).amin(1).max() < 3**0.5 / 63 + 1e-5
    assert found["coverage"] == found["covered"] / 24


def test_a_file_holds_the_same_as_json(run: Run, tmp_path: Path) -> None:
    said, _ = run("copies.h5", "--output", tmp_path / "there" / "found.json")
    assert said.endswith(f"wrote {tmp_path}/there/found.json\n")
    assert json.loads((tmp_path / "there" / "found.json").read_text()) == json.loads(run("copies.h5", "--json")[0])


def test_another_set_is_compared_with_if_asked_for_and_said(run: Run) -> None:
    """Fresh clouds, of the test split: beside training clouds that they were not made from, they are no copies."""
    said, aside = run("fresh.h5", "--real", "set.h5", "--json")
    assert aside == "pcdistill: fresh.h5 was not made from 'set.h5' as it is here\n"
    fresh = json.loads(said)
    copies = json.loads(run("copies.h5", "--json")[0])
    assert (fresh["real"], fresh["dataset"], fresh["made_from_it"]) == ("set.h5", "turned.h5", False)
    assert fresh["made"]["near"] < 0.5 < copies["made"]["near"] == 1
    assert fresh["made"]["ratio"] > 3 * copies["made"]["ratio"]
    assert "beside the 24 training clouds of set.h5\n" in run("fresh.h5", "--real", "set.h5")[0]


def test_a_set_that_was_replaced_is_noticed(run: Run, place: Path, tmp_path: Path) -> None:
    artefact = Artefact.load(place / "copies.h5")
    facts = artefact.metadata.model_copy(update={"source_fingerprint": "0" * 64})
    replace(artefact, metadata=facts).save(tmp_path / "copies.h5")
    said, aside = run(tmp_path / "copies.h5")
    assert aside.endswith("copies.h5 was not made from 'set.h5' as it is here\n")
    assert "are as near to a training cloud as copies would be" in said


def test_the_clouds_that_a_set_was_made_from_are_found(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut to fewer points they are in another frame, and a protocol with a grid holds some of them out."""
    random = torch.Generator().manual_seed(0)
    train, test = (load(place / "set.h5", split) for split in ("train", "test"))
    larger = [c.with_points(torch.cat([c.points, torch.randn(len(c), 76, 3, generator=random)], 1).clamp(-1, 1))
              for c in (train, test)]  # fmt: skip
    write_hdf5(larger[0], larger[1], tmp_path / "large.h5")
    seen: list[int | None] = []

    def loaded(name: str, split: str, **how: Any) -> PointClouds:
        seen.append(how["points"])
        return load(name, split, **how)

    monkeypatch.setattr("pcdistill.data.reading.load", loaded)
    monkeypatch.chdir(tmp_path)
    for points, size in ((None, 1100), (1024, 1024)):
        made = select(load(tmp_path / "large.h5", points=points), clouds_per_class=1, points=16, method="random")
        made = replace(made, metadata=made.metadata.model_copy(update={"dataset": "large.h5"}))
        real, same = made_from(made, "a.h5", Reading())
        assert same
        assert real.points.shape == (24, size, 3)
        made.save(tmp_path / "a.h5")
        Audit(source=tmp_path / "a.h5").run([].append)
        assert seen[-1] == size  # test clouds in the same frame
    swept = selected(tmp_path / "large.h5", tmp_path / "a.h5", clouds_per_class=1, points=16, protocol="sweep")
    real, same = made_from(swept, "a.h5", Reading(), str(tmp_path / "large.h5"))
    assert same
    assert len(real) < 24
    assert made_from(swept, "a.h5", Reading(), str(place / "set.h5"))[1] is False


@pytest.mark.parametrize(("storage", "bits"), [("points", 5), ("coded", 5), ("rotated", 32), ("morphed", 32)])
def test_clouds_are_compared_with_rounded_ones_where_they_are_rounded(
    storage: str, bits: int, place: Path, tmp_path: Path
) -> None:
    assert storage in storages
    made = selected(place / "set.h5", tmp_path / "a.h5", clouds_per_class=3, points=16, bits=5, storage=storage)
    assert rounding(made) == bits


def test_the_command_finds_what_the_function_does(run: Run, place: Path) -> None:
    found: dict[str, Any] = json.loads(run("copies.h5", "--json")[0])
    train, test = (load(place / "set.h5", split) for split in ("train", "test"))
    wanted = audit(Artefact.load(place / "copies.h5").clouds, train, test, 6)
    assert found["bounds"] == wanted.bounds._asdict()
    assert found["mmd"] == wanted.overall.mmd
    assert found["test"]["chamfer"] == (wanted.overall.test and wanted.overall.test.chamfer)
    assert [cloud["emd"] for cloud in found["clouds"]] == wanted.near.emd.tolist()
