"""Expansion against permutations tried one by one, and what it must leave alone: bytes, order, what is stored."""

import importlib
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pcdistill import evaluation
from pcdistill.artefact.artefact import Artefact
from pcdistill.artefact.expansion import MOST_NUMBERS, SHARES, Expansion, expand
from pcdistill.cli import main
from pcdistill.clouds import PointClouds
from pcdistill.commands.view import View
from pcdistill.condense import make
from pcdistill.condense.plan import resolve
from pcdistill.condense.spec import SelectSpec
from pcdistill.core.errors import InputError
from pcdistill.data import load
from pcdistill.evaluation.subject import TrainingSpec, open_training
from pcdistill.geometry import assign, gather_points
from pcdistill.results.measure import measure, summed_up
from pcdistill.selection import selectors
from pcdistill.training.recipe import protocol, recipe
from tests.conftest import of_class

EVERYTHING = Expansion(interpolate=2, mixup=1, seed=3)


def some(each: int = 3, points: int = 4, classes: int = 3, seed: int = 0) -> PointClouds:
    """Random clouds, class by class."""
    values = torch.rand(classes * each, points, 3, generator=torch.Generator().manual_seed(seed)) - 0.5
    names = tuple(f"class {number}" for number in range(classes))
    return PointClouds(values, torch.arange(classes).repeat_interleave(each), names)


def softened(clouds: PointClouds) -> PointClouds:
    """The same with random probabilities, which find other classes more probable here and there."""
    random = torch.Generator().manual_seed(1)
    soft = torch.randn(len(clouds), clouds.num_classes, generator=random).softmax(1)
    return PointClouds(clouds.points, soft, clouds.class_names, classes=clouds.labels)


def naive_assignment(cloud: Tensor, other: Tensor) -> Tensor:
    """The best of all permutations."""
    cost = [[float((a - b).norm()) for b in other] for a in cloud]
    orders = itertools.permutations(range(len(other)))
    best = min(orders, key=lambda order: sum(cost[i][j] for i, j in enumerate(order)))
    return other[list(best)]


def ways(made: Tensor, clouds: PointClouds) -> list[tuple[int, int, float]]:
    """All (own, other, share) with `made = share * own + (1 - share) * other`, points paired in the naive way."""
    found = []
    for own, other in itertools.permutations(range(len(clouds)), 2):
        a = clouds.points[own]
        b = naive_assignment(a, clouds.points[other])
        share = float(((made - b) * (a - b)).sum() / (a - b).square().sum())
        if torch.allclose(made, share * a + (1 - share) * b, atol=1e-6):
            found.append((own, other, share))
    return found


def rows(cloud: Tensor) -> list[list[float]]:
    """Points as a set."""
    return sorted(cloud.tolist())


# --- pairing and interpolation


def ends(one: Tensor, two: Tensor) -> Tensor:
    """Where the points of `one` go to in `two`."""
    return gather_points(two[None], assign(two[None], one))[0]


@pytest.mark.parametrize("seed", range(5))
def test_the_assignment_is_the_best_of_all(seed: int) -> None:
    one, two = some(1, 4, 2, seed).points
    assert torch.equal(ends(one, two), naive_assignment(one, two))


def test_distances_count_not_their_squares() -> None:
    """On a line: one point moves far and one stays, or both move half as far, which squares would prefer."""
    one = torch.tensor([[0.0, 0, 0], [1.0, 0.1, 0]])
    two = torch.tensor([[1.0, 0.1, 0], [2.0, 0, 0]])
    assert torch.equal(ends(one, two), naive_assignment(one, two))
    assert torch.equal(ends(one, two), two.flip(0))


def test_interpolated_clouds_lie_between_two_of_their_class() -> None:
    clouds = some()
    made = expand(clouds, Expansion(interpolate=2))
    assert made.labels.tolist() == [0] * 9 + [1] * 9 + [2] * 9
    assert made.classes is None
    shares = []
    for label in range(3):
        part, stored = of_class(made, label), of_class(clouds, label)
        assert torch.equal(part.points[:3], stored.points)
        found = [ways(cloud, stored) for cloud in part.points[3:]]
        # With three clouds and two partners each, everybody meets everybody.
        assert [pairs[0][0] for pairs in found] == [0, 0, 1, 1, 2, 2]
        assert {(own, other) for pairs in found for own, other, _ in pairs} == set(itertools.permutations(range(3), 2))
        shares += [pairs[0][2] for pairs in found]
    assert len({round(share, 4) for share in shares}) == len(shares)
    assert all(SHARES[0] - 1e-5 <= share <= SHARES[1] + 1e-5 for share in shares)
    assert min(shares) < 0.45
    assert max(shares) > 0.55


def test_the_order_of_points_does_not_matter_to_the_set() -> None:
    clouds = some(points=12)
    random = torch.Generator().manual_seed(0)
    shuffled = torch.stack([cloud[torch.randperm(12, generator=random)] for cloud in clouds.points])
    for expansion in (Expansion(interpolate=2), Expansion(mixup=2)):
        first, second = expand(clouds, expansion), expand(clouds.with_points(shuffled), expansion)
        for one, two in zip(first.points, second.points, strict=True):
            assert np.allclose(rows(one), rows(two), atol=1e-6)


def test_soft_labels_are_interpolated_with_the_clouds() -> None:
    clouds = softened(some())
    made = expand(clouds, Expansion(interpolate=1))
    assert made.classes is not None
    assert made.classes.tolist() == [0] * 6 + [1] * 6 + [2] * 6
    for place in (3, 10, 17):
        label = place // 6
        own, other, share = ways(made.points[place], of_class(clouds, label))[0]
        stored = of_class(clouds, label).labels
        torch.testing.assert_close(made.labels[place], share * stored[own] + (1 - share) * stored[other])


def test_a_cloud_alone_in_its_class_has_no_partner() -> None:
    clouds = some()[[0, 1, 2, 3]]  # three of class 0, one of class 1, none of class 2
    made = expand(clouds, Expansion(interpolate=2))
    assert made.class_counts.tolist() == [3 + 6, 1, 0]
    assert len(expand(some(each=1), Expansion(interpolate=3))) == 3
    assert len(expand(some(classes=1), Expansion(mixup=2))) == 3


# --- mixing


def test_mixed_labels_are_in_the_proportion_of_the_clouds() -> None:
    clouds = some(each=2)
    made = expand(clouds, Expansion(mixup=3))
    assert made.labels.shape == (24, 3)
    assert made.classes is not None
    assert made.classes.tolist() == [0] * 8 + [1] * 8 + [2] * 8
    for label in range(3):
        part = of_class(made, label)
        hard = torch.nn.functional.one_hot(torch.tensor([label, label]), 3).float()
        assert torch.equal(part.labels[:2], hard)
        for cloud, soft in zip(part.points[2:], part.labels[2:], strict=True):
            expected = []
            for own, other, share in ways(cloud, clouds):
                expected.append(torch.zeros(3))
                expected[-1][int(clouds.labels[own])] += share
                expected[-1][int(clouds.labels[other])] += 1 - share
            assert any(torch.allclose(soft, one, atol=1e-5) for one in expected)
            assert (soft > 0.25).sum() == 2
            assert soft[label] > 0.25


def test_soft_labels_are_mixed() -> None:
    clouds = softened(some(each=2))
    made = expand(clouds, Expansion(mixup=1))
    own, other, share = ways(made.points[2], clouds)[0]
    assert clouds.hard_labels[own] != clouds.hard_labels[other]
    torch.testing.assert_close(made.labels[2], share * clouds.labels[own] + (1 - share) * clouds.labels[other])


# --- all together


def test_nothing_gives_the_clouds_themselves() -> None:
    for clouds in (some(), softened(some())):
        assert expand(clouds, Expansion()) is clouds
        assert expand(clouds, Expansion(seed=9)) is clouds


@pytest.mark.parametrize("soft", [False, True])
def test_everything_at_once(soft: bool) -> None:
    clouds = softened(some(points=8)) if soft else some(points=8)
    before = clouds.fingerprint()
    made = expand(clouds, EVERYTHING)
    assert EVERYTHING.times == 4
    assert made.points.shape == (9 * 4, 8, 3)
    assert made.hard_labels.tolist() == [label for label in range(3) for _ in range(12)]
    assert made.labels.shape == (9 * 4, 3)
    assert (made.class_names, dict(made.provenance)) == (clouds.class_names, dict(clouds.provenance))
    for label in range(3):
        assert torch.equal(of_class(made, label).points[:3], of_class(clouds, label).points)
        if soft:
            assert torch.equal(of_class(made, label).labels[:3], of_class(clouds, label).labels)
    assert clouds.fingerprint() == before


def test_the_seed_decides_and_nothing_else() -> None:
    clouds = some(points=8)
    torch.manual_seed(0)
    first = expand(clouds, EVERYTHING)
    torch.manual_seed(1)
    assert expand(clouds, EVERYTHING).fingerprint() == first.fingerprint()
    for one in ({"interpolate": 1}, {"mixup": 1}):
        assert expand(clouds, Expansion(**one)).fingerprint() == expand(clouds, Expansion(**one)).fingerprint()
        other = expand(clouds, Expansion(**one, seed=1))
        assert other.fingerprint() != expand(clouds, Expansion(**one)).fingerprint()


def test_one_kind_of_draw_leaves_the_others_alone() -> None:
    clouds = some()
    few = expand(clouds, Expansion(interpolate=1))
    more = expand(clouds, Expansion(interpolate=1, mixup=1))
    for label in range(3):
        assert torch.equal(of_class(more, label).points[:6], of_class(few, label).points)


def test_clouds_in_any_order_come_out_class_by_class() -> None:
    clouds = some()[[8, 0, 3, 1, 4]]
    made = expand(clouds, Expansion(interpolate=1))
    assert made.labels.tolist() == [0] * 4 + [1] * 4 + [2]
    assert torch.equal(made.points[[0, 1, 4, 5, 8]], clouds.points[[1, 3, 2, 4, 0]])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mixup": 3, "interpolate": 61}, r"e: makes 65 clouds of one, expected at most 64"),
        ({"mixup": 10**3000}, r"e: mixup = 1\S*, expected less than 64"),
        ({"mixup": None}, r"e: mixup = None, expected a valid integer"),
        ({"x" * 5000: 1}, r"e: unknown option 'x{80}'"),
        ({"seed": 2**32}, r"e: seed = 4294967296, expected less than 4294967296"),
    ],
)
def test_expansions_that_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}$"):
        Expansion.checked(values, "e")


def test_what_clouds_cannot_become() -> None:
    large = some(each=1, points=4097)
    for way in ({"interpolate": 1}, {"mixup": 1}):
        with pytest.raises(InputError, match=r"^expansion: clouds of 4097 points to pair, expected at most 4096$"):
            expand(large, Expansion(**way))
    Expansion(interpolate=1).check(2**13, 4096, 1)
    with pytest.raises(
        InputError, match=rf"^expansion: \d+ coordinates and labels .*, expected at most {MOST_NUMBERS}$"
    ):
        Expansion(interpolate=3).check(2**13, 4096, 1)
    with pytest.raises(InputError, match=r"coordinates and labels"):
        Expansion(mixup=1).check(2**14, 1, 2**14)
    Expansion().check(2**40, 1, 1)


# --- artefacts


def selected(real: PointClouds, each: int = 2, expansion: Expansion | None = None) -> Artefact:
    """Random clouds of every class, of 16 points at 8 bits, expanded."""
    expand = {} if expansion is None else expansion.model_dump()
    spec = SelectSpec(clouds_per_class=each, points=16, bits=8, method="random", expand=expand)
    return make.select(real, resolve(spec))


def test_an_expansion_costs_no_bytes(tiny_clouds: PointClouds, tmp_path: Path) -> None:
    plain, more = (selected(tiny_clouds, expansion=expansion) for expansion in (None, EVERYTHING))
    assert (more.storage.nbytes, more.bytes_per_class) == (plain.storage.nbytes, plain.bytes_per_class)
    for name, made in (("plain", plain), ("more", more)):
        made.save(tmp_path / name)
    first, second = plain.sizes(tmp_path / "plain"), more.sizes(tmp_path / "more")
    assert second.training_bytes == first.training_bytes == 3 * 96
    assert second.overhead_bytes - first.overhead_bytes < 200  # the name of what is made
    loaded = Artefact.load(tmp_path / "more")
    assert loaded.expansion == EVERYTHING
    assert loaded.training_clouds.fingerprint() == expand(plain.clouds, EVERYTHING).fingerprint()
    assert loaded.clouds.fingerprint() == plain.clouds.fingerprint()
    assert plain.expansion is None
    assert plain.training_clouds.fingerprint() == plain.clouds.fingerprint()


def test_files_from_before_there_were_any(tiny_clouds: PointClouds, tmp_path: Path) -> None:
    """A file without the key loads, and is written without it: as it was."""
    made = selected(tiny_clouds)
    assert "expansion" not in json.loads(made.metadata.to_json())
    made.save(tmp_path / "a.h5")
    loaded = Artefact.load(tmp_path / "a.h5")
    assert loaded.metadata.expansion is None
    assert loaded.to_bytes() == (tmp_path / "a.h5").read_bytes()


def test_options_of_earlier_releases_may_make_nothing(tiny_clouds: PointClouds, tmp_path: Path) -> None:
    """A file may name what is gone as long as it does not ask for it; what it says is left as it is."""
    made = selected(tiny_clouds, expansion=Expansion(interpolate=2, seed=4))
    facts = {"mirror": False, "jitter": 0, **(made.metadata.expansion or {}), "views": 0, "densify": 0}
    object.__setattr__(made, "metadata", made.metadata.model_copy(update={"expansion": facts}))
    made.save(tmp_path / "a.h5")
    loaded = Artefact.load(tmp_path / "a.h5")
    assert loaded.expansion == Expansion(interpolate=2, seed=4)
    assert loaded.metadata.expansion == facts
    assert torch.equal(loaded.training_clouds.points, made.training_clouds.points)


@pytest.mark.parametrize(
    ("expansion", "found"),
    [
        ({"mixap": 1}, r"unknown option 'mixap' \(did you mean 'mixup'\?\)"),
        ({"mirror": True}, r"unknown option 'mirror'"),
        ({"mixup": True}, r"mixup = True, expected a valid integer"),
        ({"mixup": 2.0}, r"mixup = 2\.0, expected a valid integer"),
        ({"mixup": 10**18}, r"mixup = 1000000000000000000, expected less than 64"),
        ({"interpolate": 63, "mixup": 63}, r"makes 127 clouds of one, expected at most 64"),
    ],
)
def test_a_file_cannot_ask_for_anything(
    expansion: dict[str, Any], found: str, tiny_clouds: PointClouds, tmp_path: Path
) -> None:
    made = selected(tiny_clouds)
    evil = made.metadata.model_copy(update={"expansion": expansion})
    with pytest.raises(InputError, match=rf"^metadata 'expansion': {found}$"):
        Artefact(made.storage, evil)
    object.__setattr__(made, "metadata", evil)  # as somebody with a writer of their own could
    made.save(tmp_path / "a.h5")
    with pytest.raises(InputError, match=rf"^{tmp_path}/a\.h5: metadata 'expansion': {found}$"):
        Artefact.load(tmp_path / "a.h5")


def test_a_small_file_cannot_ask_for_much(
    tiny_clouds: PointClouds, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Within the bounds of each option, but too much altogether."""
    made = selected(tiny_clouds, 8, Expansion(interpolate=63))
    made.save(tmp_path / "a.h5")
    monkeypatch.setattr("pcdistill.artefact.expansion.MOST_NUMBERS", 24 * 64 * (3 * 16 + 3) - 1)
    with pytest.raises(InputError, match=r"a\.h5: metadata 'expansion': 78336 coordinates .*, expected at most 78335$"):
        Artefact.load(tmp_path / "a.h5")


# --- the commands


def command(*words: object) -> None:
    assert main([str(word) for word in words]) == 0


@pytest.mark.parametrize("method", list(selectors))
def test_every_selection_through_the_command_line(
    method: str, tiny_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.h5"
    size = ("--data", tiny_file, "--clouds-per-class", 2, "--points", 16, "--method", method)
    command("select", *size, "--output", tmp_path / "plain.h5")
    command("select", *size, "--output", path, "--seed", 5, "--expand", "interpolate=1", "mixup=1")
    assert capsys.readouterr().out.count("96 bytes per class") == 2
    made = Artefact.load(path)
    expected = Expansion(interpolate=1, mixup=1, seed=5)
    assert made.expansion == expected
    assert made.metadata.expansion == expected.model_dump()
    assert made.training_clouds.class_counts.tolist() == [6, 6, 6]
    training = open_training(TrainingSpec(source=str(path)))
    assert torch.equal(training.training_clouds.points, made.training_clouds.points)
    assert torch.equal(View(source=str(path)).exhibit().clouds.points, made.clouds.points)
    command("show", path)
    assert '  expansion  {"interpolate": 1, "mixup": 1, ' in capsys.readouterr().out
    command("show", tmp_path / "plain.h5")
    assert "expansion" not in capsys.readouterr().out


def test_a_distilled_set_is_trained_on_expanded(
    tiny_file: Path, tmp_path: Path, short_recipes: None, capsys: pytest.CaptureFixture[str]
) -> None:
    path, network = tmp_path / "a.h5", ("--network", "pointnet-small")
    few = ("--clouds-per-class", 2, "--points", 16, "--objective", "dm", "--members", 1, "--steps", 2)
    command("distill", "--data", tiny_file, *few, "--output", path, "--expand", "interpolate=1")
    made = Artefact.load(path)
    assert made.bytes_per_class == 96
    assert made.training_clouds.points.shape == (12, 16, 3)
    capsys.readouterr()
    command("evaluate", path, "--test-data", tiny_file, "--train-seeds", 1, *network, "--json")
    found = json.loads(capsys.readouterr().out)["runs"][0]["accuracy"]
    test = load(tiny_file, "test")
    plan = protocol("tuned", network="pointnet-small")
    assert evaluation.evaluate(made.training_clouds, test, plan, seeds=[0]).accuracies == [found]
    run = measure(made, test, plan, 0, 1)
    assert (run.accuracy, run.points, run.bytes_per_class) == ([found], 16, 96)
    assert run.expansion == made.metadata.expansion
    record = summed_up("some", "tiny", plan, [run], "command", "commit")
    assert record.expansion == {"interpolate": 1, "mixup": 0}
    plain = summed_up("some", "tiny", plan, [run.model_copy(update={"expansion": None})], "command", "commit")
    assert "expansion" not in plain.model_dump()
    command("train", path, "--output", tmp_path / "net.safetensors", *network)


def test_what_is_trained_on_is_expanded(tiny_clouds: PointClouds, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clouds that reach the loop are those of `training_clouds`, not those stored."""
    seen: list[str] = []
    module = importlib.import_module("pcdistill.evaluation.evaluate")  # the package has the function of that name
    real: Callable[..., Any] = module.train_networks

    def watched(name: str, clouds: PointClouds, *more: Any) -> Any:
        seen.append(clouds.fingerprint())
        return real(name, clouds, *more)

    monkeypatch.setattr(module, "train_networks", watched)
    made = selected(tiny_clouds, expansion=Expansion(mixup=1))
    plan = protocol("tuned", network="pointnet-small", test_points=64)
    plan = plan.model_copy(update={"recipe": recipe("tuned", steps=2)})
    run = measure(made, tiny_clouds, plan, 0, 1)
    assert seen == [made.training_clouds.fingerprint()] != [made.clouds.fingerprint()]
    assert run.points == 16


@pytest.mark.parametrize("name", ["select", "distill"])
def test_bad_expansions_end_a_command_with_one_line(
    name: str, tiny_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [name, "--data", tiny_file, "--clouds-per-class", 1, "--points", 16, "--output", tmp_path / "a.h5"]
    assert main([*map(str, words), "--expand", "mixap=1"]) == 2
    assert capsys.readouterr().err == ("pcdistill: error: expand: unknown option 'mixap' (did you mean 'mixup'?)\n")
    assert list(tmp_path.iterdir()) == []
