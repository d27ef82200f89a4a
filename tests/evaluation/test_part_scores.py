"""Scores of labelled points against ShapeNetPart's definition, written out cloud by cloud in plain Python."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import pcdistill as pcd
from pcdistill.clouds import PartNames, PointClouds
from pcdistill.core.errors import InputError
from pcdistill.data.procedural import shapes
from pcdistill.evaluation import score
from pcdistill.evaluation.part_scores import guessed, shape_ious
from pcdistill.models import Output, Segmenter, build
from pcdistill.results.measure import measure, summed_up
from pcdistill.results.record import Record
from pcdistill.training.loop import told_some
from pcdistill.training.loop import train as fit
from pcdistill.training.recipe import protocol
from pcdistill.training.trained import load_network, save_network

NAMES = PartNames(("a", "b", "c", "d", "e"), ((0, 1), (2, 3, 4), (1, 4)))


def reference(guesses: np.ndarray, parts: np.ndarray, classes: np.ndarray) -> tuple[float, dict[str, float]]:
    """Instance mIoU and that of every class as in the benchmark's evaluation script: loops over shapes and parts."""
    shape_ious: dict[int, list[float]] = {}
    for guess, truth, label in zip(guesses, parts, classes, strict=True):
        part_ious = []
        for part in NAMES.of_class[label]:
            if np.sum(truth == part) == 0 and np.sum(guess == part) == 0:
                part_ious.append(1.0)  # not there, and not said to be
            else:
                both = np.sum((truth == part) & (guess == part))
                part_ious.append(both / float(np.sum((truth == part) | (guess == part))))
        shape_ious.setdefault(int(label), []).append(float(np.mean(part_ious)))
    everything = [iou for own in shape_ious.values() for iou in own]
    return float(np.mean(everything)), {"xyz"[label]: float(np.mean(own)) for label, own in shape_ious.items()}


class Fixed(Segmenter):
    """Says what it is told to, whatever the points are; those of a cloud know it by the cloud's first coordinate."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__(3)
        self.logits = logits

    def forward(self, points: Tensor, classes: Tensor | None = None) -> Output:
        return Output(self.logits[points[:, 0, 0].long()], points[:, 0])


@settings(max_examples=40)
@given(seed=st.integers(0, 2**16), few=st.booleans())
def test_scores_are_those_of_the_benchmark(seed: int, few: bool) -> None:
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, 3, 7)
    parts = np.stack([rng.choice(NAMES.of_class[label][: 1 if few else 3], 9) for label in classes])
    logits = torch.from_numpy(rng.normal(size=(7, 9, 5)))
    points = torch.arange(7.0)[:, None, None].expand(7, 9, 3)
    test = PointClouds(
        points, torch.from_numpy(classes), ("x", "y", "z"), parts=torch.from_numpy(parts), part_names=NAMES
    )
    found = score(Fixed(logits), test)
    allowed = [NAMES.of_class[label] for label in classes]
    guesses = np.array(
        [[own[int(logits[i, j, list(own)].argmax())] for j in range(9)] for i, own in enumerate(allowed)]
    )
    assert torch.equal(guessed(Fixed(logits), points, test.labels, NAMES)[0], torch.from_numpy(guesses))
    instance, by_class = reference(guesses, parts, classes)
    assert found.instance_miou == pytest.approx(instance, abs=1e-12)
    assert found.class_ious == pytest.approx(by_class, abs=1e-12)
    assert found.class_miou == pytest.approx(np.mean(list(by_class.values())), abs=1e-12)
    assert found.accuracy == pytest.approx((guesses == parts).mean())
    recalls = [(guesses[parts == part] == part).mean() for part in np.unique(parts)]
    assert found.class_accuracy == pytest.approx(np.mean(recalls))
    assert np.sum(found.confusion) == parts.size
    assert found.confusion[int(parts[0, 0])][int(guesses[0, 0])] > 0


def test_a_part_that_is_nowhere_counts_as_one() -> None:
    parts = torch.zeros(1, 4, dtype=torch.int64)
    assert shape_ious(parts, parts, torch.tensor([0]), NAMES).tolist() == [1.0]
    wrong = torch.tensor([[0, 0, 0, 1]])
    assert shape_ious(wrong, parts, torch.tensor([0]), NAMES).tolist() == [(3 / 4 + 0) / 2]


@pytest.fixture(scope="module")
def sets() -> tuple[PointClouds, PointClouds]:
    two = [4, 8]  # desks and sofas
    kept = []
    for split in ("train", "test"):
        clouds = shapes.generate(split, 6, 64, parts=True)
        some = clouds[torch.isin(clouds.labels, torch.tensor(two))]
        assert some.part_names is not None
        labels = torch.searchsorted(torch.tensor(two), some.labels)
        own = some.part_names.of_classes(two)
        numbers = [shapes.PART_NAMES.names.index(name) for name in own.names]
        parts = torch.searchsorted(torch.tensor(numbers), some.parts) if numbers == sorted(numbers) else None
        assert parts is not None
        names = tuple(clouds.class_names[label] for label in two)
        kept.append(PointClouds(some.points, labels, names, {"name": split}, parts=parts, part_names=own))
    return kept[0], kept[1]


def test_train_and_evaluate_know_the_task_from_the_data(sets: tuple[PointClouds, PointClouds], tmp_path: Path) -> None:
    train, test = sets
    plan = protocol("tuned", test_points=64).changed(steps=25).using("pointnet-tiny")
    found = pcd.evaluate(train, test, plan, seeds=1)
    assert found.class_names == train.part_names.names
    assert found.runs[0].instance_miou > 0.4  # far from chance, of 10 parts and 5
    made = pcd.train(train, plan)
    assert made.protocol.network == "pointnet-tiny-seg"
    save_network(tmp_path / "net.safetensors", made)
    again = load_network(tmp_path / "net.safetensors")
    assert again.part_names == train.part_names
    with torch.no_grad():
        assert torch.equal(again.network(test.points).logits, made.network(test.points).logits)
    with pytest.raises(InputError, match="teacher: of a set whose points have parts"):
        pcd.evaluate(train, test, plan, supervision=SimpleNamespace(follows=False))
    with pytest.raises(InputError, match="test set: points without parts, expected those of training"):
        pcd.evaluate(train, test.without_parts(), plan)


def test_records_carry_mious(sets: tuple[PointClouds, PointClouds]) -> None:
    train, test = sets
    plan = protocol("tuned", test_points=64).changed(steps=2).using("pointnet-tiny")
    run = measure(train, test, plan, 0, 2)
    record = summed_up("parts", "two", plan, [run], "command", "commit")
    assert len(record.class_miou) == len(record.instance_miou) == 2
    assert record.class_miou_mean == pytest.approx(np.mean(record.class_miou))
    assert [np.mean([one[name] for name in train.class_names]) for one in record.class_ious] == record.class_miou
    assert record.instance_miou_std == pytest.approx(np.std(record.instance_miou, ddof=1))
    assert record.network == "pointnet-tiny-seg"
    assert record.right == []
    assert record.class_names == list(train.part_names.names)
    assert record.bytes_per_class == train.points.numel() // 3 * 13 / 2
    line = json.loads(json.dumps(record.model_dump()))
    assert Record.model_validate(line) == record


def test_networks_and_sets_of_two_kinds_are_refused(sets: tuple[PointClouds, PointClouds]) -> None:
    train, _ = sets
    recipe = protocol("tuned").changed(steps=1).recipe
    with pytest.raises(InputError, match="training set: points with parts, expected what the network was made for"):
        fit(build("pointnet-tiny", 2, 0), train, recipe, 0)
    with pytest.raises(InputError, match="training set: points without parts"):
        fit(build("pointnet-tiny-seg", 2, 0, 13), train.without_parts(), recipe, 0)


def test_every_fourth_cloud_is_trained_on_without_its_class() -> None:
    assert told_some(torch.tensor([1, 0, 1, 1, 0]), 2).tolist() == [[0, 1], [1, 0], [0, 1], [0, 0], [1, 0]]
