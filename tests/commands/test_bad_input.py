"""Bad input on the command line: one line that names what is at fault, exit code 2, and nothing left behind."""

import io
import os
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pytest
from safetensors.numpy import save_file

from pcdistill.cli import main
from pcdistill.clouds import PointClouds
from pcdistill.commands.distill import Distill
from pcdistill.commands.select import Select
from pcdistill.commands.train import Train
from pcdistill.data import places
from pcdistill.training.recipe import RECIPES
from tests.conftest import lines_of
from tests.conftest import written as artefact_of

REPOSITORY = Path(__file__).parents[2]
TRIANGLE = "OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n"


class Place(NamedTuple):
    """Where a case may work: `out` is watched, `tmp` is for its bad files; the others are good and stay so."""

    tmp: Path
    out: Path
    data: Path
    artefact: Path
    network: Path


class Case(NamedTuple):
    name: str
    make: Callable[[Place], list[object]]  # the words of the command line
    message: str  # what the line has to say


@pytest.fixture(scope="module")
def made(tiny_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A good artefact and a good network."""
    folder = tmp_path_factory.mktemp("good")
    artefact, network = folder / "good.h5", folder / "good.safetensors"
    artefact_of(Select(data=str(tiny_file), output=artefact, clouds_per_class=1, points=16, method="random"))
    with pytest.MonkeyPatch.context() as patch:
        short = RECIPES["tuned"].model_copy(update={"steps": 2, "batch": 2})
        patch.setitem(RECIPES, "tuned", short)
        lines_of(Train(source=str(tiny_file), output=network, points=16, network="pointnet-small"))
    return artefact, network


@pytest.fixture
def place(tiny_file: Path, made: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path)
    return Place(tmp_path, tmp_path / "out", tiny_file, *made)


def selecting(data: object, *more: object) -> list[object]:
    return ["select", "--data", data, "--clouds-per-class", 1, "--points", 16, "--method", "random",
            "--output", "out/made.h5", *more]  # fmt: skip


def distilling(place: Place, *more: object) -> list[object]:
    return ["distill", "--data", place.data, "--clouds-per-class", 1, "--points", 16, "--objective", "dm",
            "--members", 1, "--steps", 1, "--output", "out/made.h5", *more]  # fmt: skip


def written(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def changed(name: str, change: Callable[[h5py.File], None], message: str) -> Case:
    """A case whose data set is a copy of the good one with something changed."""

    def make(place: Place) -> list[object]:
        path = Path(shutil.copy(place.data, place.tmp / "set.h5"))
        with h5py.File(path, "r+") as file:
            change(file)
        return selecting(path)

    return Case(name, make, message)


def swapped(file: h5py.File, name: str, value: Any) -> None:
    """Put a dataset in the place of another."""
    del file[name]
    file[name] = value


def edited(name: str, at: Any, value: Any) -> Callable[[h5py.File], None]:
    def edit(file: h5py.File) -> None:
        file[name][at] = value

    return edit


def one_class(file: h5py.File) -> None:
    file.attrs["class_names"] = ["ball"]
    for split in ("train", "test"):
        swapped(file, f"{split}/labels", np.zeros(len(file[f"{split}/points"]), np.int64))


def folder(files: dict[str, str | bytes | None], message: str, name: str) -> Case:
    """A case whose data set is a folder of these files; None makes an empty folder."""

    def make(place: Place) -> list[object]:
        for relative, content in files.items():
            path = place.tmp / "set" / relative
            if content is None:
                path.mkdir(parents=True)
            else:
                written(path, content)
        return selecting(place.tmp / "set")

    return Case(name, make, message)


def classes(**odd: str | bytes) -> dict[str, str | bytes | None]:
    """Two classes of two triangles, the last of them replaced by the file given as suffix=content."""
    ((suffix, content),) = odd.items()
    good: dict[str, str | bytes | None] = {f"train/{label}/{i}.off": TRIANGLE for label in "ab" for i in range(2)}
    return {**good, f"train/b/odd.{suffix}": content}


def numpy_bytes(name: str, values: Any) -> bytes:
    stream = io.BytesIO()
    if name == "npz":
        np.savez(stream, points=values)
    else:
        np.save(stream, values, allow_pickle=True)
    return stream.getvalue()


def artefact(name: str, change: Callable[[bytes], bytes], message: str) -> Case:
    def make(place: Place) -> list[object]:
        return ["show", written(place.tmp / "bad.h5", change(place.artefact.read_bytes()))]

    return Case(name, make, message)


def flipped(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


def other_classes(place: Place) -> list[object]:
    path = Path(shutil.copy(place.data, place.tmp / "other.h5"))
    with h5py.File(path, "r+") as file:
        file.attrs["class_names"] = ["ball", "cube", "ring"]
    return ["evaluate", place.artefact, "--test-data", path]


def evaluating(place: Place) -> list[object]:
    return ["evaluate", place.artefact, "--test-data", place.data, "--train-seeds", 1]


def one_shared(place: Place) -> Path:
    """A set of other classes but one."""
    for label in ("Box", "cone"):
        for number in range(5):
            points = np.random.default_rng(number).normal(size=(1024, 3))
            np.save(written(place.tmp / "other" / label / f"{number}.npy", ""), points)
    return place.tmp / "other"


def few_points(place: Place) -> list[object]:
    main(["data", "convert", str(place.data), "--points", "64", "--output", str(place.tmp / "few.h5")])
    return ["evaluate", place.artefact, "--test-data", place.tmp / "few.h5", "--test-points", 1024]


def fewer_points(place: Place) -> Path:
    main(["data", "convert", str(place.data), "--points", "8", "--output", str(place.tmp / "few.h5")])
    return place.tmp / "few.h5"


def folder_of_json(place: Place) -> Path:
    (place.tmp / "found.json").mkdir()
    return place.tmp / "found.json"


def weights(name: str, message: str, facts: dict[str, str] | None) -> Case:
    def make(place: Place) -> list[object]:
        save_file({"a": np.zeros(3, np.float32)}, place.tmp / "bad.safetensors", facts)
        return ["evaluate", place.tmp / "bad.safetensors"]

    return Case(name, make, message)


def moved_network(place: Place) -> list[object]:
    return ["evaluate", shutil.copy(place.network, place.tmp / "net.safetensors")]


def toml(place: Place, text: str | bytes) -> list[object]:
    return distilling(place, "--config", written(place.tmp / "run.toml", text))


def folder_as_network(place: Place) -> list[object]:
    (place.tmp / "bad.safetensors").mkdir()
    return ["evaluate", "bad.safetensors"]


OBJECTS = np.array([{}, None], dtype=object)
CASES = [
    # HDF5 data
    Case("truncated HDF5", lambda p: selecting(written(p.tmp / "set.h5", p.data.read_bytes()[:9000])),
        "set.h5: unreadable"),
    Case("empty file", lambda p: selecting(written(p.tmp / "set.h5", b"")), "set.h5: an empty file"),
    Case("pickle as data", lambda p: selecting(written(p.tmp / "set.h5", pickle.dumps([1]))), "set.h5: unreadable"),
    Case("text as data", lambda p: selecting(written(p.tmp / "set.h5", "points")), "set.h5: unreadable"),
    changed("wrong dataset names", lambda f: f.move("train/points", "train/pts"),
        "set.h5 train/points: no such dataset"),
    changed("no train group", lambda f: f.move("train", "training"), "set.h5 train: no such group"),
    changed("NaN", edited("train/points", (3, 5, 1), np.nan), "train/points: cloud 3 has NaN"),
    changed("infinity", edited("train/points", (4, 0, 0), np.inf), "train/points: cloud 4 has NaN or infinite"),
    changed("coinciding points", edited("train/points", 2, 0.5), "train/points: all points of cloud 2 coincide"),
    changed(
        "zero points",
        lambda f: swapped(f, "train/points", np.zeros((24, 0, 3), np.float16)),
        "set.h5 train: 24 clouds of 0 points",
    ),
    changed(
        "zero clouds",
        lambda f: (
            swapped(f, "train/points", np.zeros((0, 64, 3), np.float16)),
            swapped(f, "train/labels", np.zeros(0, np.int64)),
        )[0],
        "set.h5 train: 0 clouds of 64 points",
    ),
    changed(
        "points of two coordinates",
        lambda f: swapped(f, "train/points", np.zeros((24, 9, 2), np.float16)),
        "set.h5 train: points of shape (24, 9, 2)",
    ),
    changed(
        "integer points",
        lambda f: swapped(f, "train/points", np.zeros((24, 9, 3), np.int32)),
        "set.h5 train/points: values of type int32",
    ),
    changed("label too large", edited("train/labels", 5, 3), "set.h5 train: label 3 of cloud 5, expected 0 to 2"),
    changed("negative label", edited("train/labels", 6, -1), "set.h5 train: label -1 of cloud 6"),
    changed("float labels", lambda f: swapped(f, "train/labels", np.zeros(24)), "train/labels: values of type float64"),
    changed("too few labels", lambda f: swapped(f, "train/labels", np.zeros(23, int)),
        "set.h5 train: labels of shape (23,)"),
    changed("one class", one_class, "set.h5: 1 class, expected at least two"),
    changed("no class names", lambda f: f.attrs.__delitem__("class_names"), "set.h5 class_names: no such attribute"),
    changed(
        "duplicate class names",
        lambda f: f.attrs.__setitem__("class_names", ["ball", "box", "box"]),
        "class names ['ball', 'box', 'box'], expected at least one, all different",
    ),
    changed("class without clouds", edited("train/labels", slice(8, 16), 0), "set.h5 train: no cloud of class 'box'"),
    # folders
    folder(classes(off="OFF\nnonsense\n"), "b/odd.off line 2: 'nonsense'", "garbled mesh"),
    folder(classes(off="OFF\n3 1 0\n0 0 0\n"), "b/odd.off: ends after 1 of 3 vertices", "truncated mesh"),
    folder(classes(ply=b"ply\nformat binary_little_endian 1.0\nelement vertex 9\n"), "b/odd.ply", "truncated PLY"),
    folder(classes(off=TRIANGLE.replace("0 1 0", "2 0 0")), "b/odd.off: a mesh of zero area", "degenerate mesh"),
    folder(classes(off=TRIANGLE.replace("3 0 1 2", "3 0 1 9")), "line 6: a face of vertex 9", "face of no vertex"),
    folder(classes(npy=numpy_bytes("npy", OBJECTS)), "b/odd.npy: Python objects", "objects in .npy"),
    folder(classes(npz=numpy_bytes("npz", OBJECTS)), ": Python objects", "objects in .npz"),
    folder(classes(npy=pickle.dumps([1])), "b/odd.npy: no array of NumPy", "pickle as .npy"),
    folder(classes(xyz="0 0 zero\n"), "b/odd.xyz line 1: '0 0 zero'", "words in .xyz"),
    folder({**classes(off=TRIANGLE), "train/c": None, "test/c/0.off": TRIANGLE}, "train/c: no object files",
           "empty class folder"),
    folder({"": None}, "set: no recognised layout", "empty folder"),
    folder({"a/0.off": TRIANGLE, "a/1.off": TRIANGLE}, "set: 1 class", "folder of one class"),
    # names and places
    Case("missing folder", lambda p: selecting("nowhere/set"), "nowhere/set: no such file or folder"),
    Case("missing file", lambda p: selecting("nothing.h5"), "nothing.h5: no such file"),
    Case("misspelt catalog name", lambda p: selecting("modelnet1O"), "'modelnet1O' (did you mean 'modelnet10'?)"),
    Case("no variant", lambda p: selecting("scanobjectnn"), "'scanobjectnn' without a variant"),
    Case("set not there", lambda p: selecting("modelnet10", "--root", p.tmp), "modelnet10: not found in"),
    Case("unknown command", lambda p: ["distil", "--data", "shapes"],
        "unknown command 'distil' (did you mean 'distill'?)"),
    Case("unknown flag", lambda p: distilling(p, "--stepz", 3), "unknown argument '--stepz' (did you mean '--steps'?)"),
    Case("unknown flag with =", lambda p: distilling(p, "--stepz=3"), "'--stepz' (did you mean '--steps'?)"),
    Case("two sources", lambda p: ["show", p.artefact, "more.h5"], "unknown argument 'more.h5'"),
    Case("flag without value", lambda p: distilling(p, "--steps"), "argument --steps: expected one argument"),
    Case("no source", lambda p: ["show"], "pcdistill show: 'source' is missing"),
    Case("no name", lambda p: ["data", "info"], "data info: no data set named"),
    Case("unknown action", lambda p: ["data", "lst"], "action = 'lst', expected 'list', 'info', 'check' or 'convert'"),
    Case("unknown objective", lambda p: distilling(p, "--objective", "quantil"), "did you mean 'quantile'?"),
    Case("unknown storage", lambda p: distilling(p, "--storage", "point"), "storage: 'point' (did you mean 'points'?)"),
    Case("unknown start", lambda p: distilling(p, "--init", "medoids"),
        "selection: 'medoids' (did you mean 'medoid'?)"),
    Case("unknown surrogate", lambda p: distilling(p, "--surrogate", "pointnt"), "network: 'pointnt'"),
    Case("unknown selector", lambda p: selecting(p.data, "--method", "randm"), "selection: 'randm'"),
    Case("unknown features", lambda p: selecting(p.data, "--features", "pointnt"), "network: 'pointnt'"),
    Case("unknown protocol", lambda p: selecting(p.data, "--protocol", "tund"),
        "recipe: 'tund' (did you mean 'tuned'?)"),
    Case("unknown condition", lambda p: [*evaluating(p), "--conditions", "gausian"],
         "conditions: 'gausian' (did you mean 'gaussian'?), expected some of clean, all, rotations"),
    Case("unknown severity", lambda p: [*evaluating(p), "--conditions", "gaussian:6"],
         "conditions: 'gaussian:6', expected"),
    Case("no points for a condition", lambda p: [*evaluating(p), "--conditions", "1025", "--output", "out/there"],
         "conditions: '1025' of clouds of 1024 points, expected at most as many"),
    Case("unknown set of a condition",
         lambda p: [*evaluating(p), "--conditions", "data:none.h5", "--output", "out/there"], "none.h5"),
    Case("one shared class",
         lambda p: [*evaluating(p), "--conditions", f"data:{one_shared(p)}", "--output", "out/there"],
         "classes shared with training: box, expected at least 2"),
    Case("one network twice", lambda p: [*evaluating(p), "--networks", "pointnet", "pointnet"],
         "networks: 'pointnet' twice, expected each once"),
    Case("unknown second network",
         lambda p: [*evaluating(p), "--networks", "pointnet", "x", "--output", "out/there"], "network: 'x', expected"),
    Case("network and networks", lambda p: [*evaluating(p), "--networks", "pointnet", "--network", "pointnet"],
         "evaluate: --network and --networks, expected one of them"),
    Case("trained network with steps", lambda p: ["evaluate", p.network, "--test-data", p.data, "--train-steps", 3],
         "a trained network with --train-steps, expected a set to train on"),
    Case("trained network and others", lambda p: ["evaluate", p.network, "--test-data", p.data, "--networks", "dgcnn"],
         "a trained network with --networks, expected a set to train on"),
    Case("unknown network", lambda p: ["evaluate", p.artefact, "--network", "x"], "network: 'x', expected one of"),
    Case("unknown device", lambda p: ["evaluate", p.artefact, "--device", "abacus"],
         "expected auto, cpu, or one that torch has here"),
    Case("rank under a condition", lambda p: ["rank", p.artefact, "--conditions", "z"],
         "unknown argument '--conditions'"),
    Case("ranking", lambda p: [*evaluating(p), "--ranking"], "'--ranking' is called 'pcdistill rank' now"),
    Case("views", lambda p: [*evaluating(p), "--views", "z"], "'--views' is called '--conditions' now"),
    Case("views in TOML", lambda p: [*evaluating(p), "--config", written(p.tmp / "run.toml", 'views = ["z"]')],
         "run.toml: 'views' is called 'conditions' now"),
    Case("temperature of hard labels", lambda p: [*evaluating(p), "--temperature", 2],
         "temperature: given, but labels are hard, expected --teacher, or a set with soft labels"),
    Case("teacher across data sets",
         lambda p: [*evaluating(p), "--teacher", p.network, "--conditions", f"data:{p.data}"],
         "conditions: of other data sets, with a teacher"),
    Case("unknown student", lambda p: ["train", p.data, "--student", "tinny", "--output", p.tmp / "n.safetensors"],
         "student: 'tinny' (did you mean 'tiny'?), expected one of nano, tiny, light, medium, plain, wide"),
    Case("student and network",
         lambda p: ["train", p.data, "--student", "tiny", "--network", "dgcnn", "--output", p.tmp / "n.safetensors"],
         "student: tiny and network dgcnn, expected one of the two"),
    Case("policy without a teacher", lambda p: [*evaluating(p), "--policy", "kind=mix"],
         "policy: given, but no teacher, expected --teacher"),
    Case("unknown option of a policy",
         lambda p: ["train", p.data, "--output", p.out / "n.safetensors", "--teacher", p.network, "--policy", "shre=1"],
         "policy: unknown option 'shre' (did you mean 'share'?)"),
    Case("trained network with a policy",
         lambda p: ["evaluate", p.network, "--test-data", p.data, "--teacher", p.network, "--policy", "kind=mix"],
         "a trained network with --teacher and --policy, expected a set to train on"),
    Case("trained network with a loss", lambda p: ["evaluate", p.network, "--test-data", p.data, "--hard", 0.5],
         "a trained network with --hard, expected a set to train on"),
    Case("rank of hard labels with a teacher",
         lambda p: ["rank", p.artefact, "--test-data", p.data, "--teacher", p.network],
         "are hard, expected no teacher"),
    Case("rank with a loss", lambda p: ["rank", p.artefact, "--soft-loss", "mse"], "unknown argument '--soft-loss'"),
    Case("training on a network", lambda p: ["train", p.network, "--output", p.out / "n.safetensors"],
         "good.safetensors: a trained network, expected an artefact or a data set to train on"),
    Case("missing second teacher", lambda p: [*evaluating(p), "--teacher", p.network, "none.safetensors"],
         "none.safetensors: no such file"),
    Case("rank of a data set", lambda p: ["rank", p.data], "a data set or a network, expected an artefact"),
    Case("rank of a network", lambda p: ["rank", p.network, "--test-data", p.data],
         "a data set or a network, expected an artefact"),
    Case("unknown device of a rank", lambda p: ["rank", p.artefact, "--device", "abacus"], "device: 'abacus' ("),
    Case("unknown renderer", lambda p: ["view", p.artefact, "--renderer", "x"], "renderer = 'x'"),
    # numbers
    Case("both budgets", lambda p: selecting(p.data, "--bytes-per-class", 99),
        "clouds_per_class and bytes_per_class given, expected one of"),
    Case(
        "no budget",
        lambda p: ["select", "--data", p.data, "--output", "out/made.h5"],
        "no size given, expected one of clouds_per_class, bytes_per_class, bytes, ppc, ratio",
    ),
    Case(
        "budget below one cloud",
        lambda p: ["select", "--data", p.data, "--bytes-per-class", 6, "--output", "out/made.h5"],
        "bytes per class: 6, expected about",
    ),
    Case("more clouds than there are", lambda p: selecting(p.data, "--clouds-per-class", 9),
        "class 'ball' has 8 clouds"),
    Case("more points than stored", lambda p: selecting(p.data, "--points", 1025), "1025 points per cloud asked for"),
    Case("more points to convert", lambda p: ["data", "convert", p.data, "--points", 1025, "--output", "out/c.h5"],
        "1025"),
    Case("bits", lambda p: selecting(p.data, "--bits", 13), "bits: 13, expected 2 to 12"),
    Case("negative seed", lambda p: selecting(p.data, "--seed", -1),
        "seed = '-1', expected greater than or equal to 0"),
    Case("huge seed", lambda p: distilling(p, "--seed", 10**30), "seed = '1000000000000000000000000000000'"),
    Case("steps in words", lambda p: distilling(p, "--steps", "many"), "steps = 'many', expected a valid integer"),
    Case("no learning rate", lambda p: distilling(p, "--lr", 0), "lr = '0', expected greater than 0"),
    Case("infinite learning rate", lambda p: distilling(p, "--lr", "inf"), "lr = 'inf', expected a finite number"),
    Case("empty batch", lambda p: distilling(p, "--batch", 0), "batch = '0'"),
    Case("no columns", lambda p: ["view", p.artefact, "--columns", 0], "columns = '0'"),
    # outputs
    Case("output is a folder", lambda p: selecting(p.data, "--output", p.tmp), "Is a directory"),
    Case("convert to a folder", lambda p: ["data", "convert", p.data, "--output", p.tmp], "Is a directory"),
    Case("picture is a folder", lambda p: ["view", p.artefact, "--png", p.tmp, "--renderer", "builtin"],
        "expected a name that ends in .png"),
    Case("output below a file", lambda p: selecting(p.data, "--output", written(p.tmp / "file", "") / "made.h5"),
        "file: "),
    Case("no such device", lambda p: selecting(p.data, "--output", "/proc/made.h5"), "/proc/"),
    Case("no output", lambda p: ["data", "convert", p.data], "data convert: no --output"),
    Case("network of another suffix", lambda p: ["train", p.artefact, "--output", "out/net.pt"],
        "out/net.pt, expected a name"),
    Case("log is a file", lambda p: distilling(p, "--log", written(p.tmp / "log", "")), "log: "),
    # TOML
    Case("broken TOML", lambda p: toml(p, "steps = = 3"), "run.toml: not TOML"),
    Case("binary TOML", lambda p: toml(p, b"\xff\xfe\x00"), "run.toml: not TOML"),
    Case("unknown TOML key", lambda p: toml(p, "stepz = 3"),
         "run.toml: unknown option 'stepz' (did you mean 'steps'?)"),
    Case("TOML of the wrong type", lambda p: toml(p, 'batch = "64"'),
        "run.toml: batch = '64', expected a valid integer"),
    Case("missing TOML", lambda p: distilling(p, "--config", "no.toml"), "no.toml: No such file"),
    # artefacts
    artefact("other version", lambda b: b.replace(b"artefact 1\n", b"artefact 9\n", 1),
        "bad.h5: artefact of format version 9"),
    artefact("broken checksum", flipped, "bad.h5: checksum differs"),
    artefact("cut artefact", lambda b: b[: len(b) // 2], "bad.h5: checksum differs"),
    artefact("pickle as artefact", lambda b: pickle.dumps({"points": [1.0]}), "bad.h5: not an artefact"),
    Case("data as artefact", lambda p: ["show", p.data], "an HDF5 file, but no artefact"),
    Case("missing artefact", lambda p: ["show", "none.h5"], "none.h5: no such file"),
    Case("no snapshots", lambda p: ["view", p.artefact, "--initial"], "good.h5: no snapshots"),
    Case("no snapshots to move through", lambda p: ["view", p.artefact, "--evolution", "out/a.gif"],
         "good.h5: no snapshots"),
    Case("evolution of a data set", lambda p: ["view", p.data, "--evolution", "out/a.gif"],
         "tiny.h5: a data set with --evolution"),
    Case("unknown animation", lambda p: ["view", p.artefact, "--turntable", "out/a.avi"],
         "out/a.avi: an animation that ends in '.avi', expected one of .gif, .webp, .mp4"),
    Case("transparent GIF", lambda p: ["view", p.artefact, "--turntable", "out/a.gif", "--background", "transparent"],
         "out/a.gif: a transparent background in GIF"),
    Case("huge tile", lambda p: ["view", p.artefact, "--tile", 2049], "tile = '2049', expected less than or equal"),
    Case("animation of huge tiles", lambda p: ["view", p.artefact, "--turntable", "out/a.gif", "--tile", 2048],
         "tile: 48 frames of"),
    Case("start of a data set", lambda p: ["view", p.data, "--initial"], "tiny.h5: a data set with --initial"),
    # evaluation
    Case("other test classes", other_classes,
        "test set: classes ball, cube, ring, expected those of training: ball, box"),
    Case("too few test points", few_points, "test_points: 1024 of 64 stored, expected at most as many"),
    Case("set made from is not here", lambda p: ["evaluate", p.artefact],
        "good.h5: made from 'tiny.h5', which is not here"),
    Case("audit of a data set", lambda p: ["audit", p.data], "an HDF5 file, but no artefact"),
    Case("audit of nothing", lambda p: ["audit", "none.h5"], "none.h5: no such file"),
    Case("audit beside a set that is not here", lambda p: ["audit", p.artefact],
         "good.h5: made from 'tiny.h5', which is not here, expected --real with the training set"),
    Case("audit beside other classes", lambda p: ["audit", p.artefact, "--real", one_shared(p)],
         "no cloud of class 'ball', expected some of every class"),
    Case("audit beside fewer points", lambda p: ["audit", p.artefact, "--real", fewer_points(p)],
         "clouds of 8 points, expected at least 16"),
    Case("audit of another suffix",
         lambda p: ["audit", p.artefact, "--real", p.data, "--output", "out/found.csv"],
         "output: out/found.csv, expected a name that ends in .json"),
    Case("audit into a folder", lambda p: ["audit", p.artefact, "--real", p.data, "--output", folder_of_json(p)],
         "Is a directory"),
    Case("network's set is not here", moved_network, "net.safetensors: made from 'tiny.h5', which is not here"),
    Case(
        "random bytes as network",
        lambda p: ["evaluate", written(p.tmp / "bad.safetensors", np.random.default_rng(0).bytes(500))],
        "bad.safetensors: not a network of this package",
    ),
    Case(
        "pickle as network",
        lambda p: ["evaluate", written(p.tmp / "bad.safetensors", pickle.dumps({}))],
        "bad.safetensors: not a network of this package",
    ),
    weights("weights of something else",
        "bad.safetensors: format 'pt', expected 'pcdistill network 1'", {"format": "pt"}),
    weights("weights without facts", "bad.safetensors: format None", None),
    weights("half the facts", "not a network of this package ('protocol')", {"format": "pcdistill network 1"}),
    Case("missing network", lambda p: ["evaluate", "none.safetensors"], "none.safetensors: no such file"),
    Case("folder as network", folder_as_network, "bad.safetensors: no such file"),
    Case(
        "network of another kind",
        lambda p: ["evaluate", p.network, "--network", "pointnet", "--test-data", p.data],
        "good.safetensors: a trained network with --network, expected a set to train on",
    ),
]  # fmt: skip


def check(code: object, out: str, err: str, message: str, place: Place) -> None:
    assert code == 2, err
    assert out == ""
    assert err.startswith("pcdistill: error: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    assert message in err
    assert list(place.out.iterdir()) == []
    assert not [path for path in place.tmp.iterdir() if path.name.startswith(".")]


def test_there_are_cases_enough_and_none_twice() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 20


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_input_is_one_line_and_leaves_nothing(
    case: Case, place: Place, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PCDISTILL_DATA", raising=False)
    monkeypatch.setattr(places, "FINGERPRINT", re.compile("none"))  # where other tests have met the set
    words = [str(word) for word in case.make(place)]
    capfd.readouterr()
    check(main(words), *capfd.readouterr(), case.message, place)


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "pcdistill.cli", *map(str, words)]


@pytest.mark.parametrize("name", ["truncated HDF5", "broken checksum", "unknown TOML key"])
def test_bad_input_in_a_process_of_its_own(name: str, place: Place) -> None:
    case = next(case for case in CASES if case.name == name)
    words = command(*case.make(place))
    done = subprocess.run(words, capture_output=True, text=True, timeout=100, env=environment())
    check(done.returncode, done.stdout, done.stderr, case.message, place)


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPOSITORY)}


# A limit on the size of files is what a full disk looks like from inside; the numbers are KiB that still fit.
FULL: dict[str, tuple[int, Callable[[Place], list[object]]]] = {
    "select": (1, lambda p: selecting(p.data)),
    "distill": (1, lambda p: distilling(p)),
    "train": (4, lambda p: ["train", p.artefact, "--network", "pointnet-small", "--output", "out/net.safetensors"]),
    "convert": (8, lambda p: ["data", "convert", p.data, "--output", "out/made.h5"]),
    "export of a file": (4, lambda p: ["export", p.data, "--output", "out/made.npz"]),
    "export of a folder": (4, lambda p: ["export", p.data, "--output", "out/made", "--format", "ply"]),
    "view": (4, lambda p: ["view", p.artefact, "--renderer", "builtin", "--png", "out/made.png"]),
    "audit": (1, lambda p: ["audit", p.artefact, "--real", p.data, "--output", "out/made.json"]),
    "animation": (4, lambda p: ["view", p.artefact, "--renderer", "builtin", "--turntable", "out/a.gif", "--tile", 32]),
    "film": (4, lambda p: ["view", p.artefact, "--renderer", "builtin", "--turntable", "out/a.mp4", "--tile", 32]),
}


@pytest.mark.parametrize("name", FULL)
def test_a_full_disk_is_one_line_and_leaves_nothing(
    name: str, place: Place, short_recipes: None, capfd: pytest.CaptureFixture[str]
) -> None:
    resource = pytest.importorskip("resource", reason="limits of processes are POSIX")
    if name == "film":
        pytest.importorskip("av")
    size, make = FULL[name]
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    words = [str(word) for word in make(place)]
    capfd.readouterr()
    resource.setrlimit(resource.RLIMIT_FSIZE, (size << 10, usual[1]))
    try:
        code = main(words)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    check(code, *capfd.readouterr(), ": File too large", place)


def test_a_full_disk_leaves_the_old_file_alone(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    old = written(place.tmp / "made.h5", b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pcdistill.core.files.os.fsync", full)
    assert main([str(word) for word in selecting(place.data, "--output", old)]) == 2
    assert old.read_bytes() == b"old"
    assert {path.name for path in place.tmp.iterdir()} == {"made.h5", "out"}


def test_a_checkpoint_that_is_damaged_or_of_another_run(place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    checkpoint = written(place.tmp / "made.h5.checkpoint", b"\x10" * 100)
    words = [str(word) for word in distilling(place, "--resume", "--output", place.tmp / "made.h5")]
    capfd.readouterr()
    check(main(words), *capfd.readouterr(), "made.h5.checkpoint: not a readable checkpoint", place)
    save_file({"a": np.zeros(1)}, checkpoint, {"identity": "another"})
    check(main(words), *capfd.readouterr(), "checkpoint of a run with other data or settings", place)
    assert not (place.tmp / "made.h5").exists()


def test_an_artefact_whose_protocol_this_release_does_not_know(
    place: Place, tiny_clouds: PointClouds, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its checksum is right: some other release, or somebody by hand, wrote it."""
    config = Distill(data=str(place.data), output=place.tmp / "odd.h5", clouds_per_class=1, points=16,
                           objective="dm", members=1, steps=0)  # fmt: skip
    made = artefact_of(config)
    odd = type(made)(made.storage, made.metadata.model_copy(update={"protocol": {"name": "tuned", "recipe": {}}}))
    odd.save(config.output)
    capfd.readouterr()
    code = main(["evaluate", str(config.output), "--test-data", str(place.data)])
    check(code, *capfd.readouterr(), "odd.h5: metadata 'protocol': 'recipe.name' is missing", place)
    assert main(["show", str(config.output)]) == 0
