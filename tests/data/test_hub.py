"""Sets that other libraries fetch, with libraries that fetch nothing in their place."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from pcdistill.core.errors import InputError
from pcdistill.data import load, open_streamed

POINTS = np.random.default_rng(0).normal(size=(6, 40, 3)).astype(np.float32)
LABELS = np.arange(6) % 2


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands in for the hub."""

    class Api:
        def list_repo_files(self, repository: str, repo_type: str) -> list[str]:
            if (repository, repo_type) != ("me/set", "dataset"):
                raise OSError("404: no such repository")
            return sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*"))

    def download(repository: str, file: str, repo_type: str) -> str:
        assert (repository, repo_type) == ("me/set", "dataset")
        return str(tmp_path / file)

    fake = ModuleType("huggingface_hub")
    vars(fake).update(HfApi=Api, hf_hub_download=download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake)
    return tmp_path


def test_arrays_of_the_hub(hub: Path) -> None:
    for split, part in (("train", slice(0, 4)), ("validation", slice(2, 6))):
        np.savez(hub / f"{split}-0.npz", points=POINTS[part], label=LABELS[part], class_names=["a", "b"])
    (hub / "README.md").write_text("# no table")
    train, test = load("hf:me/set", "train"), load("hf:me/set", "test", points=16)
    assert (train.class_names, train.labels.tolist()) == (("a", "b"), [0, 1, 0, 1])
    centred = POINTS[:4] - POINTS[:4].mean(1, keepdims=True)
    radii = np.linalg.norm(centred, axis=2).max(1)[:, None, None]
    np.testing.assert_allclose(train.points.numpy(), centred / radii, atol=1e-6)
    assert (len(test), test.points_per_cloud) == (4, 16)
    assert train.provenance["name"] == "hf:me/set"
    assert train.provenance["up_axis"] == "unspecified"


def test_bad_clouds_of_the_hub_are_named_at_once_or_left_out(hub: Path) -> None:
    points = POINTS.copy()
    points[1, 7, 2], points[4] = np.nan, 3
    np.savez(hub / "train.npz", points=points, label=LABELS)
    said = r"hf:me/set: 2 of 6 .* hf:me/set item 1: NaN .* hf:me/set item 4: all points of cloud 0 coincide"
    with pytest.raises(InputError, match=said):
        load("hf:me/set")
    found = load("hf:me/set", skip_bad=True)
    assert (found.labels.tolist(), found.provenance["skipped"]) == ([0, 0, 1, 1], 2)
    assert str(found.provenance["skipped_clouds"]).startswith("hf:me/set item 1: NaN")
    with pytest.raises(InputError, match=r"none of 6 clouds can be used \(hf:me/set item 0: 40 points, expected at le"):
        load("hf:me/set", least_points=41, skip_bad=True)
    assert load("hf:me/set", least_points=40, skip_bad=True).points.equal(found.points)


def test_tables_of_the_hub(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class File:
        """As pyarrow's, of one group of rows."""

        schema_arrow = SimpleNamespace(names=["id", "xyz", "label"])
        metadata = SimpleNamespace(num_row_groups=1, row_group=lambda number: SimpleNamespace(total_byte_size=2880))

        def __init__(self, path: Path) -> None:
            assert path.name == "train.parquet"

        def read(self, columns: list[str]) -> Any:
            assert columns == ["xyz", "label"]
            values = {"xyz": [cloud.ravel().tolist() for cloud in POINTS], "label": ["b", "a"] * 3}
            return SimpleNamespace(column=lambda key: SimpleNamespace(to_pylist=lambda: values[key]))

    fake = ModuleType("pyarrow.parquet")
    vars(fake).update(ParquetFile=File)
    monkeypatch.setitem(sys.modules, "pyarrow", ModuleType("pyarrow"))
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", fake)
    (hub / "data").mkdir()
    (hub / "data" / "train.parquet").write_bytes(b"PAR1")
    train = load("hf:me/set", "train")
    assert (train.class_names, train.labels.tolist()) == (("a", "b"), [1, 0] * 3)
    with pytest.raises(InputError, match=r"hf:me/set: no test split among data/train\.parquet, expected 'test'"):
        load("hf:me/set", "test")


def test_a_set_of_this_package_on_the_hub(hub: Path, tiny_file: Path) -> None:
    (hub / "set.h5").write_bytes(tiny_file.read_bytes())
    assert torch.equal(load("hf:me/set", "test").points, load(str(tiny_file), "test").points)


def test_what_is_no_table_is_not_read(hub: Path) -> None:
    (hub / "train.pkl").write_bytes(b"\x80\x04.")
    with pytest.raises(InputError, match=r"hf:me/set: no tables \(files of \.pkl\), expected one file of \.parquet"):
        load("hf:me/set")
    np.savez(hub / "train.npz", points=np.array([POINTS[0], None], dtype=object), label=LABELS[:2])
    with pytest.raises(InputError, match=r"hf:me/set train\.npz: unreadable \(ValueError: Object arrays cannot"):
        load("hf:me/set")
    np.savez(hub / "train.npz", cloud=POINTS, label=LABELS)
    with pytest.raises(InputError, match=r"train\.npz: columns cloud, label, expected one of points, pos"):
        load("hf:me/set")


def test_what_cannot_be_fetched_is_one_line(hub: Path) -> None:
    with pytest.raises(InputError, match=r"hf:other/set: cannot be fetched \(404: no such repository\)"):
        load("hf:other/set")
    with pytest.raises(InputError, match="stream: 'hf:me/set', which another library reads"):
        open_streamed("hf:me/set")


@pytest.mark.parametrize(
    ("name", "module", "words"),
    [
        ("pyg:ModelNet10", "torch_geometric.datasets", "torch-geometric is not installed, expected pip install"),
        ("hf:me/set", "huggingface_hub", "huggingface_hub is not installed, expected pip install"),
    ],
)
def test_a_library_that_is_missing_is_named(
    name: str, module: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=f"{name}: {words}"):
        load(name)


def test_modelnet_of_torch_geometric(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str, bool]] = []
    corners = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 3]])
    faces = torch.tensor([[0, 0, 0, 1], [1, 1, 2, 2], [2, 3, 3, 3]])

    class ModelNet(list[Any]):
        raw_file_names = ("chair", "bathtub")

        def __init__(self, root: str, name: str, train: bool) -> None:
            asked.append((root, name, train))
            super().__init__(SimpleNamespace(pos=corners, face=faces, y=torch.tensor([k])) for k in (0, 1))
            if train:
                self.append(SimpleNamespace(pos=corners * 0, face=faces, y=torch.tensor([1])))

    fake = ModuleType("torch_geometric.datasets")
    vars(fake).update(ModelNet=ModelNet)
    monkeypatch.setitem(sys.modules, "torch_geometric.datasets", fake)
    found = load("pyg:ModelNet10", "test", points=50)
    assert asked == [(str(own_cache / "pyg" / "ModelNet10"), "10", False)]
    assert (found.class_names, found.labels.tolist(), found.points_per_cloud) == (("bathtub", "chair"), [0, 1], 50)
    size = found.points.amax((0, 1)) - found.points.amin((0, 1))
    assert size[2] > 2 * size[0]  # the surface of a solid that is three times as high as it is wide
    with pytest.raises(InputError, match=r"ModelNet item 2: a mesh of zero area, .* \(--skip-bad goes on without it\)"):
        load("pyg:ModelNet10")
    assert len(load("pyg:ModelNet10", skip_bad=True)) == 2
    with pytest.raises(InputError, match=r"pyg:ModelNet11: 'ModelNet11' \(did you mean 'ModelNet10'\?\)"):
        load("pyg:ModelNet11")
