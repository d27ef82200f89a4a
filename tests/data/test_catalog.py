"""Names: where sets are found, what is said of missing ones, the facts of `list` and `info`."""

import os
import re
from pathlib import Path

import h5py
import numpy as np
import pytest

from pcdistill.commands.data import _told
from pcdistill.core.errors import InputError
from pcdistill.core.files import sha256_file
from pcdistill.data import H5Clouds, catalog, info, load, open_streamed, project
from pcdistill.data.catalog import CATALOG, SHAPES
from pcdistill.data.prepare import Wanted

CARDS = Path(__file__).parents[2] / "datasets"
TEN = ["bathtub", "bed", "chair", "desk", "dresser", "monitor", "night_stand", "sofa", "table", "toilet"]


def write_ten(path, random_points, up="z"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for seed, split in enumerate(("train", "test")):
            file[f"{split}/points"] = random_points(10, 24, seed)
            file[f"{split}/labels"] = np.arange(10)
        file.attrs["class_names"], file.attrs["up_axis"] = TEN, up


def test_root_then_environment_then_data_folder(tmp_path, monkeypatch, random_points):
    for place in ("root", "environment", "data"):
        write_ten(tmp_path / place / "modelnet10_2048.h5", random_points)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PCDISTILL_DATA", raising=False)

    def found(**where):
        return {row.name: row.found for row in catalog(**where)}["modelnet10"]

    assert found() == str(Path("data", "modelnet10_2048.h5"))
    monkeypatch.setenv("PCDISTILL_DATA", str(tmp_path / "environment"))
    assert found() == str(tmp_path / "environment" / "modelnet10_2048.h5")
    assert found(root=tmp_path / "root") == str(tmp_path / "root" / "modelnet10_2048.h5")
    assert load("modelnet10").provenance["name"] == "modelnet10"


def test_modelnet10_in_each_layout(tmp_path, off_tree, random_points):
    tree = off_tree("ModelNet10", TEN)
    clouds = load("modelnet10", root=tmp_path, points=16)
    assert clouds.provenance["layout"] == "folder per class"
    assert clouds.provenance["up_axis"] == "z"
    assert clouds.provenance["licence"] == CATALOG["modelnet10"].licence
    resampled = tmp_path / "modelnet40_normal_resampled"
    for name in TEN:
        (resampled / name).mkdir(parents=True)
        np.savetxt(resampled / name / f"{name}_0001.txt", random_points(1, 20)[0], delimiter=",")
    for file, lines in (("shape_names", TEN), ("train", [f"{name}_0001" for name in TEN])):
        (resampled / f"modelnet10_{file}.txt").write_text("\n".join(lines))
    assert load("modelnet10", root=tmp_path, points=16).provenance["layout"] == "modelnet40_normal_resampled"
    write_ten(tmp_path / "modelnet10_2048.h5", random_points)
    assert load("modelnet10", root=tmp_path).provenance["layout"] == "project HDF5"
    assert tree.is_dir()


def test_modelnet40_without_its_lists_is_not_found(tmp_path):
    (tmp_path / "modelnet40_normal_resampled").mkdir()
    assert {row.name: row.found for row in catalog(tmp_path)}["modelnet40"] is None


def test_an_incomplete_copy_is_refused(tmp_path, off_tree):
    off_tree("ModelNet10", TEN[:3])
    with pytest.raises(InputError, match=r"ModelNet10: 3 classes, expected 10"):
        load("modelnet10", root=tmp_path, points=16)


@pytest.mark.parametrize("name", [name for name in CATALOG if name not in SHAPES])
def test_missing_sets_say_where_to_get_them(tmp_path, name):
    with pytest.raises(InputError) as caught:
        load(name, root=tmp_path)
    text = str(caught.value)
    assert text.startswith(f"{name}: not found in '{tmp_path}' as ")
    assert CATALOG[name].url in text
    assert "--root" in text
    assert "PCDISTILL_DATA" in text
    assert "\n" not in text


def test_unknown_names_and_paths(tmp_path):
    with pytest.raises(InputError, match=r"'modelnet11' \(did you mean 'modelnet10'\?\), expected a path, or one"):
        load("modelnet11")
    with pytest.raises(InputError, match=r"gone\.h5: no such file or folder"):
        load(tmp_path / "gone.h5")
    (tmp_path / "readme.txt").write_text("text")
    with pytest.raises(InputError, match=r"readme\.txt: no recognised layout"):
        load(tmp_path / "readme.txt")


def test_stream_of_a_name(tmp_path, random_points):
    write_ten(tmp_path / "modelnet10_2048.h5", random_points)
    stream = open_streamed("modelnet10", root=tmp_path, points=12)
    assert isinstance(stream, H5Clouds)
    loaded = load("modelnet10", root=tmp_path, points=12)
    assert dict(stream.provenance) == dict(loaded.provenance)
    assert stream.fingerprint() == loaded.fingerprint()


def test_stream_checks_classes(write_h5):
    with pytest.raises(InputError, match=r"no cloud of class 'c'"):
        open_streamed(write_h5(**{"train/labels": np.array([0, 1, 0, 1, 0, 1])}))


def test_shapes():
    clouds = load("shapes", "test", points=16)
    assert len(clouds) == CATALOG["shapes"].test
    assert clouds.num_classes == CATALOG["shapes"].classes
    assert clouds.fingerprint() != load("shapes", "test", points=16, seed=1).fingerprint()
    assert {row.name: row.found for row in catalog()}["shapes"] == "built in"


def test_info(tmp_path, random_points):
    write_ten(tmp_path / "modelnet10_2048.h5", random_points)
    facts = info("modelnet10", tmp_path)
    assert facts["classes"] == TEN
    assert facts["card"] == "datasets/modelnet10.md"
    train = facts["splits"]["train"]
    assert (train["clouds"], train["points"]) == (10, 24)
    assert train["per_class"] == dict.fromkeys(TEN, 1)
    clouds = load("modelnet10", root=tmp_path)
    assert train["fingerprint"] == clouds.fingerprint()
    np.testing.assert_allclose(train["extents"][0], clouds.points.numpy().min(axis=(0, 1)))
    np.testing.assert_allclose(train["extents"][1], clouds.points.numpy().max(axis=(0, 1)))
    assert not {"card", "parts"} & info(tmp_path / "modelnet10_2048.h5").keys()


def test_info_says_which_class_has_which_parts():
    facts = info("shapes_parts", wanted=Wanted(points=8))
    parts = load("shapes_parts", points=8).part_names
    assert facts["parts"] == {
        name: [parts.names[at] for at in own] for name, own in zip(facts["classes"], parts.of_class, strict=True)
    }
    told = _told(facts).splitlines()
    assert f"{len(parts)} parts:" in told
    assert told[-1] == f"  table: {', '.join(facts['parts']['table'])}"
    shared = facts | {"parts": {name: ["axon", "dendrite"] for name in facts["classes"]}}
    assert _told(shared).splitlines()[-1] == "parts of every class: axon, dendrite"


@pytest.mark.skipif(not CARDS.is_dir(), reason="the cards are not part of the installed package")
@pytest.mark.parametrize("name", CATALOG)
def test_cards_state_the_facts_of_the_catalog(name):
    entry = CATALOG[name]
    text = (CARDS / entry.card).read_text(encoding="utf-8")
    assert name.partition(":")[2].removesuffix("-bg") in text
    for fact in (entry.classes, entry.train, entry.test):
        assert re.search(rf"\b{fact}\b", text), fact
    if name not in SHAPES:
        assert entry.url in text
    for heading in ("Source", "Licence", "Classes", "Layouts", "Checksum"):
        assert f"## {heading}" in text


FILES = {name: entry for name, entry in CATALOG.items() if entry.places and entry.places[0][1] is project.LAYOUT}


@pytest.mark.parametrize("name", FILES)
def test_checksums_of_the_real_files(data_root, name):
    path = data_root / FILES[name].places[0][0]
    if not path.is_file():
        pytest.skip(f"{path.name} is not in {data_root}")
    card = (CARDS / FILES[name].card).read_text(encoding="utf-8")
    assert sha256_file(path) in card


@pytest.mark.parametrize("name", FILES)
def test_official_counts_of_the_real_files(data_root, name):
    if not (data_root / FILES[name].places[0][0]).is_file():
        pytest.skip(f"{name} is not in {data_root}")
    entry = CATALOG[name]
    for split, count in (("train", entry.train), ("test", entry.test)):
        stream = load(name, split, root=data_root) if entry.parts else open_streamed(name, split, root=data_root)
        assert len(stream.labels) == count
        assert (getattr(stream, "part_names", None) is not None) == entry.parts
        assert len(stream.class_names) == entry.classes


def test_an_own_file_is_known_by_a_suffix_of_any_case(tmp_path, random_points):
    write_ten(tmp_path / "TEN.H5", random_points)
    assert len(load(tmp_path / "TEN.H5", "test")) == 10


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "set.h5")
    with pytest.raises(InputError, match=r"set\.h5: a pipe or a device, expected a file or a folder"):
        load(tmp_path / "set.h5")
