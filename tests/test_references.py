"""What to cite: every registered part has its references, and an artefact's BibTeX names what was used, no more."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pcdistill import references, training
from pcdistill.cli import main
from pcdistill.config import DistillConfig, SelectConfig
from pcdistill.data.catalog import CATALOG
from pcdistill.geometry import corruptions
from pcdistill.jobs import run_distill, run_select
from pcdistill.matching import objectives
from pcdistill.models import networks
from pcdistill.references import OWN, bibliography, cite, keys_of
from pcdistill.selection import selectors
from pcdistill.storage import Artefact, Metadata, storages

TABLES = ("OBJECTIVES", "SETTINGS", "SELECTORS", "STORAGES", "NETWORKS", "DATA", "PROTOCOLS", "CORRUPTIONS", "MEASURES")
PARTS = [
    *(("objective", name) for name in objectives),
    *(("selector", name) for name in selectors),
    *(("storage", name) for name in storages),
    *(("network", name) for name in networks),
    *(("data set", name) for name in CATALOG),
    *(("protocol", name) for name in training.RECIPES),
    *(("corruption", name) for name in corruptions),
]
WANTED = {
    "inproceedings": {"title", "author", "booktitle", "year"},
    "article": {"title", "author", "journal", "volume", "pages", "year"},
    "book": {"title", "author", "publisher", "year"},
    "misc": {"title", "author", "howpublished", "year"},
}


def entries(text: str) -> dict[str, tuple[str, dict[str, str]]]:
    """Key -> kind and fields of BibTeX, read sign by sign; comments are what stands between entries."""
    found: dict[str, tuple[str, dict[str, str]]] = {}
    place = 0
    while (start := text.find("@", place)) >= 0:
        assert all(not line or line.startswith("%") for line in text[place:start].splitlines())
        depth, end = 0, text.index("{", start)
        while True:
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            assert depth >= 0
            if depth == 0:
                break
            end += 1
        kind, (key, _, body) = (
            text[start + 1 : text.index("{", start)],
            text[start:end].partition("{")[2].partition(","),
        )
        assert key not in found
        fields = re.split(r",\n  (?=\w+ = )", body.strip().removeprefix("  "))
        pairs = dict(field.split(" = ", 1) for field in fields)
        assert all(value.startswith("{") and value.endswith("}") for value in pairs.values())
        found[key] = (kind, {name: value[1:-1] for name, value in pairs.items()})
        place = end + 1
    return found


@pytest.fixture
def metadata() -> Callable[..., Metadata]:
    """Facts of an artefact as `distill` writes them, with changes to its objective and other fields."""

    def make(objective: dict[str, Any] | None = None, **changes: Any) -> Metadata:
        facts = {
            "arm": "tm", "distilled": True, "dataset": "modelnet40", "source_fingerprint": "0" * 64, "source": {},
            "storage": "points", "layout": {}, "class_names": ("a", "b"), "clouds_per_class": 1, "points": 8,
            "bits": 8, "selection": {"method": "random", "features": "raw", "seed": 0},
            "objective": {"name": "tm", **objectives["tm"]().describe(), "start": [0, 10], **(objective or {})},
            "settings": {"ema": 0.0}, "protocol": {"name": "tuned", "network": "pointnet-plain"}, "seed": 0,
            "prepare_seconds": 1.0, "distill_seconds": 1.0, "versions": {"pcdistill": "0.2.0"}, "hardware": "",
            "created": "2026-02-03",
        }  # fmt: skip
        return Metadata.model_validate({**facts, **changes})

    return make


@pytest.mark.parametrize(("kind", "name"), PARTS)
def test_every_registered_part_has_references_or_is_our_own(kind: str, name: str) -> None:
    keys = keys_of(kind, name)
    assert keys is not None
    assert (not keys) == (name in OWN[kind])
    assert set(keys) <= bibliography().keys()


def test_tables_name_what_is_there_and_every_entry_is_named() -> None:
    named = {key for table in TABLES for keys in getattr(references, table).values() for key in keys}
    assert named == bibliography().keys()
    assert references.OBJECTIVES.keys() <= set(objectives)
    assert references.SELECTORS.keys() <= set(selectors)
    assert references.STORAGES.keys() <= set(storages)


def test_the_bibliography_is_bibtex_with_the_fields_of_its_kinds() -> None:
    text = (Path(references.__file__).parent / "references.bib").read_text()
    found = entries(text)
    assert found.keys() == bibliography().keys()
    assert re.findall(r"^@\w+\{(\w+),", text, flags=re.MULTILINE) == list(found)
    for key, (kind, fields) in found.items():
        assert fields.keys() == WANTED[kind], key
        assert fields["year"] in key
        for author in re.split(r"\s+and\s+", fields["author"]):
            assert re.fullmatch(r"[^,]+, [^,]+", author), (key, author)
        first = fields["author"].partition(",")[0].lower().replace(" ", "")
        assert key.startswith(first), key
    titles = [re.sub(r"\W", "", fields["title"].lower()) for _, fields in found.values()]
    assert len(set(titles)) == len(titles)


@pytest.mark.parametrize(
    ("changes", "more"),
    [
        ({}, []),
        ({"gradient": "tesla"}, ["cui2023tesla"]),
        ({"bank": {"network": "pointnet-small", "sam": 0.05}}, ["du2023ftd", "foret2021sam"]),
        ({"on_policy": 0.5}, ["agarwal2024gkd"]),
        ({"start": [2, 10]}, ["guo2024datm"]),
        ({"grow": 100}, ["guo2024datm"]),
        (
            {"bank": {"network": "pointnet-small-groupnorm, pointnet-small-instancenorm"}},
            ["wu2018groupnorm", "ulyanov2016instancenorm"],
        ),
    ],
    ids=lambda value: " ".join(value) or "none",
)
def test_trajectory_matching_cites_the_options_in_use(
    changes: dict[str, Any], more: list[str], metadata: Callable[..., Metadata]
) -> None:
    expected = {"pcdistill", "cazenavette2022mtt", "qi2017pointnet", "wu2015modelnet"}
    assert entries(cite(metadata(changes))).keys() == expected | set(more)


def test_averages_teachers_and_rotations_are_cited(metadata: Callable[..., Metadata]) -> None:
    selection = {"method": "medoid", "features": "raw", "labels": {"kind": "learned", "teacher": "net.safetensors"}}
    made = metadata(settings={"ema": 0.9}, selection=selection, storage="rotated", dataset="scanobjectnn:PB_T50_RS-bg")
    found = entries(cite(made)).keys()
    assert found >= {"du2023ftd", "hinton2015distilling", "yim2025sadm", "kaufman1990pam", "uy2019scanobjectnn"}
    assert not found & {"wu2015modelnet", "cui2023tesla"}


def test_clouds_made_between_two_are_cited(metadata: Callable[..., Metadata]) -> None:
    assert "chen2020pointmixup" not in entries(cite(metadata(expansion={"mirror": True, "interpolate": 0})))
    for made in ({"interpolate": 1}, {"mixup": 2}):
        assert "chen2020pointmixup" in entries(cite(metadata(expansion=made)))


def test_the_package_cites_its_own_version(metadata: Callable[..., Metadata]) -> None:
    kind, fields = entries(cite(metadata()))["pcdistill"]
    assert (kind, fields["year"], fields["note"]) == ("misc", "2026", "Software, version 0.2.0")
    assert entries(cite(metadata(versions={"pcdistill": "not installed"})))["pcdistill"][1]["note"] == "Software"


def test_names_from_a_file_stay_inside_their_comment(metadata: Callable[..., Metadata]) -> None:
    evil = "my\n@misc{evil, title = {x}}\n set"
    strange: dict[str, Any] = {"bank": ["network"], "start": {}, "grow": "much", "on_policy": None}
    text = cite(metadata(strange, dataset=evil, versions={"pcdistill": "1}\n@misc{evil"}))
    assert "evil" not in entries(text)
    assert "% data set mymiscevil, title = x set: no reference known here; cite its authors\n" in text


def test_the_command_on_a_selected_set(tiny_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "selected.h5"
    run_select(SelectConfig(data=str(tiny_file), output=path, clouds_per_class=1, points=8, method="kcenter"))
    assert main(["cite", str(path)]) == 0
    text = capsys.readouterr().out
    assert list(entries(text)) == ["pcdistill", "sener2018coreset", "gonzalez1985kcenter", "qi2017pointnet"]
    assert text.splitlines()[:2] == [
        "% selector kcenter: sener2018coreset, gonzalez1985kcenter",
        "% storage points: of pcdistill",
    ]
    assert "% data set tiny.h5: no reference known here" in text


def test_the_command_on_a_distilled_set(tiny_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "distilled.h5"
    given: dict[str, Any] = {"clouds_per_class": 1, "points": 8, "objective": "dc", "steps": 1, "init": "random"}
    run_distill(DistillConfig(data=str(tiny_file), output=path, **given))
    assert main(["cite", str(path)]) == 0
    found = list(entries(capsys.readouterr().out))
    assert found == ["pcdistill", "zhao2021dc", "qi2017pointnet", "ba2016layernorm"]
    facts = Artefact.load(path).metadata
    assert entries(cite(facts)).keys() == set(found)
