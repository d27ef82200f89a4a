"""The artefacts that come with the package: they are what their cards say, and may be passed on."""

import re
from pathlib import Path

import pytest

import pcdistill as pcd
from pcdistill.artefact.licence import forbidden, identifier, licence_of
from pcdistill.artefact.places import ZOO, located, zoo
from pcdistill.cli import main
from pcdistill.commands.card import Card
from pcdistill.core.errors import InputError
from pcdistill.core.files import sha256_file
from pcdistill.results.record import read_records
from pcdistill.results.set_card import measured_in, own

RECORDS = Path(__file__).parents[2] / "benchmarks" / "zoo" / "records.jsonl"
STATED = 0.03  # another machine's training may differ by so much


def card_of(name: str) -> str:
    return located(ZOO + name).with_suffix(".md").read_text(encoding="utf-8")


def test_there_are_some_of_three_data_sets() -> None:
    assert {"shapes-123", "shapes-369"} <= set(zoo())
    assert {name.rpartition("-")[0] for name in zoo()} == {"shapes", "neurons_medulla17", "neurons_cortex2"}


@pytest.mark.parametrize("name", zoo())
def test_each_is_small_and_its_card_is_of_this_very_file(name: str) -> None:
    artefact, file, card = pcd.Artefact.load(ZOO + name), located(ZOO + name), card_of(name)
    assert f"SHA-256**: `{sha256_file(file)}`" in card
    assert f"**file**: {file.stat().st_size:,} bytes" in card
    assert f"{artefact.storage.nbytes:,} bytes" in card
    assert artefact.metadata.dataset == name.partition("-")[0]
    budget = int(re.findall(r"-(\d+)", name)[0])
    assert 0.75 * budget <= artefact.bytes_per_class <= budget
    assert file.stat().st_size < 30_000
    assert file.with_suffix(".png").stat().st_size < 120_000
    assert measured_in(card) is not None


@pytest.mark.parametrize("name", zoo())
def test_each_may_be_passed_on_and_says_whose_work_it_is(name: str) -> None:
    facts, card = pcd.Artefact.load(ZOO + name).metadata, card_of(name)
    assert not forbidden(facts)
    assert card.startswith(f"---\nlicense: {identifier(licence_of(facts))}\n")
    if name.startswith("neurons"):
        assert "CC BY 4.0" in licence_of(facts)
        assert facts.source["licence"] == "CC BY 4.0 (NeuroMorpho.Org)"  # in the file, too
        assert "tecuatl2024neuromorpho" in card


@pytest.mark.skipif(not RECORDS.is_file(), reason="the benchmarks are not part of the installed package")
@pytest.mark.parametrize("name", zoo())
def test_cards_state_what_was_recorded(name: str) -> None:
    (record,) = own(read_records(RECORDS), pcd.Artefact.load(ZOO + name))
    stated = f"{100 * record.accuracy_mean:.1f} ± {100 * record.accuracy_std:.1f} ({record.network}, n = 3)"
    assert measured_in(card_of(name)) == stated


@pytest.mark.skipif(not RECORDS.is_file(), reason="the benchmarks are not part of the installed package")
def test_a_card_is_what_the_command_writes(tmp_path: Path) -> None:
    lines = card_of("shapes-123").splitlines()
    Card(source="zoo:shapes-123", output=tmp_path / "shapes-123.md", records=(RECORDS,)).run(lambda _: None)
    written = (tmp_path / "shapes-123.md").read_text(encoding="utf-8").splitlines()
    assert [line for line in written if line not in lines] == []


def test_without_records_a_card_is_the_packaged_one(tmp_path: Path) -> None:
    said: list[str] = []
    Card(source="zoo:shapes-123").run(said.append)
    packaged = card_of("shapes-123")
    assert measured_in(said[0]) == measured_in(packaged)
    assert set(packaged.splitlines()) - set(said[0].splitlines()) == {
        "![10 classes, some clouds of each](shapes-123.png)"
    }
    Card(source="zoo:shapes-123", output=tmp_path / "mine.md").run(said.append)
    written = (tmp_path / "mine.md").read_text(encoding="utf-8")
    assert written == packaged.replace("shapes-123.png", "mine.png")
    assert (tmp_path / "mine.png").is_file()
    Card(source="zoo:shapes-123", name="hf:me/mine").run(said.append)
    assert "Not measured here; `pcdistill evaluate hf:me/mine` measures it." in said[-1]


def test_one_trains_to_what_its_card_says(capsys: pytest.CaptureFixture[str]) -> None:
    """One of the networks of which the card states the mean, trained and tested anew."""
    words = ["--network", "pointnet-tiny", "--train-steps", "300", "--train-seeds", "1"]
    assert main(["evaluate", "zoo:shapes-123", *words]) == 0
    accuracy = re.search(r"accuracy +([\d.]+) %", capsys.readouterr().out)
    stated = re.match(r"([\d.]+) ± ([\d.]+)", str(measured_in(card_of("shapes-123"))))
    assert accuracy is not None
    assert stated is not None
    assert abs(float(accuracy[1]) - float(stated[1])) <= 100 * STATED + float(stated[2])


def test_its_clouds_are_loaded_by_name() -> None:
    clouds = pcd.load("zoo:shapes-123")
    assert clouds.points.equal(pcd.Artefact.load("zoo:shapes-123").training_clouds.points)
    assert clouds.class_names == pcd.load("shapes", "test", points=8).class_names


def test_names_that_are_none_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match=r"zoo: 'shapes-12' \(did you mean 'shapes-123'\?\), expected one of "):
        pcd.Artefact.load("zoo:shapes-12")
    assert main(["show", "zoo:none"]) == 2
    assert main(["zoo", "list"]) == 0
    assert "zoo:shapes-123 " in capsys.readouterr().out
