"""Clouds for other tools: every format read back by somebody else's reader, and by this package's; names; errors."""

import ntpath
import os
import stat
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path, PureWindowsPath
from typing import Any

import h5py
import numpy as np
import pytest
import torch
import trimesh
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pcdistill.artefact.artefact import Artefact
from pcdistill.cli import main
from pcdistill.clouds import PointClouds
from pcdistill.core.errors import InputError
from pcdistill.data import load
from pcdistill.export import height_colouring, write_clouds
from pcdistill.export.clouds import LONGEST, folder_names
from pcdistill.models import build
from pcdistill.training.recipe import protocol
from pcdistill.training.trained import Trained, save_network
from pcdistill.viewing.scene import height_colours

KINDS = ("ply", "pcd", "xyz")


@pytest.fixture
def clouds() -> PointClouds:
    """Nine clouds of 20 points, classes mixed and of different sizes, none of `empty`; numbers of all sizes."""
    random = np.random.default_rng(3)
    points = random.normal(size=(9, 20, 3)) * 10.0 ** random.integers(-6, 3, size=(9, 20, 3))
    labels = torch.tensor([3, 0, 2, 0, 3, 3, 0, 2, 3])
    names = ("night stand", "empty", "Lampe à pied", "bed")
    return PointClouds(torch.from_numpy(points), labels, names, {"name": "mixed", "up_axis": "z"})


@pytest.fixture
def colours() -> np.ndarray:
    return np.random.default_rng(4).integers(0, 256, size=(9, 20, 3), dtype=np.uint8)


def files_of(clouds: PointClouds) -> list[str]:
    """Names, without suffix, of the file of every cloud, written down a second time."""
    seen: dict[int, int] = {}
    names = []
    for label in clouds.labels.tolist():
        seen[label] = seen.get(label, 0) + 1
        names.append(f"{clouds.class_names[label]}/{clouds.class_names[label]}_{seen[label]:04d}")
    return names


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


# Read back by others


def test_npz_read_by_numpy(clouds: PointClouds, colours: np.ndarray, tmp_path: Path) -> None:
    soft = torch.rand(9, 4, generator=torch.Generator().manual_seed(0)) + 0.1
    soft = soft / soft.sum(1, keepdim=True)
    taught = PointClouds(clouds.points, soft, clouds.class_names, {**clouds.provenance, "up_axis": "y"}, clouds.labels)
    written = write_clouds(taught, tmp_path / "set.npz", colours)
    assert written == ("npz", 1, 9, 20, (tmp_path / "set.npz").stat().st_size)
    with np.load(tmp_path / "set.npz", allow_pickle=False) as arrays:
        found = dict(arrays)
    assert found["points"].dtype == np.float32
    np.testing.assert_array_equal(found["points"], clouds.points.numpy())
    assert found["labels"].dtype == np.int64
    assert found["labels"].tolist() == clouds.labels.tolist()  # and not the most probable ones
    np.testing.assert_array_equal(found["soft_labels"], soft.numpy())
    assert found["colours"].dtype == np.uint8
    np.testing.assert_array_equal(found["colours"], colours)
    assert found["class_names"].tolist() == list(clouds.class_names)
    assert (str(found["up_axis"]), str(found["unit"])) == ("y", "radius of an object")
    write_clouds(clouds, tmp_path / "plain.npz")
    with np.load(tmp_path / "plain.npz", allow_pickle=False) as arrays:
        assert set(arrays) == {"points", "labels", "class_names", "up_axis", "unit"}


def test_hdf5_read_as_loaders_of_modelnet_do(clouds: PointClouds, colours: np.ndarray, tmp_path: Path) -> None:
    written = write_clouds(clouds, tmp_path / "set.h5", colours)
    assert written == ("h5", 1, 9, 20, (tmp_path / "set.h5").stat().st_size)
    with h5py.File(tmp_path / "set.h5") as file:
        assert (file["data"].dtype, file["label"].dtype, file["label"].shape) == (np.float32, np.uint8, (9, 1))
        data, label = file["data"][:].astype("float32"), file["label"][:].astype("int64")
        assert np.squeeze(label).tolist() == clouds.labels.tolist()
        assert [name.decode() for name in file["shape_names"][:]] == list(clouds.class_names)
        np.testing.assert_array_equal(file["colour"][:], colours)
        assert dict(file.attrs) == {"up_axis": "y", "unit": "radius of an object"}
    # y of ModelNet is z here: a quarter turn, which mirrors nothing
    np.testing.assert_array_equal(data, clouds.points.numpy() @ np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], "f4"))
    write_clouds(clouds, tmp_path / "plain.h5")
    with h5py.File(tmp_path / "plain.h5") as file:
        assert set(file) == {"data", "label", "shape_names"}


@pytest.mark.parametrize("up", ["x", "y", "z", "unspecified"])
def test_hdf5_is_a_part_of_the_set_that_the_modelnet_reader_reads(
    up: str, tiny_clouds: PointClouds, tmp_path: Path
) -> None:
    """Whatever was up before is up afterwards; what is not known stays as it is, as the file says so."""
    turned = {
        "z": tiny_clouds.points, "y": tiny_clouds.points[..., [0, 2, 1]] * torch.tensor([1, 1, -1]),
        "x": tiny_clouds.points[..., [2, 1, 0]] * torch.tensor([1, 1, -1]), "unspecified": tiny_clouds.points,
    }[up]  # fmt: skip
    clouds = PointClouds(turned, tiny_clouds.labels, tiny_clouds.class_names, {"up_axis": up})
    for split in ("train", "test"):
        write_clouds(clouds, tmp_path / "set" / f"ply_data_{split}0.h5")
        (tmp_path / "set" / f"{split}_files.txt").write_text(f"data/ply_data_{split}0.h5\n")
    with h5py.File(tmp_path / "set" / "ply_data_train0.h5") as file:
        names = [name.decode() for name in file["shape_names"][:]]
        assert file.attrs["up_axis"] == ("unspecified" if up == "unspecified" else "y")
    (tmp_path / "set" / "shape_names.txt").write_text("\n".join(names) + "\n")
    back = load(tmp_path / "set")
    torch.testing.assert_close(back.points, tiny_clouds.points, rtol=0, atol=1e-6)
    assert back.labels.equal(tiny_clouds.labels)
    assert back.class_names == tiny_clouds.class_names


OPEN3D = """
import sys
import numpy as np
try:
    import open3d as o3d
except Exception as problem:
    print(f"{type(problem).__name__}: {problem}")
    sys.exit(77)
for path in sys.argv[1:]:
    cloud = o3d.io.read_point_cloud(path)
    np.savez(path + ".npz", points=np.asarray(cloud.points), colours=np.asarray(cloud.colors))
"""


@pytest.fixture
def in_open3d(clouds: PointClouds, colours: np.ndarray, tmp_path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Points and colours in [0, 1] that Open3D finds in the third cloud's file of every kind."""
    name = files_of(clouds)[2]
    paths = {}
    for kind in KINDS:
        write_clouds(clouds, tmp_path / kind, colours, kind)
        write_clouds(clouds, tmp_path / f"plain_{kind}", None, kind)
        paths |= {
            kind: tmp_path / kind / f"{name}.{kind}",
            f"plain {kind}": tmp_path / f"plain_{kind}" / f"{name}.{kind}",
        }
    # In a process of its own, as everywhere: it may not leave ours unharmed.
    done = subprocess.run([sys.executable, "-c", OPEN3D, *map(str, paths.values())], capture_output=True, text=True)
    if done.returncode == 77:
        pytest.skip(f"Open3D does not load: {done.stdout.strip()}")
    assert done.returncode == 0, done.stderr
    found = {}
    for kind, path in paths.items():
        with np.load(f"{path}.npz") as arrays:
            found[kind] = (arrays["points"], arrays["colours"])
    return found


def test_files_read_by_open3d(
    in_open3d: dict[str, tuple[np.ndarray, np.ndarray]], clouds: PointClouds, colours: np.ndarray
) -> None:
    for name, (points, painted) in in_open3d.items():
        np.testing.assert_array_equal(points.astype(np.float32), clouds.points[2].numpy(), err_msg=name)
        if name in ("ply", "pcd"):
            np.testing.assert_allclose(255 * painted, colours[2], atol=1e-4)
        else:
            assert len(painted) == 0  # Open3D takes x, y and z of an XYZ file only


@pytest.mark.parametrize("kind", ["ply", "xyz"])
def test_files_read_by_trimesh(clouds: PointClouds, colours: np.ndarray, tmp_path: Path, kind: str) -> None:
    written = write_clouds(clouds, tmp_path / "set", colours, kind)
    files = [f"{name}.{kind}" for name in files_of(clouds)]
    assert files_in(tmp_path / "set") == set(files)
    assert {path.name for path in (tmp_path / "set").iterdir()} == set(clouds.class_names) - {"empty"}
    assert written == (kind, 9, 9, 20, sum((tmp_path / "set" / file).stat().st_size for file in files))
    for at, file in enumerate(files):
        found = trimesh.load(tmp_path / "set" / file)
        assert isinstance(found, trimesh.PointCloud)
        np.testing.assert_array_equal(found.vertices.astype(np.float32), clouds.points[at].numpy())
        np.testing.assert_array_equal(found.colors, np.hstack([colours[at], np.full((20, 1), 255)]))


def test_xyz_read_as_columns_of_numbers(clouds: PointClouds, colours: np.ndarray, tmp_path: Path) -> None:
    write_clouds(clouds, tmp_path / "set", colours, "xyz")
    table = np.loadtxt(tmp_path / "set" / "bed" / "bed_0002.xyz")
    np.testing.assert_allclose(table[:, :3], clouds.points[4].double().numpy(), rtol=1e-8)  # nine digits
    np.testing.assert_array_equal(table[:, 3:], colours[4])


def test_headers_say_which_axis_is_up(clouds: PointClouds, colours: np.ndarray, tmp_path: Path) -> None:
    clouds = PointClouds(clouds.points, clouds.labels, clouds.class_names, {"up_axis": "y"})
    for kind, line in (
        ("ply", b"\ncomment up axis y, unit: radius of an object\n"),
        ("pcd", b"\n# up axis y, unit: radius"),
    ):
        write_clouds(clouds, tmp_path / kind, colours, kind)
        assert line in (tmp_path / kind / "bed" / f"bed_0001.{kind}").read_bytes()


# Read back by this package


@pytest.mark.parametrize("coloured", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_is_read_as_a_set(tiny_clouds: PointClouds, tmp_path: Path, kind: str, coloured: bool) -> None:
    """As `train` whole and in order. Alone, a fifth of every class is its test split, by the reader's rule."""
    painted = height_colouring(tiny_clouds) if coloured else None
    write_clouds(tiny_clouds, tmp_path / "set" / "train", painted, kind)
    back = load(tmp_path / "set")
    assert back.class_names == tiny_clouds.class_names
    assert back.labels.equal(tiny_clouds.labels)
    # Centred and scaled anew; they were so before, up to rounding.
    torch.testing.assert_close(back.points, tiny_clouds.points, rtol=0, atol=1e-6)
    write_clouds(tiny_clouds, tmp_path / "alone", painted, kind)
    assert [len(load(tmp_path / "alone", split)) for split in ("train", "test")] == [18, 6]


def test_more_than_9999_clouds_of_a_class_stay_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pcdistill.export.clouds.ENCODERS", {"xyz": lambda points, *_: b"%d" % points[0, 0]})
    many = torch.arange(10_001.0).reshape(-1, 1, 1).expand(-1, 1, 3)
    write_clouds(PointClouds(many, torch.zeros(10_001, dtype=torch.int64), ("dust",)), tmp_path / "set", None, "xyz")
    assert [int(path.read_bytes()) for path in sorted((tmp_path / "set" / "dust").iterdir())] == list(range(10_001))


# Colours


@pytest.mark.parametrize(("up", "axis"), [("x", 0), ("y", 1), ("z", 2), ("unspecified", 2)])
def test_colours_follow_the_height(clouds: PointClouds, up: str, axis: int) -> None:
    painted = height_colouring(PointClouds(clouds.points, clouds.labels, clouds.class_names, {"up_axis": up}))
    assert (painted.dtype, painted.shape) == (np.uint8, (9, 20, 3))
    for cloud, its in zip(clouds.points.numpy(), painted, strict=True):
        assert np.abs(its / 255 - height_colours(cloud[:, axis])).max() <= 0.5 / 255 + 1e-6
        lowest, highest = its[cloud[:, axis].argmin()], its[cloud[:, axis].argmax()]
        assert lowest.argmax() == 2  # blue
        assert highest[:2].min() > highest[2]  # yellow


def test_colours_of_another_shape_or_type(clouds: PointClouds, colours: np.ndarray, tmp_path: Path) -> None:
    for wrong, found in ((colours[:8], r"uint8 \(8, 20, 3\)"), (colours / 255, r"float64 \(9, 20, 3\)")):
        with pytest.raises(InputError, match=rf"colours: {found}, expected uint8 \(9, 20, 3\)"):
            write_clouds(clouds, tmp_path / "a.npz", wrong)


@pytest.mark.parametrize("output", [("a.npz", None), ("a.h5", None), ("a", "ply"), ("a", "pcd")])
def test_an_up_axis_is_one_of_the_axes_and_no_line_of_a_header(
    clouds: PointClouds, tmp_path: Path, output: tuple[str, Any]
) -> None:
    odd = PointClouds(clouds.points, clouds.labels, clouds.class_names, {"up_axis": "z\nelement vertex 9"})
    with pytest.raises(InputError, match=r"up_axis: 'z\\nelement vertex 9', expected x, y, z or unspecified"):
        height_colouring(odd)
    with pytest.raises(InputError, match="up_axis"):
        write_clouds(odd, tmp_path / output[0], None, output[1])
    assert list(tmp_path.iterdir()) == []


# Names of classes


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("night stand", "night stand"), ("flower_pot", "flower_pot"), ("Überwurf-2.0+", "Überwurf-2.0+"),
        ("कुर्सी", "कुर्सी"), ("椅子", "椅子"), ("../../x", "x"), ("/etc/passwd", "etc_passwd"), ("a/b", "a_b"),
        ("a\\b", "a_b"), ("C:x", "C_x"), ("a\nb", "a_b"), ("\x00a", "a"), ("\ud800a", "a"), ("a\u202eb", "a_b"),
        (".hidden", "hidden"), ("__pycache__", "pycache__"), ("a. .", "a"), ("CON", "_CON"), ("con.txt", "_con.txt"),
        ("nul ", "_nul"), ("com1", "_com1"), ("lpt¹.x", "lpt_.x"), ("conifer", "conifer"), ("cafe\u0301", "café"),
        ("~", None), ("", None), ("..", None), ("💺", None), ("x" * LONGEST, "x" * LONGEST),
        ("x" * (LONGEST + 1), None), ("é" * LONGEST, None),
    ],
)  # fmt: skip
def test_names_of_folders(name: str, folder: str | None) -> None:
    if folder is not None:
        assert folder_names(["bed", name]) == ("bed", folder)
        return
    with pytest.raises(InputError, match=r"class names: .* no name for a folder, expected 1 to 200 bytes"):
        folder_names(["bed", name])


@pytest.mark.parametrize(
    "names", [("a/b", "a_b"), ("Chair", "chair"), ("../x", "x"), ("café", "cafe\u0301"), ("ß", "SS")]
)
def test_names_that_are_one_folder_are_refused(names: tuple[str, str], clouds: PointClouds, tmp_path: Path) -> None:
    two = PointClouds(clouds.points[:2], torch.tensor([0, 1]), names)
    with pytest.raises(InputError, match=r"class names: .* and .* have one folder, '.*', expected names that differ"):
        write_clouds(two, tmp_path / "set", None, "ply")
    assert list(tmp_path.iterdir()) == []
    write_clouds(two, tmp_path / "set.h5")  # which has no folders
    with h5py.File(tmp_path / "set.h5") as file:
        assert tuple(name.decode() for name in file["shape_names"][:]) == names


def test_classes_that_readers_take_for_splits(clouds: PointClouds, tmp_path: Path) -> None:
    two = PointClouds(clouds.points[:2], torch.tensor([0, 1]), ("train", "test"))
    with pytest.raises(InputError, match=r"class names: only train, test, expected others"):
        write_clouds(two, tmp_path / "set", None, "ply")
    assert folder_names(("train", "truck")) == ("train", "truck")  # ShapeNet has trains


@pytest.mark.parametrize("name", ["a\0", "\ud800"])
@pytest.mark.parametrize("output", ["a.npz", "a.h5"])
def test_names_that_a_file_cannot_hold(clouds: PointClouds, tmp_path: Path, name: str, output: str) -> None:
    odd = PointClouds(clouds.points[:2], torch.tensor([0, 1]), (name, "b"))
    with pytest.raises(InputError, match=r"class names: .*, expected text without NUL and surrogates"):
        write_clouds(odd, tmp_path / output)
    assert list(tmp_path.iterdir()) == []


def is_reserved(name: str) -> bool:
    """What Python says of Windows."""
    if sys.version_info >= (3, 13):
        return bool(ntpath.isreserved(name))
    with warnings.catch_warnings():
        return PureWindowsPath(name).is_reserved()


ODD = st.text(max_size=12) | st.text(alphabet="./\\:~ _-conNUL1", min_size=1, max_size=8)


@settings(max_examples=150)
@given(names=st.lists(ODD.filter(bool), min_size=2, max_size=3, unique=True))
@example(names=["../../x", "CON"])
@example(names=["a/../../b", "c:\\d"])
def test_whatever_classes_are_called_nothing_is_written_elsewhere(names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        outer = Path(folder) / "outer"
        outer.mkdir()
        clouds = PointClouds(torch.eye(3).repeat(len(names), 1, 1), torch.arange(len(names)), tuple(names))
        refused = None
        try:
            write_clouds(clouds, outer / "set", None, "ply")
        except InputError as error:
            refused = str(error)
        assert os.listdir(outer) == ([] if refused else ["set"])
        if refused is not None:
            assert refused.isprintable()
        else:
            made = sorted(path.name for path in (outer / "set").iterdir())
            assert len({name.casefold() for name in made}) == len(made) == len(names)
            for name in made:
                assert [path.name for path in (outer / "set" / name).iterdir()] == [f"{name}_0001.ply"]
                assert PureWindowsPath(name).name == name
                assert not is_reserved(name)
                assert not name.endswith((".", " "))
            (outer / "set").rename(outer / "train")
            assert list(load(outer).class_names) == made
        assert os.listdir(folder) == ["outer"]


# All or nothing, and the command line


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError])
def test_a_write_that_is_stopped_leaves_nothing(
    clouds: PointClouds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: type[BaseException]
) -> None:
    calls = []

    def stopped(*_: object) -> bytes:
        calls.append(1)
        if len(calls) == 5:
            raise stop
        return b"content"

    monkeypatch.setattr("pcdistill.export.clouds.ENCODERS", {"ply": stopped})
    with pytest.raises(stop):
        write_clouds(clouds, tmp_path / "set", None, "ply")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def artefact(tiny_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three clouds of each class; networks are trained on more, made of them."""
    path = tmp_path_factory.mktemp("made") / "a.h5"
    words = ["select", "--data", tiny_file, "--clouds-per-class", 3, "--points", 64, "--method", "random",
             "--expand", "interpolate=1", "--output", path]  # fmt: skip
    assert main([str(word) for word in words]) == 0
    return path


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trained") / "net.safetensors"
    name = "pointnet-tiny"
    plan = protocol("tuned", name)
    save_network(path, Trained(build(name, 3, 0).eval(), ("ball", "box", "ring"), plan, "tiny.h5", 64, 0))
    return path


def run(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """What a command line that has to succeed prints."""
    capsys.readouterr()
    assert main([str(word) for word in words]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    return shown.out


def test_an_artefact_by_the_command_line(
    artefact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The stored clouds, in every format, and what is printed; an empty folder is filled."""
    monkeypatch.chdir(tmp_path)
    made = Artefact.load(artefact)
    stored = made.clouds
    assert len(stored) == 9
    assert len(made.training_clouds) == 18
    Path("there").mkdir()
    for output, kind in (("there", "ply"), ("new/set", "pcd"), ("x", "xyz")):
        said = run(capsys, "export", artefact, "--output", output, "--format", kind)
        nbytes = sum((Path(output) / file).stat().st_size for file in files_in(Path(output)))
        assert said == f"wrote {output}: 9 {kind.upper()} files, {nbytes:,} bytes\n"
        assert stat.S_IMODE(Path(output).stat().st_mode) == stat.S_IMODE((Path(output) / "box").stat().st_mode)
    for output in ("a.npz", "b.h5"):
        said = run(capsys, "export", artefact, "--output", output)
        assert said == f"wrote {output}: 9 clouds x 64 points, {Path(output).stat().st_size:,} bytes\n"
    assert {path.name for path in tmp_path.iterdir()} == {"there", "new", "x", "a.npz", "b.h5"}
    with np.load("a.npz") as arrays:
        np.testing.assert_array_equal(arrays["points"], stored.points.numpy())
        np.testing.assert_array_equal(arrays["colours"], height_colouring(stored))
        assert str(arrays["up_axis"]) == "z"
    found = trimesh.load("there/ring/ring_0003.ply")
    np.testing.assert_array_equal(found.vertices.astype(np.float32), stored.points[8].numpy())
    run(capsys, "export", artefact, "--output", "a.npz", "--colour", "none", "--force")  # over the old one
    with np.load("a.npz") as arrays:
        assert "colours" not in arrays


def test_the_current_folder_stays_what_it_is(
    artefact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for place in (".", tmp_path):
        assert main(["export", str(artefact), "--output", str(place), "--format", "ply"]) == 2
        assert f"{place}: the current folder, expected another one" in capsys.readouterr().err


def test_a_set_by_the_command_line(
    tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both splits of a file, and a catalog's name; what is exported is trained and tested on as it was."""
    monkeypatch.chdir(tmp_path)
    for split in ("train", "test"):
        run(capsys, "export", tiny_file, "--split", split, "--output", f"set/{split}", "--format", "ply")
        usual, back = load(tiny_file, split), load("set", split)
        assert back.labels.equal(usual.labels)
        torch.testing.assert_close(back.points, usual.points, rtol=0, atol=1e-6)
    run(capsys, "data", "convert", "set", "--points", 1024, "--output", "again.h5")
    Path("sets").mkdir()
    Path("sets/modelnet10_2048.h5").write_bytes(tiny_file.read_bytes())
    assert main(["export", "modelnet10", "--root", "sets", "--output", "a.npz"]) == 2
    assert "modelnet10_2048.h5: 3 classes, expected 10" in capsys.readouterr().err  # it was looked for below --root


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("NET --output a.ply", "output: a.ply, expected a name that ends in .onnx or .pte, for a network"),
        ("NET --output new", "output: new, expected a name that ends in .onnx or .pte"),
        ("NET --output a.onnx --format ply", "format: of NET as a.onnx, expected clouds"),
        ("NET --output a.onnx --colour none", "colour: of NET as a.onnx, expected clouds"),
        ("NET --output a.onnx --split test", "split: of NET as a.onnx, expected clouds"),
        ("ART --output a.onnx", "ART: an artefact, expected a trained network (.safetensors) for a.onnx"),
        ("SET --output a.pte", "SET: not a network of this package"),
        ("ART --output a.las", "output: a.las, expected a name that ends in .npz or .h5, or a folder and --format"),
        ("ART --output a.ply --format ply", "output: a.ply, expected a name that ends in .npz or .h5, or a folder"),
        ("ART --output new", "output: new, a folder, and no --format, expected --format ply, pcd or xyz"),
        ("ART --output a.npz --format ply", "format: ply of a.npz, expected a folder as output"),
        ("ART --output full --format ply", "full: a folder with something in it, expected a folder that is empty or"),
        ("ART --output full.npz", "output: full.npz, a folder, and no --format"),
        ("ART --output file --format ply", "file: a file, expected a folder that is empty or not there"),
        ("ART --output file/new --format ply", "file"),
        ("ART --output file/a.npz", "file"),
        ("ART --output /proc/new --format ply", "/proc/"),
        ("ART --output new --format las", "format = 'las', expected 'ply', 'pcd' or 'xyz'"),
        ("ART --output new --format ply --colour red", "colour = 'red', expected 'height' or 'none'"),
        ("ART --output new --format ply --int8", "int8: of ART as new, expected a trained network"),
        ("ART --output a.npz --training-set SET", "training_set: of ART as a.npz, expected a trained network"),
        ("ART --output a.npz --split test", "split: of an artefact (ART), expected a data set"),
        (
            "copy.h5 --output copy.h5",
            "output: copy.h5, which is the source or another output, expected a file",
        ),
        (
            "copy.h5 --output link.h5",
            "output: link.h5, which is the source or another output, expected a file",
        ),
        ("none.h5 --output a.npz", "none.h5: no such file or folder"),
        ("modelnet1O --output a.npz", "'modelnet1O' (did you mean 'modelnet10'?)"),
        ("broken.h5 --output a.npz", "broken.h5: unreadable"),
        ("full --output a.npz", "full: no recognised layout"),
    ],
)
def test_what_is_refused(
    words: str, message: str, artefact: Path, network: Path, tiny_file: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """In one line, and what was there stays as it was."""
    monkeypatch.chdir(tmp_path)
    for folder in ("full", "full.npz"):
        Path(folder).mkdir()
        Path(folder, "old").write_text("old")
    for name, content in (("file", b"old"), ("broken.h5", b"broken"), ("copy.h5", artefact.read_bytes())):
        Path(name).write_bytes(content)
    Path("link.h5").symlink_to("copy.h5")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    named = {"NET": network, "ART": artefact, "SET": tiny_file}
    assert main(["export", *(str(named.get(word, word)) for word in words.split())]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("pcdistill: error: ")
    assert shown.err.count("\n") == 1
    for word, path in named.items():
        message = message.replace(word, str(path))
    assert message in shown.err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert {path.name for path in tmp_path.iterdir()} == {"full", "full.npz", "file", "broken.h5", "copy.h5", "link.h5"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_protected_folder(
    artefact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(artefact), "--output", "closed/new", "--format", "ply"]) == 2
    assert "Permission denied" in capsys.readouterr().err
