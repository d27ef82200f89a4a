"""The coder of soft labels: lossless, as short as its model promises, the same everywhere, and safe to read."""

import math
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pcdistill.artefact.artefact import Artefact
from pcdistill.clouds import PointClouds
from pcdistill.core.errors import InputError
from pcdistill.storage import Budget
from pcdistill.storage.coded import CodedPoints
from pcdistill.storage.coding import POINTS_PER_BYTE
from pcdistill.storage.label_coding import EDGES, decode_levels, encode_levels

Levels = np.ndarray


def confident(each: int, classes: int, seed: int = 0) -> tuple[Levels, Levels]:
    """Levels as a teacher's are: the own class at the top, a few likely neighbours, the others zero."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), each)
    away = (np.arange(classes) - labels[:, None]) % classes
    doubt = random.gamma(1.0, 5.0, (len(labels), 1))
    levels = np.minimum(14, random.poisson(doubt * 2.0 ** -np.minimum(away, 20)))
    levels[away == 0] = 15
    return levels, labels


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_levels_come_back(classes: list[int], names: int, seed: int) -> None:
    labels = np.sort(np.array(classes) % names)
    levels = np.random.default_rng(seed).integers(0, 16, (len(labels), names))
    stream = encode_levels(levels, labels)
    assert (stream.dtype, stream.ndim, len(stream) % 4) == (np.uint8, 1, 0)
    assert (decode_levels(stream, labels, names) == levels).all()


def test_a_sure_teacher_takes_few_bytes() -> None:
    """Far fewer than half a byte per class, and fewer than levels without a model would."""
    levels, labels = confident(30, 10)
    shares = np.bincount(levels.ravel()) / levels.size
    alone = -sum(share * math.log2(share) for share in shares if share) * 10 / 8
    each = len(encode_levels(levels, labels)) / len(labels)
    assert each < 0.85 * alone < 0.5 * 10 / 2
    noise = np.random.default_rng(1).integers(0, 16, levels.shape)
    assert 5.0 < len(encode_levels(noise, labels)) / len(labels) < 5.5  # nothing to learn: little is lost


def test_lengths_are_those_of_the_model() -> None:
    """Its probabilities one level after the other, in plain Python."""
    levels, labels = confident(31, 6)
    streamed = 8 * len(encode_levels(levels, labels))
    assert expected_bits(levels.tolist(), labels.tolist()) == pytest.approx(streamed, abs=40)


def expected_bits(levels: list[list[int]], labels: list[int]) -> float:
    names, total = len(levels[0]), 0.0
    tables = [[0] * 16 for _ in range(len(EDGES) + 1)]
    known: list[int] = []
    for first, last in ((0, 1), (1, 3), (3, 7), (7, 15), (15, 23), (23, 31)):  # of the 31 clouds of every class
        block = [cloud for cloud in range(len(labels)) if first <= cloud % 31 < last]
        states = {cloud: [2.0, 2.0] for cloud in block}
        others = [levels[cloud][name] for cloud in known for name in range(names) if name != labels[cloud]]
        for turn in range(names):
            new = []
            for cloud in block:
                own = labels[cloud]
                name = (own + turn) % names
                same = [levels[one][name] for one in known if labels[one] == own]
                prior = 15 if turn == 0 else (1 + sum(others)) / (1 + len(others))
                mean = (sum(same) + prior / 2) / (len(same) + 0.5)
                wanted = min(15.0, mean * states[cloud][0] / states[cloud][1])
                table = sum(edge <= wanted for edge in EDGES)
                spread = 0.05 + wanted / 2
                weights = [tables[table][k] + 4 / (1 + (k - wanted) ** 2 / spread) for k in range(16)]
                level = levels[cloud][name]
                total -= math.log2(weights[level] / sum(weights))
                new.append((table, level))
                if turn:
                    states[cloud] = [states[cloud][0] + level, states[cloud][1] + mean]
            for table, level in new:
                tables[table][level] += 1
        known += block
    return total


def test_a_stream_is_the_same_on_every_machine() -> None:
    """Written once; whoever changes the model has to give such labels a new number."""
    levels = np.arange(6 * 5).reshape(6, 5) * 7919 % 101 % 16
    assert encode_levels(levels, np.array([0, 1, 1, 2, 3, 4])).tobytes().hex() == GOLDEN


GOLDEN = "cb2da400ab2beade0f6765cbd5d8e8771bb87051"


def test_no_bytes_do_harm() -> None:
    """Cut, changed and random streams: levels of the right shape and range, or one error."""
    random = np.random.default_rng(0)
    levels, labels = confident(5, 7)
    good = encode_levels(levels, labels)
    refused = 0
    for trial in range(300):
        if trial % 3 == 0:
            stream = random.integers(0, 256, 4 * random.integers(0, 40), dtype=np.uint8)
        else:
            stream = good[: 4 * random.integers(len(good) // 4 + 1)].copy() if trial % 3 == 1 else good.copy()
            if len(stream):
                stream[random.integers(len(stream), size=3)] ^= random.integers(1, 256, 3, dtype=np.uint8)
        try:
            found = decode_levels(stream, labels, 7)
        except InputError:
            refused += 1
            continue
        assert found.shape == levels.shape
        assert found.min() >= 0
        assert found.max() < 16
    assert 0 < refused < 300


def test_a_stream_bounds_what_a_reader_allocates() -> None:
    levels, labels = np.zeros((400, 40), np.int64), np.repeat(np.arange(40), 10)
    levels[np.arange(400), labels] = 15
    stream = encode_levels(levels, labels)
    assert len(stream) >= 400 * 40 / POINTS_PER_BYTE
    tracemalloc.start()
    with pytest.raises(InputError, match=r"^labels: .* bytes for 400 clouds of 1000000 classes, expected whole words"):
        decode_levels(stream, labels, 10**6)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10**6
    with pytest.raises(InputError, match="whole words"):
        decode_levels(stream[:-1], labels, 40)


# In files


@pytest.fixture
def labelled(make_artefact: Callable[..., Artefact], tmp_path: Path) -> Artefact:
    """Six coded clouds of three classes with fixed soft labels, in `a.h5`."""
    made = make_artefact()
    storage = CodedPoints.from_clouds(made.clouds, Budget(2, 10, 8))
    random = torch.Generator().manual_seed(0)
    storage.soften((3 * torch.randn(6, 3, generator=random)).softmax(1))
    facts = made.metadata.model_copy(update={"storage": "coded", "layout": storage.layout()})
    artefact = Artefact(storage, facts)
    artefact.save(tmp_path / "a.h5")
    return artefact


def test_a_file_gives_coded_labels_back(labelled: Artefact, tmp_path: Path) -> None:
    loaded = Artefact.load(tmp_path / "a.h5")
    assert loaded.metadata.layout["soft_labels"] == 2
    assert loaded.to_bytes() == labelled.to_bytes()
    assert torch.equal(loaded.clouds.labels, labelled.clouds.labels)
    assert loaded.storage.nbytes == sum(array.nbytes for array in loaded.storage.arrays().values())


def test_a_file_whose_labels_are_bytes_is_read_as_before(
    make_artefact: Callable[..., Artefact], tmp_path: Path
) -> None:
    """As coded sets were written when they kept a byte per class: the same file comes out again."""
    made = make_artefact()
    storage = CodedPoints.from_clouds(made.clouds, Budget(2, 10, 8))
    storage.soften(torch.eye(3).repeat_interleave(2, 0) * 0.7 + 0.1, learn=True)
    facts = made.metadata.model_copy(update={"storage": "coded", "layout": storage.layout()})
    Artefact(storage, facts).save(tmp_path / "a.h5")
    loaded = Artefact.load(tmp_path / "a.h5")
    assert (loaded.metadata.layout["soft_labels"], loaded.storage.arrays()["labels"].shape) == (1, (6, 3))
    assert loaded.to_bytes() == (tmp_path / "a.h5").read_bytes()
    kept = loaded.storage.kept(torch.tensor([0, 2, 4]))
    assert kept.layout()["soft_labels"] == 1
    torch.testing.assert_close(loaded.clouds.labels[0], torch.tensor([0.8, 0.1, 0.1]), atol=2e-3, rtol=0)


def test_some_coded_labels_are_kept(labelled: Artefact) -> None:
    index = torch.tensor([0, 3, 5])
    kept = labelled.storage.kept(index)
    assert kept.layout()["soft_labels"] == 2
    with torch.no_grad():
        assert torch.equal(kept.decode().labels, labelled.clouds.labels[index])


WHOLE = np.full((6, 3), 15)
CLASSES = np.repeat(np.arange(3), 2)


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (None, "labels: missing, expected uint8 of one dimension"),
        (np.zeros(8, np.int8), "labels: int8 of shape (8,), expected uint8 of one dimension"),
        (np.full((6, 3), 255, np.uint8), "labels: uint8 of shape (6, 3), expected uint8 of one dimension"),
        (np.zeros(0, np.uint8), "labels: 0 bytes for 6 clouds of 3 classes, expected whole words"),
        (np.zeros(5, np.uint8), "labels: 5 bytes for 6 clouds"),
        (encode_levels(np.where(np.arange(6)[:, None] == 4, 14, WHOLE), CLASSES), "largest code 14 of cloud 4"),
        (np.pad(encode_levels(WHOLE, CLASSES), (0, 4)), "arrays/labels: values that no encoder writes"),
    ],
    ids=["missing", "int8", "bytes", "empty", "no words", "no top", "longer"],
)
def test_coded_labels_that_are_not_to_be_trusted(
    data: Levels | None, found: str, labelled: Artefact, sealed: Callable[..., bytes], tmp_path: Path
) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "r+") as file:
        del file["arrays/labels"]
        if data is not None:
            file.create_dataset("arrays/labels", data=data)
    path.write_bytes(sealed(path.read_bytes()[512:]))
    with pytest.raises(InputError, match=r"^[^\n]*$") as caught:
        Artefact.load(path)
    assert found in str(caught.value)


@pytest.mark.parametrize("kind", [0, 3, -1, True, 2.0])
def test_other_kinds_of_labels_are_refused(kind: object, random_clouds: Callable[..., PointClouds]) -> None:
    storage = CodedPoints.from_clouds(random_clouds(3, 2, 10), Budget(2, 10, 8))
    with pytest.raises(InputError, match=r"^layout 'soft_labels': .*, expected 1 or 2, or no such field"):
        CodedPoints.from_arrays(storage.arrays(), storage.layout() | {"soft_labels": kind}, storage.class_names)  # type: ignore[dict-item]
