"""docs/format.md: what it says is true and its programs run, without this package."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import constriction
import numpy as np
import pytest
import torch

from pcdistill.artefact.artefact import Artefact
from pcdistill.artefact.metadata import Metadata
from pcdistill.clouds import PartNames, PointClouds
from pcdistill.storage import Budget, storages

DOCUMENT = (Path(__file__).parents[2] / "docs" / "format.md").read_text()
SNIPPETS = dict(re.findall(r"<!-- tested: (\w+) -->\n```python\n(.*?)```", DOCUMENT, flags=re.DOTALL))


def run(snippet: str, *arguments: Path) -> str:
    """Output of a program of the document, run where `pcdistill` cannot be imported."""
    program = "import sys\nsys.modules['pcdistill'] = None\n" + SNIPPETS[snippet]
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


@pytest.fixture
def saved(make_artefact: Callable[..., Artefact], tmp_path: Path) -> Path:
    path = tmp_path / "a.h5"
    make_artefact(classes=3, each=4, points=20).save(path)
    return path


def test_the_verifier(saved: Path) -> None:
    assert run("verify", saved) == "intact"
    content = saved.read_bytes()
    for damaged in (
        content[:-1],
        content[:3000] + bytes([content[3000] ^ 1]) + content[3001:],
        content.replace(b"artefact 1", b"artefact 2"),
        content[:200] + b"x" + content[201:],
    ):
        saved.write_bytes(damaged)
        assert run("verify", saved) == "damaged"


def test_the_decoder(saved: Path, tmp_path: Path) -> None:
    run("decode", saved, tmp_path / "clouds.npz")
    clouds = Artefact.load(saved).clouds
    with np.load(tmp_path / "clouds.npz", allow_pickle=False) as decoded:
        assert decoded["points"].dtype == np.float32
        assert decoded["points"].tobytes() == clouds.points.numpy().tobytes()
        assert decoded["labels"].tolist() == clouds.labels.tolist()
        assert tuple(decoded["class_names"]) == clouds.class_names


def test_the_decoder_of_soft_labels(make_artefact: Callable[..., Artefact], tmp_path: Path) -> None:
    made = make_artefact(classes=3, each=4, points=20)
    soft = torch.rand(12, 3, generator=torch.Generator().manual_seed(0)).softmax(1)
    made.storage.soften(soft)
    facts = made.metadata.model_copy(update={"layout": made.storage.layout()})
    Artefact(made.storage, facts).save(tmp_path / "a.h5")
    run("decode", tmp_path / "a.h5", tmp_path / "clouds.npz")
    with np.load(tmp_path / "clouds.npz", allow_pickle=False) as decoded:
        assert decoded["labels"].dtype == np.float32
        assert decoded["labels"].tobytes() == Artefact.load(tmp_path / "a.h5").clouds.labels.numpy().tobytes()


def uneven(
    make_artefact: Callable[..., Artefact], kind: str, counts: tuple[int, ...], points: int, bits: int, side: int = 0
) -> Artefact:
    """Clouds on spheres of a size for every class, `counts` of them; in grids of `side` cells, of 300 points each."""
    random = torch.Generator().manual_seed(bits)
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    rays = torch.randn(len(labels), 300 if side else points, 3, generator=random)
    rays = torch.nn.functional.normalize(rays, dim=2)
    names = tuple(f"class {number}" for number in range(len(counts)))
    clouds = PointClouds(rays * (0.5 + 0.5 * labels / len(counts))[:, None, None], labels, names)
    storage = storages[kind].from_clouds(clouds, Budget(counts, points, bits, side=side))
    facts = make_artefact(classes=len(counts)).metadata.model_copy(
        update={
            "storage": kind, "layout": storage.layout(), "clouds_per_class": len(labels) / len(counts),
            "points": points, "bits": bits,
        }
    )  # fmt: skip
    return Artefact(storage, facts)


def check_decoded(name: str, artefact: Path, output: Path) -> None:
    """The program of a storage gives the clouds bit for bit as the package reads them."""
    run(name, artefact, output)
    clouds = Artefact.load(artefact).clouds
    with np.load(output, allow_pickle=False) as decoded:
        assert decoded["points"].dtype == np.float32
        assert decoded["points"].tobytes() == clouds.points.numpy().tobytes()
        assert decoded["labels"].tolist() == clouds.labels.tolist()
        assert tuple(decoded["class_names"]) == clouds.class_names


@pytest.mark.parametrize(
    ("counts", "points", "bits"), [((5, 5, 5), 40, 6), ((1, 21, 4), 33, 2), ((3, 1), 130, 12), ((2,), 1, 5)]
)
def test_the_decoder_of_coded_sets(
    make_artefact: Callable[..., Artefact], tmp_path: Path, counts: tuple[int, ...], points: int, bits: int
) -> None:
    uneven(make_artefact, "coded", counts, points, bits).save(tmp_path / "a.h5")
    check_decoded("coded", tmp_path / "a.h5", tmp_path / "clouds.npz")


@pytest.mark.parametrize(
    ("counts", "points", "side"), [((3, 50, 1), 40, 9), ((2, 5), 300, 14), ((2, 5), 40, 14), ((2, 2), 1, 4)]
)
def test_the_decoder_of_voxels(
    make_artefact: Callable[..., Artefact], tmp_path: Path, counts: tuple[int, ...], points: int, side: int
) -> None:
    """In one level and in two, over blocks of all sizes; more points than cells, and fewer."""
    made = uneven(make_artefact, "voxels", counts, points, (side - 1).bit_length(), side)
    cells = made.storage.grids.counts()
    assert cells.max() < points or points < cells.min()
    made.save(tmp_path / "a.h5")
    check_decoded("voxels", tmp_path / "a.h5", tmp_path / "clouds.npz")


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("points", ((0, 1), (2, 3, 4), (1, 4))),
        ("coded", ((0, 1), (2,), (0, 1, 3, 4, 5))),
        ("voxels", ((3,), (0, 2, 4), (1, 4))),
    ],
)
def test_the_decoder_of_parts(
    make_artefact: Callable[..., Artefact], tmp_path: Path, kind: str, names: tuple[tuple[int, ...], ...]
) -> None:
    """Labels that follow from places but for a tenth; several points of a cell, more of a class than a block."""
    random = torch.Generator().manual_seed(3)
    counts = torch.tensor([2, 33, 4])
    classes = torch.arange(3).repeat_interleave(counts)
    points = 0.8 * torch.nn.functional.normalize(torch.randn(39, 60, 3, generator=random), dim=2)
    parts = torch.empty(39, 60, dtype=torch.int64)
    for cloud, label in enumerate(classes.tolist()):
        own, bands = torch.tensor(names[label]), (points[cloud, :, 2] * 2 + 2).long()
        noise = torch.rand(60, generator=random) < 0.1
        parts[cloud] = own[(bands + noise) % len(own)]
    named = PartNames(tuple("abcdef"[: max(map(max, names)) + 1]), names)
    clouds = PointClouds(points, classes, ("x", "y", "z"), parts=parts, part_names=named)
    budget = Budget(tuple(counts.tolist()), 60, 8, side=9 if kind == "voxels" else 0)
    storage = storages[kind].from_clouds(clouds, budget)
    facts = make_artefact(classes=3).metadata.model_copy(
        update={
            "storage": kind, "layout": storage.layout(), "clouds_per_class": 13.0, "points": 60,
            "bits": storage.layout()["bits"], "class_names": clouds.class_names, "parts": named.facts(),
        }
    )  # fmt: skip
    path = tmp_path / "a.h5"
    Artefact(storage, facts).save(path)
    run({"points": "decode"}.get(kind, kind), path, tmp_path / "clouds.npz")
    run("parts", path, tmp_path / "clouds.npz", tmp_path / "parts.npz")
    expected = Artefact.load(path).clouds
    assert expected.parts is not None
    with np.load(tmp_path / "parts.npz", allow_pickle=False) as decoded:
        assert decoded["parts"].tolist() == expected.parts.tolist()
        assert tuple(decoded["part_names"]) == named.names


@pytest.mark.parametrize("counts", [(5, 5, 5), (1, 21, 4), (2,)])
def test_the_decoder_of_coded_labels(
    make_artefact: Callable[..., Artefact], tmp_path: Path, counts: tuple[int, ...]
) -> None:
    made = uneven(make_artefact, "coded", counts, 20, 6)
    shape = (sum(counts), len(counts))
    made.storage.soften((3 * torch.randn(shape, generator=torch.Generator().manual_seed(0))).softmax(-1))
    facts = made.metadata.model_copy(update={"layout": made.storage.layout()})
    Artefact(made.storage, facts).save(tmp_path / "a.h5")
    run("labels", tmp_path / "a.h5", tmp_path / "clouds.npz")
    expected = Artefact.load(tmp_path / "a.h5").clouds.labels
    with np.load(tmp_path / "clouds.npz", allow_pickle=False) as decoded:
        assert decoded["labels"].dtype == np.float32
        assert decoded["labels"].tobytes() == expected.contiguous().numpy().tobytes()


def test_the_decoder_of_classes_that_differ(make_artefact: Callable[..., Artefact], tmp_path: Path) -> None:
    uneven(make_artefact, "points", (1, 3, 4), 20, 8).save(tmp_path / "a.h5")
    run("decode", tmp_path / "a.h5", tmp_path / "clouds.npz")
    clouds = Artefact.load(tmp_path / "a.h5").clouds
    with np.load(tmp_path / "clouds.npz", allow_pickle=False) as decoded:
        assert decoded["labels"].tolist() == clouds.labels.tolist() == [0, 1, 1, 1, 2, 2, 2, 2]
        assert decoded["points"].tobytes() == clouds.points.numpy().tobytes()


def ranged(words: list[int], weights: np.ndarray) -> list[int]:
    """Symbols of a stream as the document says that the range coder works, in whole numbers."""
    following = iter([*words, *[0] * (len(weights) + 2)])
    top, low, width, found = 2**64, 0, 2**64 - 1, []
    point = next(following) << 32 | next(following)
    for row in weights.tolist():
        sums = [0.0]
        for weight in row:
            sums.append(sums[-1] + weight)
        scale = (2**24 - len(row)) / sums[-1]
        starts = [int(part * scale) + number for number, part in enumerate(sums[:-1])] + [2**24]
        unit = width >> 24
        place = (point - low) % top // unit
        symbol = max(number for number in range(len(row)) if starts[number] <= place)
        found.append(symbol)
        low, width = (low + unit * starts[symbol]) % top, unit * (starts[symbol + 1] - starts[symbol])
        if width < 2**32:
            low, width, point = (low << 32) % top, width << 32, (point << 32) % top | next(following)
    return found


def test_the_range_coder_is_the_one_described() -> None:
    random = np.random.default_rng(0)
    weights = random.random((300, 9)) ** 6
    weights[:100, 5:] = 0  # symbols that cannot be
    symbols = np.array([random.choice(9, p=row / row.sum()) for row in weights], np.int32)
    coder = constriction.stream.queue.RangeEncoder()
    coder.encode(symbols, constriction.stream.model.Categorical(perfect=False), weights)
    assert ranged(coder.get_compressed().tolist(), weights) == symbols.tolist()


def test_every_key_of_the_metadata_is_described() -> None:
    table = DOCUMENT.split("## Metadata")[1].split("## ")[0]
    described = re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (`.*?) \|", table, flags=re.MULTILINE)))
    assert described == list(Metadata.model_fields)
