"""Sets whose points are parts, from files: this project's, folders of files, ShapeNetPart in both forms."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from pcdistill.clouds import PartNames, PointClouds
from pcdistill.core.errors import InputError
from pcdistill.data import from_pyg, load, open_streamed, remarks, to_pyg, write_hdf5
from pcdistill.data.check import check
from pcdistill.data.layouts.shapenetpart import PARTS
from pcdistill.data.procedural import shapes
from pcdistill.data.project import H5Clouds


@pytest.fixture(scope="module")
def some() -> PointClouds:
    return shapes.generate("train", 3, 64, parts=True)


def test_shapes_have_the_same_points_with_and_without_parts(some: PointClouds) -> None:
    plain = shapes.generate("train", 3, 64)
    assert torch.equal(plain.points, some.points)
    assert plain.provenance["name"] == "shapes"
    assert plain.parts is None
    assert some.part_names == shapes.PART_NAMES
    assert load("shapes_parts", "test", points=8).part_names == shapes.PART_NAMES
    # Seats lie below backs, legs below seats.
    chair = some.class_names.index("chair")
    height = some.points[some.labels == chair][..., 2]
    parts, names = some.parts[some.labels == chair], shapes.PART_NAMES.names
    means = [float(height[parts == names.index(name)].mean()) for name in ("leg", "seat", "back")]
    assert means == sorted(means)


def test_project_files_hold_parts(some: PointClouds, tmp_path: Path) -> None:
    write_hdf5(some, some[5:], tmp_path / "a.h5", dtype="float32")
    read = load(tmp_path / "a.h5", "test")
    assert torch.equal(read.parts, some[5:].parts)
    assert read.part_names == some.part_names
    fewer = load(tmp_path / "a.h5", points=10)
    assert torch.equal(fewer.parts, some.parts[:, :10])
    assert H5Clouds(tmp_path / "a.h5", "train", 10).fingerprint() == fewer.fingerprint()
    with pytest.raises(InputError, match=r"stream: .*whose points have parts"):
        open_streamed(tmp_path / "a.h5")


def changed(path: Path, **values: Any) -> Path:
    with h5py.File(path, "a") as file:
        for name, value in values.items():
            if name.startswith("attr_"):
                file.attrs[name.removeprefix("attr_")] = value
            else:
                place = name.replace("__", "/")
                del file[place]
                if value is not None:
                    file[place] = value
    return path


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"train__parts": np.zeros((30, 63), int)}, r"train/parts: shape \(30, 63\), expected \(30, 64\)"),
        ({"train__parts": np.zeros((30, 64))}, "train/parts: values of type float64, expected integers"),
        ({"train__parts": np.full((30, 64), 99)}, "part 99 of point 0 of cloud 0"),
        ({"train__parts": None}, "train/parts: no such dataset"),
        ({"attr_part_names": ["a", "a"]}, r"class_parts: shape \(10, 26\), expected of 10 classes and 2 parts"),
        ({"attr_class_parts": np.zeros((10, 26), int)}, r"part names: parts \[\] of class 0"),
    ],
)
def test_bad_parts_of_files_are_one_line(some: PointClouds, tmp_path: Path, values: Any, message: str) -> None:
    write_hdf5(some, None, tmp_path / "a.h5")
    with pytest.raises(InputError, match=message) as caught:
        load(changed(tmp_path / "a.h5", **values))
    assert "a.h5" in str(caught.value)


def test_parts_of_one_class_each_and_parts_without_points(tmp_path: Path) -> None:
    clouds = PointClouds(
        torch.randn(4, 8, 3), torch.tensor([0, 0, 1, 1]), ("a", "b"),
        parts=torch.tensor([0, 0, 2, 2])[:, None].expand(-1, 8), part_names=PartNames(("p", "q", "r"), ((0, 1), (2,))),
    )  # fmt: skip
    write_hdf5(clouds, None, tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "a") as file:
        del file.attrs["class_parts"]
    assert load(tmp_path / "a.h5").part_names == PartNames.shared("pqr", 2)
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file.attrs["part_class"] = [0, 0, 1]
    read = load(tmp_path / "a.h5")
    assert read.part_names == clouds.part_names
    assert remarks(read) == ["parts without a training point: q"]


def written(folder: Path, kind: str, points: np.ndarray, parts: np.ndarray | None, name: str) -> None:
    rows = points if parts is None else np.column_stack([points, parts])
    path = folder / f"{name}.{kind}"
    if kind == "ply":
        label = "" if parts is None else "property int label\n"
        head = (
            f"ply\nformat ascii 1.0\nelement vertex {len(rows)}\nproperty float x\nproperty float y\nproperty float z\n"
        )
        path.write_text(
            f"{head}{label}end_header\n" + "\n".join(" ".join(f"{v:g}" for v in row) for row in rows) + "\n"
        )
    elif kind == "npy":
        np.save(path, rows)
    elif kind == "npz":
        np.savez(path, points=points, **({} if parts is None else {"label": parts}))
    else:
        np.savetxt(path, rows)


@pytest.fixture(params=["ply", "npy", "npz", "txt"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Two classes of clouds of unequal size; a point's part is the side of x = 0 that it lies on."""
    rng = np.random.default_rng(0)
    for name in ("ball", "stick"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for number in range(4):
            points = rng.normal(size=(20 + number, 3)).round(3)
            written(tmp_path / "set" / name, request.param, points, (points[:, 0] > 0).astype(int), f"{name}{number}")
    (tmp_path / "set" / "part_names.txt").write_bytes(b"\xef\xbb\xbfleft\r\nright\r\n")  # as editors of Windows do
    return tmp_path / "set"


def test_folders_with_names_of_parts(folder: Path) -> None:
    for _ in range(2):  # the second from the cache
        clouds = load(folder, points=64)
        assert clouds.part_names == PartNames.shared(("left", "right"), 2)
        order = clouds.points[..., 0].argsort(dim=1)
        sides = clouds.parts.gather(1, order)
        assert (sides.diff(dim=1) >= 0).all()  # left of some place, and right of it
        assert sides.float().mean() == pytest.approx(0.5, abs=0.2)
    (folder / "part_names.txt").unlink()
    assert load(folder, points=64).parts is None


def test_folders_whose_labels_do_not_fit(folder: Path) -> None:
    kind = next((folder / "ball").iterdir()).suffix[1:]
    assert check(str(folder)).faults == []
    (folder / "part_names.txt").write_text("left\n")
    assert sum("expected 0 to 0, the lines of part_names.txt" in fault for fault in check(str(folder)).faults) == 8
    with pytest.raises(InputError, match=r"label 1 of point \d+, expected 0 to 0, the lines of part_names.txt"):
        load(folder)
    (folder / "part_names.txt").write_text("left\nright\nmiddle\n")
    for _ in range(2):  # the second from what was kept
        (fault,) = check(str(folder)).faults
        assert fault.endswith("part_names.txt: no point is part 'middle', expected some")
    with pytest.raises(InputError, match=r"part_names\.txt: part names: part 'middle' of no class"):
        load(folder)
    (folder / "part_names.txt").write_text("left\nright\n")
    points = np.random.default_rng(0).random((9, 3))
    written(folder / "ball", kind, points, None, "ball9")
    with pytest.raises(InputError, match=rf"ball9.{kind}: points without labels, in a set whose points have parts"):
        load(folder)
    (fault,) = check(str(folder)).faults
    assert f"ball9.{kind}: points without labels" in fault
    written(folder / "ball", kind, points, np.full(9, 0.5), "ball9")
    if kind != "ply":
        with pytest.raises(InputError, match=r"label 0.5 of point 0, expected whole numbers"):
            load(folder)


MODELS = {"Airplane": "02691156", "Mug": "03797390", "Cap": "02954340"}


def official_text(root: Path, count: int, first: str) -> Path:
    """ShapeNetPart's text form with blanks too many; the test split has a class that train has not."""
    rng = np.random.default_rng(1)
    lists: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    (root / "train_test_split").mkdir(parents=True)
    (root / "synsetoffset2category.txt").write_text("".join(f"{name}\t {at} \n" for name, at in MODELS.items()) + "\n")
    for name, synset in MODELS.items():
        (root / synset).mkdir()
        for number in range(count):
            points = rng.normal(size=(30 + number, 6))
            own = (points[:, 0] > 0) * 1 + {"global": PARTS[name][0], "one": PARTS[name][0] + 1, "class": 1}[first]
            lines = [
                " ".join(f"{v:.6f}" for v in row) + f"  {label:.6f} \n" for row, label in zip(points, own, strict=True)
            ]
            (root / synset / f"m{number}.txt").write_text("".join(lines) + "\n")
            split = "test" if name == "Cap" else ("train", "val", "test")[number % 3]
            lists[split].append(f"shape_data/{synset}/m{number}")
    for split, entries in lists.items():
        (root / "train_test_split" / f"shuffled_{split}_file_list.json").write_text(json.dumps(entries))
    return root


@pytest.mark.parametrize("first", ["global", "one", "class"])
def test_shapenetpart_text_and_its_flaws(tmp_path: Path, first: str) -> None:
    root = official_text(tmp_path / "shapenetcore_partanno_segmentation_benchmark_v0_normal", 3, first)
    train, test = (load(root, split, points=20) for split in ("train", "test"))
    assert train.class_names == test.class_names == ("Airplane", "Mug")
    assert train.class_counts.tolist() == [2, 2]
    assert test.class_counts.tolist() == [1, 1]
    assert train.part_names == PartNames(
        (*(f"Airplane/{n}" for n in range(4)), "Mug/0", "Mug/1"), ((0, 1, 2, 3), (4, 5))
    )
    mug = train.parts[train.labels == 1] - 4
    assert set(mug.unique().tolist()) == {0, 1}
    assert "left out: Cap" in remarks(train)[0]
    # x does not turn with the up axis: parts stay the sides of it.
    side = train.points[..., 0].argsort(dim=1)
    assert (train.parts.gather(1, side).diff(dim=1) >= 0).all()


def test_shapenetpart_text_with_parts_that_fit_no_count(tmp_path: Path) -> None:
    root = official_text(tmp_path / "set", 3, "global")
    (root / MODELS["Mug"] / "m0.txt").write_text("0 0 0 0 0 0 17\n1 1 1 0 0 0 17\n")
    with pytest.raises(InputError, match=r"part 17 of a Mug \(object \d\), expected 36 to 37"):
        load(root)
    (root / "train_test_split" / "shuffled_train_file_list.json").write_text('["shape_data/../x"]')
    with pytest.raises(InputError, match=r"entry 'shape_data/../x', expected shape_data/<synset>/<model>"):
        load(root)


def test_shapenetpart_hdf5(tmp_path: Path) -> None:
    root, rng = tmp_path / "hdf5_data", np.random.default_rng(2)
    root.mkdir()
    (root / "all_object_categories.txt").write_text("Airplane 02691156\nCap 02954340\nMug 03797390\n")
    for split, labels in (("train", [0, 2, 0]), ("val", [2]), ("test", [0, 1, 2])):
        starts = np.array([PARTS[name][0] for name in ("Airplane", "Cap", "Mug")])[labels]
        with h5py.File(root / f"ply_data_{split}0.h5", "w") as file:
            file["data"] = rng.normal(size=(len(labels), 16, 3)).astype(np.float32)
            file["label"] = np.array(labels, np.uint8)[:, None]
            file["pid"] = (starts[:, None] + rng.integers(0, 2, (len(labels), 16))).astype(np.uint8)
        (root / f"{split}_hdf5_file_list.txt").write_text(f"./hdf5_data/ply_data_{split}0.h5\n")
    train, test = load(root, "train", points=8), load(root, "test")
    assert train.labels.tolist() == [0, 1, 0, 1]
    assert test.labels.tolist() == [0, 1]
    assert train.parts.shape == (4, 8)
    assert test.part_names == train.part_names
    assert set(test.parts[1].tolist()) == {4, 5}
    with h5py.File(root / "ply_data_test0.h5", "a") as file:
        del file["pid"]
        file["pid"] = np.zeros((3, 15), np.uint8)
    with pytest.raises(InputError, match=r"pid: shape \(3, 15\), expected \(3, 16\)"):
        load(root, "test")


def test_torch_geometric_there_and_back(some: PointClouds) -> None:
    pytest.importorskip("torch_geometric")
    items = to_pyg(some)
    assert items[0].y.shape == (64,)
    back = from_pyg(items, some.class_names, part_names=some.part_names)
    assert torch.equal(back.parts, some.parts)
    assert torch.equal(back.labels, some.labels)

    class Known(list):  # as torch-geometric's ShapeNet says it
        def __init__(self, items: list[Any]) -> None:
            super().__init__(items)
            self.categories, self.seg_classes = ["Cap", "Car"], {"Bag": [4, 5], "Cap": [6, 7], "Car": [8, 9]}

    items = [items[0].clone(), items[1].clone()]
    for number, item in enumerate(items):
        item.category, item.y = torch.tensor([number]), torch.tensor([6, 7] * 32) + 2 * number
    made = from_pyg(Known(items))
    assert made.class_names == ("Cap", "Car")
    assert made.part_names == PartNames(("Cap/6", "Cap/7", "Car/8", "Car/9"), ((0, 1), (2, 3)))
    assert made.parts[1].tolist() == [2, 3] * 32
