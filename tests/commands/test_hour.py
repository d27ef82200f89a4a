"""The engineer's hour, through the command line: a folder of own scans and meshes becomes a network on a device.

Names have blanks, scans 210 to 3,500 points, and nothing stands upright.
"""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from pcdistill.cli import main
from pcdistill.data.procedural.solids import Array, ball, box, cone, moved, sample, tube
from pcdistill.geometry import random_rotations

SCANS, MESHES = 76, 224


def part(name: str, random: np.random.Generator) -> Array:
    """Triangles `(T, 3, 3)` of an object of a class, each in other proportions."""
    size = random.uniform(0.8, 1.25)
    if name == "base plate":
        return box(3 * size, 2, 0.15)
    if name == "bolt M8":
        return np.concatenate([box(0.8 * size, 0.8, 0.4), moved(box(0.3, 0.3 * size, 2), (0, 0, 0.4))])
    if name == "bracket, L":
        return np.concatenate([box(2 * size, 1, 0.2), moved(box(0.2, 1, 2), (size, 0, 0))])
    if name == "Kugel groß":
        return ball((size, size, size), (0, 0, 0))
    if name == "pipe bend":
        return tube([(0, 0, 0), (0, 0, 2 * size), (1.5, 0, 2.5 * size)], 0.25)
    return cone(1, 0.1, 1.2 * size)


CLASSES = ("base plate", "bolt M8", "bracket, L", "cone", "Kugel groß", "pipe bend")


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`my parts`, a folder per class of 300 files in all."""
    folder = tmp_path_factory.mktemp("hour") / "my parts"
    random = np.random.default_rng(0)
    turns = random_rotations(SCANS + MESHES, torch.Generator().manual_seed(0), axis=None).double().numpy()
    sizes = np.linspace(210, 3500, SCANS).round().astype(int)
    for number, turn in enumerate(turns):
        name = CLASSES[number % len(CLASSES)]
        triangles = part(name, random) @ turn.T * random.uniform(1, 900)
        (folder / name).mkdir(parents=True, exist_ok=True)
        stem = folder / name / f"{name} ({number})"
        if number < SCANS:
            save_scan(stem, sample([triangles], int(sizes[number]), random), number)
        else:
            save_mesh(stem, triangles, number)
    (folder / "cone" / "notes.docx").write_text("measured in June")
    return folder


def save_scan(stem: Path, points: Array, number: int) -> None:
    """As one scanner or another writes them."""
    if number % 3 == 0:
        np.savetxt(f"{stem}.xyz", points, fmt="%.4f")
    elif number % 3 == 1:
        np.savetxt(f"{stem}.csv", points, fmt="%.4f", delimiter=";", header="x;y;z", comments="")
    else:
        head = f"ply\nformat ascii 1.0\nelement vertex {len(points)}\n"
        head += "".join(f"property float {axis}\n" for axis in "xyz") + "end_header"
        np.savetxt(f"{stem}.PLY", points, fmt="%.4f", header=head, comments="")


def save_mesh(stem: Path, triangles: Array, number: int) -> None:
    """As one program or another writes them."""
    if number % 2:
        record = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("rest", "<u2")])
        facets = np.zeros(len(triangles), record)
        facets["corners"] = triangles
        Path(f"{stem}.STL").write_bytes(bytes(80) + np.uint32(len(facets)).tobytes() + facets.tobytes())
        return
    corners = "".join(f"v {x:.5f} {y:.5f} {z:.5f}\n" for x, y, z in triangles.reshape(-1, 3))
    faces = "".join(f"f {3 * face + 1} {3 * face + 2} {3 * face + 3}\n" for face in range(len(triangles)))
    Path(f"{stem}.obj").write_text(corners + faces)


def test_the_hour(
    parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PCDISTILL_CACHE", str(tmp_path / "cache"))

    def said(*words: object) -> str:
        code = main([str(word) for word in words])
        shown = capsys.readouterr()
        assert code == 0, shown.err
        return shown.out

    checked = said("data", "check", parts)
    assert re.search(r"clouds of \d+ to 3500 points", checked)
    assert "no objects, left out: 1 .docx" in checked
    assert "turned in every way: train with --rotate so3" in checked
    assert checked.endswith("nothing wrong\n")
    training = ("--student", "nano", "--points", 256, "--train-steps", 120)
    said("train", parts, "--rotate", "so3", *training, "--output", "student.safetensors")
    exported = said("export", "student.safetensors", "--int8", "--training-set", parts, "--output", "student.onnx")
    assert "int8" in exported
    # Neither the flag nor the folder here: where it was read is remembered.
    accuracy = float(re.search(r"^accuracy +([\d.]+) %", said("evaluate", "student.onnx"), re.M)[1])  # type: ignore[index]
    assert accuracy > 50
    files = [file for file in (parts / "cone").iterdir() if file.suffix != ".docx"]
    guesses = json.loads(said("predict", "student.onnx", *files, "--json"))["guesses"]
    assert len(guesses) == 50
    assert sum(next(iter(guess["probabilities"])) == "cone" for guess in guesses) > 25
