"""What folders mean: words for splits, depth, names of files, and what is no class."""

import itertools
import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from pcdistill.core.errors import InputError
from pcdistill.data import load, remarks
from pcdistill.data.layouts.folders import NUMBERED, survey
from pcdistill.data.prepare import MissingSplit


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PCDISTILL_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def root(tmp_path):
    """A folder of files by path."""

    def make(*paths):
        for number, path in enumerate(paths):
            place = tmp_path / "set" / path
            place.parent.mkdir(parents=True, exist_ok=True)
            if path.endswith("/"):
                place.mkdir(exist_ok=True)
            else:
                np.save(place.with_suffix(".npy"), np.random.default_rng(number).normal(size=(20, 3)))
        return tmp_path / "set"

    return make


def per_class(path, split):
    clouds = load(path, split)
    return dict(zip(clouds.class_names, clouds.class_counts.tolist(), strict=True))


@pytest.mark.parametrize(
    ("train", "test"),
    [("train", "test"), ("Train", "Test"), ("training", "testing"), ("TRAIN", "val"), ("train_set", "Validation")],
)
@pytest.mark.parametrize("form", ["{split}/{name}/{n}", "{name}/{split}/{n}", "{split}/{name}_{n:03}"])
def test_words_for_splits_above_and_below_classes(root, train, test, form):
    paths = [form.format(split=train, name=name, n=n) for name in ("ball", "night_stand") for n in range(3)]
    paths += [form.format(split=test, name=name, n=n) for name in ("ball", "night_stand") for n in range(2)]
    path = root(*paths)
    assert per_class(path, "train") == {"ball": 3, "night_stand": 3}
    assert per_class(path, "test") == {"ball": 2, "night_stand": 2}
    taken = remarks(load(path, "test")) == [
        "the validation part is taken for the test part, of which there is none"
    ]  # fmt: skip
    assert taken == ("val" in test.lower())


def test_validation_beside_a_test_part_is_not_read(root):
    path = root("train/a/0", "train/b/0", "test/a/0", "test/b/0", "val/a/0", "val/c/0")
    assert per_class(path, "test") == {"a": 1, "b": 1}
    assert remarks(load(path)) == ["passed over, as no classes: the validation part"]


def test_a_class_may_be_called_train(root):
    path = root("train/0", "train/1", "bus/0", "bus/1", "car/0", "car/1")
    assert load(path).class_names == ("bus", "car", "train")


def test_both_words_for_one_split(root):
    with pytest.raises(InputError, match="folders 'train' and 'training', expected one for train"):
        load(root("train/a/0", "training/a/0", "train/b/0"))


def test_train_alone_serves_what_needs_no_more(root):
    path = root("train/a/0", "train/b/0")
    assert per_class(path, "train") == {"a": 1, "b": 1}
    with pytest.raises(MissingSplit, match=r"set test: no test part, only train, expected a folder 'test'"):
        load(path, "test")


def test_what_is_no_class_is_passed_over_and_said(root):
    over = (
        "@eaDir/x.txt/",
        "$RECYCLE.BIN/1",
        "lost+found/",
        "System Volume Information/",
        "logs/",
        ".git/a",
        "__MACOSX/a/b",
    )
    path = root("a/0", "a/1", "b/0", "b/1", "a/@eaDir/0", *over)
    (path / "a" / "notes.md").write_text("x")
    (path / "a" / "README.txt").write_text("x")
    (path / "docs").mkdir()
    (path / "docs" / "readme.txt").write_text("x")
    (path / "a" / "scan.e57").write_text("x")
    (path / "b" / "scan.e57").write_text("x")
    (path / "b" / "Thumbs.db").write_text("x")
    (path / "a" / "scan.ply").symlink_to(path / "gone.ply")
    (path / "b" / "itself.ply").symlink_to("itself.ply")
    clouds = load(path)
    assert clouds.class_names == ("a", "b")
    assert remarks(clouds) == [
        "files left out, as they are no objects: 2 .e57, 1 .md, 2 .txt, 2 links to nothing",
        "passed over, as no classes: $RECYCLE.BIN, @eaDir, System Volume Information, lost+found, docs, logs",
    ]


def test_folders_beside_splits_are_no_classes(root):
    clouds = load(root("train/a/0", "train/b/0", "test/a/0", "test/b/0", "logs/", "more/c/0"))
    assert clouds.class_names == ("a", "b")
    assert clouds.provenance["passed_over"] == "logs, more"


def test_nested_models(root):
    v2 = [f"{synset}/model{n}/models/model_normalized" for synset in ("02691156", "03001627") for n in range(3)]
    path = root(*v2, "03001627/model9/model")
    assert len(load(path)) + len(load(path, "test")) == 7
    assert load(path).class_names == ("02691156", "03001627")


def test_classes_in_file_names_without_folders(root):
    assert load(root("ball_1", "ball_2", "stick 1", "stick 2")).class_names == ("ball", "stick")


def test_files_without_a_class(root):
    with pytest.raises(InputError, match=r"set: no recognised layout"):
        load(root("ball", "stick_2"))


@pytest.mark.parametrize(
    ("stem", "name"),
    [("ball_001", "ball"), ("night_stand_0001", "night_stand"), ("chair12", "chair"), ("Stuhl (3)", "Stuhl"),
     ("b-52_7", "b-52"), ("椅子_1", "椅子"), ("001", None), ("ball", None)],
)  # fmt: skip
def test_names_before_numbers(stem, name):
    match = NUMBERED.fullmatch(stem)
    assert (match and match["name"]) == name


def test_near_names_are_told(root):
    path = root("train/Ball/0", "train/b/0", "test/ball/0", "test/b/0")
    with pytest.raises(InputError, match=r"train/ball: no such folder, but 'Ball', expected the same names"):
        load(path)
    with pytest.raises(InputError, match=r"test/Ball: no such folder, but 'ball'"):
        load(path, "test")


def test_a_class_of_one_part_only(root):
    path = root("train/a/0", "train/b/0", "test/a/0", "test/b/0", "test/zebra/0")
    with pytest.raises(InputError, match=r"train/zebra: no such folder, while test has one"):
        load(path)


def test_composed_and_decomposed_letters_are_one_name(root):
    composed, decomposed = (unicodedata.normalize(form, "Stühle") for form in ("NFC", "NFD"))
    clouds = load(root(f"train/{composed}/0", "train/b/0", f"test/{decomposed}/0", "test/b/0"))
    assert clouds.class_names == (composed, "b")
    assert "'Stühle' is written with composed and with decomposed letters" in remarks(clouds)[0]
    twice = root(f"more/{composed}/0", f"more/{decomposed}/0", "more/b/0") / "more"
    with pytest.raises(InputError, match="two folders 'Stühle'"):
        survey(twice)


def test_names_that_are_no_text_are_refused_in_one_line(tmp_path: Path) -> None:
    for name in ("ball", os.fsdecode(b"st\xfchle")):
        folder = tmp_path / "set" / name
        folder.mkdir(parents=True)
        for number in range(2):
            np.save(folder / f"{number}.npy", np.random.default_rng(number).random((9, 3)))
    with pytest.raises(InputError, match=r"a name that is not UTF-8, expected one that is: rename it$"):
        load(str(tmp_path / "set"), "train")


def test_a_folder_around_the_set_is_told(tmp_path, random_points):
    for split, name in itertools.product(("train", "test"), "ab"):
        (tmp_path / "set" / "inner" / split / name).mkdir(parents=True)
        np.save(tmp_path / "set" / "inner" / split / name / "0.npy", random_points(1, 20)[0])
    with pytest.raises(InputError, match=r"set: one folder, 'inner', with splits and classes in it, expected its path"):
        load(tmp_path / "set")
    assert load(tmp_path / "set" / "inner").class_names == ("a", "b")


def test_links_to_what_they_lie_in_are_no_folders(tmp_path, random_points):
    for name in "ab":
        (tmp_path / "set" / name).mkdir(parents=True)
        for number in range(5):
            np.save(tmp_path / "set" / name / f"{number}.npy", random_points(1, 20)[0])
    (tmp_path / "set" / "a" / "loop").symlink_to(tmp_path / "set")
    assert load(tmp_path / "set").class_counts.tolist() == [4, 4]
