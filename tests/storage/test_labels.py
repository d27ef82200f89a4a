"""Soft labels: their bytes, their gradient, every storage that keeps them, and files that are not to be trusted."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pcdistill.artefact.artefact import Artefact
from pcdistill.clouds import PointClouds
from pcdistill.core.errors import InputError
from pcdistill.storage import Budget, SoftStorage, Storage, storages
from pcdistill.storage.label_coding import encode_levels
from pcdistill.storage.labels import BYTES, CODED, FEW, ROUNDINGS, Rounding, smoothed
from pcdistill.storage.points import StoredPoints
from pcdistill.training.losses import FLOOR

SOFT = [storages[name] for name in storages if storages[name].soften is not Storage.soften]
BY_BYTES, BY_LEVELS = ROUNDINGS[BYTES], ROUNDINGS[CODED]
both = pytest.mark.parametrize("rounding", [BY_BYTES, BY_LEVELS], ids=["bytes", "levels"])
every_soft = pytest.mark.parametrize("kind", SOFT, ids=[kind.name for kind in SOFT])


def probabilities(clouds: int, classes: int, seed: int = 0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(clouds, classes, generator=random)).softmax(1)


def softened(kind: type[Storage], clouds: PointClouds, *, learn: bool = False, seed: int = 0) -> Storage:
    each = len(clouds) // clouds.num_classes
    storage = kind.from_clouds(clouds, Budget(each, clouds.points_per_cloud, side=8 if kind.dense else 0))
    storage.soften(probabilities(len(clouds), clouds.num_classes, seed), learn=learn)
    return storage


# Codes


def test_points_and_rotated_keep_them() -> None:
    assert {"points", "rotated"} <= {kind.name for kind in SOFT}


def test_codes_are_shares_of_the_largest() -> None:
    """By hand: 255 * 0.2 / 0.5 = 102; decoded, the codes over their sum."""
    found = BY_BYTES.codes(BY_BYTES.logits(torch.tensor([[0.5, 0.3, 0.2], [0.0, 1.0, 0.0]])))
    assert found.dtype == torch.uint8
    assert found.tolist() == [[255, 153, 102], [0, 255, 0]]
    expected = [[255 / 510, 153 / 510, 102 / 510], [0, 1, 0]]
    torch.testing.assert_close(BY_BYTES.probabilities(found), torch.tensor(expected))


def test_levels_are_roots_of_shares_of_the_largest() -> None:
    """By hand: 15 * sqrt(0.2 / 0.5) = 9.49; decoded, squares over their sum."""
    found = BY_LEVELS.codes(BY_LEVELS.logits(torch.tensor([[0.5, 0.3, 0.2], [0.001, 0.999, 0.0]])))
    assert found.dtype == torch.uint8
    assert found.tolist() == [[15, 12, 9], [0, 15, 0]]
    expected = [[225 / 450, 144 / 450, 81 / 450], [0, 1, 0]]
    torch.testing.assert_close(BY_LEVELS.probabilities(found), torch.tensor(expected))


@both
@given(st.lists(st.integers(0, 255), min_size=1, max_size=50), st.integers(0, 49))
def test_any_codes_come_back(rounding: Rounding, codes: list[int], at: int) -> None:
    codes = [code % (rounding.top + 1) for code in codes]
    codes[at % len(codes)] = rounding.top
    row = torch.tensor([codes], dtype=torch.uint8)
    assert torch.equal(rounding.codes(rounding.restored(row.numpy())), row)
    assert torch.equal(rounding.codes(rounding.logits(rounding.probabilities(row))), row)


@both
@given(st.integers(1, 60), st.integers(0, 2**32))
def test_what_is_decoded_is_near(rounding: Rounding, classes: int, seed: int) -> None:
    """Half a step of the share, or of its root, away; the sum of a cloud's may be as wrong as all of them."""
    exact = probabilities(4, classes, seed)
    found = rounding.probabilities(rounding.codes(rounding.logits(exact)))
    largest = exact.amax(1, keepdim=True)
    step = 1 / 509 if rounding.power == 1 else (1 + 0.25 / 15) / 15
    assert ((found - exact).abs() <= largest * (1 + classes) * step).all()
    torch.testing.assert_close(found.sum(1), torch.ones(4))


@both
def test_logits_of_any_size_have_codes(rounding: Rounding) -> None:
    top = rounding.top
    found = rounding.codes(torch.tensor([[1e30, -1e30, 0.0], [-500.0, -500.0, -900.0]]))
    assert found.tolist() == [[top, 0, 0], [top, top, 0]]


def test_the_loss_between_logits_puts_zeros_below_all_that_is_kept() -> None:
    """`losses.FLOOR` stands for a code of 0, which must not be likelier than a code of 1, and round to 0."""
    for rounding in ROUNDINGS.values():
        least = torch.tensor([[float(rounding.top), 1.0]]) ** rounding.power
        assert (least[0, 1] / least[0, 0]).item() > FLOOR
        assert rounding.codes(rounding.logits(torch.tensor([[1.0, FLOOR]]))).tolist() == [[rounding.top, 0]]


@both
def test_gradient_is_that_of_the_softmax(rounding: Rounding) -> None:
    logits = torch.randn(5, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64).requires_grad_()
    weights = torch.rand(5, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    (found,) = torch.autograd.grad((rounding.through(logits) * weights).sum(), logits)
    exact = logits.detach().softmax(1)
    expected = exact * (weights - (exact * weights).sum(1, keepdim=True))  # the Jacobian of the softmax
    torch.testing.assert_close(found, expected)
    with torch.no_grad():
        stored = rounding.through(logits)
    assert torch.equal(stored, rounding.through(logits).detach())
    assert torch.equal(stored, rounding.probabilities(rounding.codes(logits)).double())


def test_smoothed_classes() -> None:
    found = smoothed(torch.tensor([2, 0]), 3, 0.9)
    torch.testing.assert_close(found, torch.tensor([[0.05, 0.05, 0.9], [0.9, 0.05, 0.05]]))
    assert smoothed(torch.zeros(2, dtype=torch.int64), 1, 0.9).tolist() == [[1.0], [1.0]]


# Storages


@every_soft
def test_arrays_bring_soft_labels_back(kind: type[Storage], random_clouds: Callable[..., PointClouds]) -> None:
    storage = softened(kind, random_clouds(3, 4, 10))
    arrays, layout = storage.arrays(), storage.layout()
    coded = issubclass(kind, SoftStorage) and kind.codes_labels
    assert layout["soft_labels"] == 1 + coded
    assert (arrays["labels"].dtype, arrays["labels"].ndim) == (np.uint8, 1 if coded else 2)
    again = kind.from_arrays(arrays, layout, storage.class_names)
    with torch.no_grad():
        before, after = storage.decode(), again.decode()
    assert before.labels.shape == (12, 3)
    assert before.labels.numpy().tobytes() == after.labels.numpy().tobytes()
    assert torch.equal(before.points, after.points)
    assert again.layout() == layout
    assert {name: array.tobytes() for name, array in again.arrays().items()} == {
        name: array.tobytes() for name, array in arrays.items()
    }
    assert (before.labels - probabilities(12, 3)).abs().max() < (0.05 if coded else 0.01)


def test_coded_labels_of_many_classes_use_every_third_level(random_clouds: Callable[..., PointClouds]) -> None:
    """By hand: 5 * sqrt(0.35 / 0.4) = 4.68, so 5, and three times that. Finer ones of older files stay as they are."""
    clouds = random_clouds(FEW + 1, 2, 10)
    storage = storages["coded"].from_clouds(clouds, Budget(2, 10))
    rest = [0.0] * (FEW - 2)
    storage.soften(torch.tensor([[0.4, 0.35, 0.25, *rest]]).expand(len(clouds), FEW + 1))
    assert storage.decode().labels[0].tolist() == pytest.approx([225 / 594, 225 / 594, 144 / 594, *rest])
    older = np.tile([15, 11, 1, *[0] * (FEW - 2)], (len(clouds), 1))
    arrays = {**storage.arrays(), "labels": encode_levels(older, storage.labels.numpy())}
    again = storages["coded"].from_arrays(arrays, storage.layout(), storage.class_names)
    assert again.decode().labels[0].tolist() == pytest.approx([225 / 347, 121 / 347, 1 / 347, *rest])
    assert again.arrays()["labels"].tobytes() == arrays["labels"].tobytes()


@every_soft
def test_classes_stay_whatever_the_soft_labels_say(
    kind: type[Storage], random_clouds: Callable[..., PointClouds]
) -> None:
    storage = softened(kind, random_clouds(3, 4, 10))
    assert storage.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    decoded = storage.decode()
    assert decoded.labels.argmax(1).tolist() != storage.labels.tolist() == decoded.hard_labels.tolist()
    index = torch.tensor([7, 0, 3, 11])
    assert storage.decode(index).hard_labels.tolist() == [1, 0, 0, 2]
    assert torch.equal(storage.decode(index).labels, storage.decode().labels[index])


@every_soft
def test_soft_labels_are_counted(kind: type[Storage], random_clouds: Callable[..., PointClouds]) -> None:
    storage = softened(kind, random_clouds(3, 4, 10), learn=True)  # what is learned is never coded
    hard = kind.from_clouds(random_clouds(3, 4, 10), Budget(4, 10, side=8 if kind.dense else 0))
    assert storage.nbytes == sum(array.nbytes for array in storage.arrays().values())
    assert storage.nbytes == hard.nbytes + 3 * len(storage)


@every_soft
def test_only_labels_to_be_learned_are(kind: type[Storage], random_clouds: Callable[..., PointClouds]) -> None:
    clouds = random_clouds(3, 2, 10)
    fixed, learned = softened(kind, clouds), softened(kind, clouds, learn=True)
    assert "labels" not in fixed.learned()
    assert not fixed.decode().labels.requires_grad
    logits = learned.learned()["labels"]
    assert logits.is_leaf
    assert (logits.dtype, logits.shape) == (torch.float32, (6, 3))
    assert learned.pace["labels"] == 10
    assert (learned.decode().labels.detach() - fixed.decode().labels).abs().max() < 0.05
    (gradient,) = torch.autograd.grad(learned.decode().labels[:, 0].square().sum(), logits)
    exact = logits.detach().softmax(1)
    stored = learned.decode().labels.detach()[:, :1]
    expected = 2 * stored * exact[:, :1] * (torch.tensor([1.0, 0, 0]) - exact)
    torch.testing.assert_close(gradient, expected)
    learned.soften(probabilities(6, 3, seed=9))
    assert "labels" not in learned.learned()


@every_soft
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.full((6, 2), 0.5), r"^soft labels: shape \(6, 2\), expected \(6, 3\)$"),
        (torch.zeros(6), r"^soft labels: shape \(6,\)"),
        (torch.zeros(6, 3), "^soft labels: soft label 0 is not a distribution"),
        (torch.full((6, 3), torch.nan), "^soft labels: soft label 0 is not a distribution"),
    ],
)
def test_what_is_no_soft_label(
    kind: type[Storage], labels: Tensor, message: str, random_clouds: Callable[..., PointClouds]
) -> None:
    storage = softened(kind, random_clouds(3, 2, 10))
    with pytest.raises(InputError, match=message):
        storage.soften(labels)


def test_a_storage_may_keep_hard_labels_only(random_clouds: Callable[..., PointClouds]) -> None:
    class Hard(StoredPoints):
        name = "hard"
        soften = Storage.soften

    storage = Hard.from_clouds(random_clouds(3, 2, 10), Budget(2, 10))
    with pytest.raises(InputError, match=r"^storage hard: soft labels, expected hard ones"):
        storage.soften(probabilities(6, 3))


# Files


@pytest.fixture
def soft_artefact(make_artefact: Callable[..., Artefact]) -> Callable[..., Artefact]:
    def make(kind: type[Storage] = StoredPoints) -> Artefact:
        made = make_artefact()
        storage = softened(kind, made.clouds, learn=True)
        changes = {"storage": kind.name, "layout": storage.layout(), "bits": storage.layout()["bits"]}
        return Artefact(storage, made.metadata.model_copy(update=changes), made.losses, made.snapshots)

    return make


@every_soft
def test_a_file_gives_soft_labels_back(
    kind: type[Storage], soft_artefact: Callable[..., Artefact], tmp_path: Path
) -> None:
    made = soft_artefact(kind)
    made.save(tmp_path / "a.h5")
    loaded = Artefact.load(tmp_path / "a.h5")
    assert loaded.to_bytes() == made.to_bytes()
    assert torch.equal(loaded.clouds.labels, made.clouds.labels)
    assert loaded.clouds.labels.shape == (6, 3)
    assert loaded.bytes_per_class == made.bytes_per_class
    if kind.name in ("points", "rotated"):
        assert loaded.bytes_per_class == 2 * loaded.budget.cloud_bytes == 2 * (30 + 3 + kind.side_bytes)
    with h5py.File(tmp_path / "a.h5") as file:
        stored = sum(data.id.get_storage_size() for data in file["arrays"].values())
    assert made.sizes(tmp_path / "a.h5").training_bytes == stored == made.storage.nbytes


def test_hard_files_say_nothing_of_them(make_artefact: Callable[..., Artefact]) -> None:
    made = make_artefact()
    assert made.storage.layout() == {"bits": 8, "points": 10}
    assert set(made.storage.arrays()) == {"codes"}
    assert b"soft_labels" not in made.to_bytes()


def changed(path: Path, sealed: Callable[..., bytes], change: Callable[[h5py.File], object]) -> None:
    with h5py.File(path, "r+") as file:
        change(file)
    path.write_bytes(sealed(path.read_bytes()[512:]))


def refuses(path: Path, found: str) -> None:
    with pytest.raises(InputError) as caught:
        Artefact.load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert found in str(caught.value)


def replaced(name: str, data: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[name]
        if data is not None:
            file.create_dataset(name, data=data)

    return change


GOOD = np.full((6, 3), 255, np.uint8)


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (None, "labels: missing, expected uint8 of shape (6, 3)"),
        (GOOD.astype(np.int8), "labels: int8 of shape (6, 3), expected uint8"),
        (GOOD.astype(np.float32), "labels: float32 of shape (6, 3)"),
        (GOOD[:, :2], "labels: uint8 of shape (6, 2)"),
        (GOOD[:5], "labels: uint8 of shape (5, 3)"),
        (GOOD[0], "labels: uint8 of shape (3,)"),
        (np.diag(range(250, 256))[:, :3].astype(np.uint8), "labels: largest code 250 of cloud 0, expected 255"),
        (GOOD * (np.arange(6) != 4).astype(np.uint8)[:, None], "labels: largest code 0 of cloud 4, expected 255"),
    ],
    ids=["missing", "int8", "float", "classes", "clouds", "flat", "small", "zero"],
)
@every_soft
def test_labels_that_are_not_to_be_trusted(
    kind: type[Storage],
    data: Any,
    found: str,
    soft_artefact: Callable[..., Artefact],
    sealed: Callable[..., bytes],
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.h5"
    soft_artefact(kind).save(path)
    changed(path, sealed, replaced("arrays/labels", data))
    refuses(path, found)


@pytest.mark.parametrize(
    ("new", "found"),
    [
        (
            "views",
            "layout 'label_views': 2, labels of each cloud, expected one label a cloud (pcdistill 0.1 reads several)",
        ),
        ("0", "layout 'soft_labels': 0, expected 1, or no such field"),
        ("2", "layout 'soft_labels': 2"),
        ("true", "metadata: layout.soft_labels = True, expected a valid integer"),
        (None, "arrays: ['codes', 'labels'], expected ['codes'] for storage 'points'"),
    ],
)
def test_a_layout_of_other_labels(
    new: str | None, found: str, soft_artefact: Callable[..., Artefact], sealed: Callable[..., bytes], tmp_path: Path
) -> None:
    def change(file: h5py.File) -> None:
        facts = json.loads(file["metadata"][()])
        del facts["layout"]["soft_labels"]
        if new == "views":
            facts["layout"] |= {"soft_labels": 2, "label_views": 2}
        elif new is not None:
            facts["layout"]["soft_labels"] = json.loads(new)
        text = json.dumps(facts).encode()
        del file["metadata"]
        file.create_dataset("metadata", data=np.bytes_(text), dtype=h5py.string_dtype("utf-8", len(text)))

    path = tmp_path / "a.h5"
    soft_artefact().save(path)
    changed(path, sealed, change)
    refuses(path, found)
