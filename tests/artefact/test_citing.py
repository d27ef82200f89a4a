"""What to cite: every registered part has its references, and an artefact's BibTeX names what was used, no more."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pcdistill.artefact import citing
from pcdistill.artefact.artefact import Artefact
from pcdistill.artefact.citing import SETTINGS, bibliography, cite, cited_by
from pcdistill.artefact.metadata import Metadata
from pcdistill.cli import main
from pcdistill.commands.distill import Distill
from pcdistill.commands.select import Select
from pcdistill.data.catalog import CATALOG
from pcdistill.geometry import corruptions
from pcdistill.matching import objectives
from pcdistill.models import networks
from pcdistill.selection import selectors
from pcdistill.storage import storages
from pcdistill.training.recipe import CITES, RECIPES

DOCS = Path(__file__).parents[2] / "docs"
# What every part says of itself.
PARTS: dict[tuple[str, str], tuple[str, ...] | None] = {
    **{("objective", name): objectives.cites(name) for name in objectives},
    **{("selector", name): selectors.cites(name) for name in selectors},
    **{("storage", name): storages.cites(name) for name in storages},
    **{("network", name): networks.cites(name) for name in networks},
    **{("corruption", name): corruptions.cites(name) for name in corruptions},
    **{("data set", name): entry.cites for name, entry in CATALOG.items()},
    **{("protocol", name): CITES.get(name) for name in RECIPES},
    **{("setting", setting.name): setting.cites for setting in SETTINGS},
}
OURS = {("selector", "random"), ("storage", "points"), ("storage", "symmetric"), ("data set", "shapes"),
        ("data set", "shapes_parts"), ("protocol", "converged"), ("protocol", "tuned")}  # fmt: skip
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


@pytest.mark.parametrize("part", PARTS, ids=" ".join)
def test_every_part_says_what_it_stands_on(part: tuple[str, str]) -> None:
    """Nothing for what is our own; a part that says nothing at all is a mistake."""
    keys = PARTS[part]
    assert keys is not None
    assert (keys == ()) == (part in OURS)
    assert set(keys) <= bibliography().keys()
    assert len(set(keys)) == len(keys)


def test_every_entry_is_named_by_a_part_or_a_page() -> None:
    named = {key for keys in PARTS.values() for key in keys or ()}
    pages = {key for page in DOCS.rglob("*.md") for key in re.findall(r"\{cite\}`(\w+)`", page.read_text())}
    assert named | pages == bibliography().keys()


def test_names_of_parts_lead_to_what_they_say() -> None:
    for (kind, name), keys in PARTS.items():
        if kind != "corruption":  # no part of an artefact
            assert cited_by(kind, name) == keys
    assert cited_by("protocol", "published*") == ("yim2025sadm",)
    assert cited_by("protocol", "tuned*") == ()
    assert cited_by("data set", "modelnet40_1024.h5") == ("wu2015modelnet",)
    assert cited_by("data set", "scanobjectnn:PB_T50_RS-bg") == ("uy2019scanobjectnn",)
    for kind, name in (
        ("objective", "nothing"), ("network", "pointnet-huge"), ("protocol", "mine"), ("data set", "shapes.h5"),
        ("data set", "3d.h5"), ("data set", ""), ("setting", "nothing"),
    ):  # fmt: skip
        assert cited_by(kind, name) is None


def test_the_bibliography_is_bibtex_with_the_fields_of_its_kinds() -> None:
    text = (Path(citing.__file__).parent / "references.bib").read_text()
    found = entries(text)
    assert found.keys() == bibliography().keys()
    assert re.findall(r"^@\w+\{(\w+),", text, flags=re.MULTILINE) == list(found)
    for key, (kind, fields) in found.items():
        assert fields.keys() == WANTED[kind], key
        assert fields["year"] in key
        for author in re.split(r"\s+and\s+", fields["author"]):
            assert re.fullmatch(r"[^,]+, [^,]+|others", author), (key, author)
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
    assert "chen2020pointmixup" not in entries(cite(metadata(expansion={"mixup": 0, "interpolate": 0})))
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
    Select(data=str(tiny_file), output=path, clouds_per_class=1, points=8, method="kcenter").run(print)
    capsys.readouterr()
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
    Distill(data=str(tiny_file), output=path, **given).run(print)
    capsys.readouterr()
    assert main(["cite", str(path)]) == 0
    found = list(entries(capsys.readouterr().out))
    assert found == ["pcdistill", "zhao2021dc", "qi2017pointnet", "ba2016layernorm"]
    facts = Artefact.load(path).metadata
    assert entries(cite(facts)).keys() == set(found)
