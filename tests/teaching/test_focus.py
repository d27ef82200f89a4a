"""Weights of real clouds: how often they are drawn, what they leave alone, and a student's losses as weights."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch.nn.functional import cross_entropy

from pcdistill.artefact.artefact import Artefact
from pcdistill.cli import main
from pcdistill.clouds import PointClouds, Weighted, uniform, weights_of
from pcdistill.condense import distill
from pcdistill.condense.loop import Follower, Interrupted
from pcdistill.core.errors import InputError
from pcdistill.data import load
from pcdistill.matching import Bank
from pcdistill.matching.draws import random_clouds
from pcdistill.matching.experts import _pass
from pcdistill.matching.gathering import BankRequest
from pcdistill.models import build
from pcdistill.teaching import Focus, Teacher
from pcdistill.training.recipe import protocol
from pcdistill.training.trained import Trained, save_network


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def student(clouds: PointClouds, names: tuple[str, ...] | None = None, points: int | None = None) -> Trained:
    names = clouds.class_names if names is None else names
    network = build("pointnet-tiny", len(names), 0).eval()
    return Trained(network, names, protocol("tuned", "pointnet-tiny", 64), "tiny", points, 0)


def bank_config(**changes: object) -> BankRequest:
    given = {"network": "pointnet-tiny", "networks": 1, "trained_steps": (0, 0), "points": 16, "pooled_points": 16,
             "pooled_samples": 3, "quantiles": 4}  # fmt: skip
    return BankRequest(**{**given, **changes})


def first_drawn(weights: torch.Tensor, clouds: PointClouds) -> torch.Tensor:
    """How often each of the eight clouds of class 0 is the one that is drawn, of 4000 draws."""
    real, found = Weighted(clouds, weights), torch.zeros(8)
    source = generator()
    for _ in range(4000):
        points, _ = random_clouds(real, [0], 1, source)
        found[(clouds.points[:8] == points).all(2).all(1)] += 1
    return found


def test_clouds_are_drawn_as_often_as_their_weights_say(tiny_clouds: PointClouds) -> None:
    weights = torch.ones(len(tiny_clouds))
    weights[:8] = torch.tensor([0.0, 1, 2, 3, 4, 5, 6, 11])
    found = first_drawn(weights, tiny_clouds)
    assert found[0] == 0
    assert found.sum() == 4000
    assert chisquare(found[1:].numpy(), 4000 * weights[1:8].numpy() / 32).pvalue > 0.01
    assert chisquare(found[1:].numpy()).pvalue < 1e-6  # and the test can tell


def test_clouds_without_weight_are_left_out_even_where_there_are_few_others(tiny_clouds: PointClouds) -> None:
    weights = torch.zeros(24)
    weights[[1, 5, 9, 17]] = torch.tensor([1.0, 2, 1, 1])
    points, labels = random_clouds(Weighted(tiny_clouds, weights), range(3), 4, generator())
    assert labels.tolist() == [0, 0, 1, 2]
    assert torch.equal(points, tiny_clouds.points[[1, 5, 9, 17]])


def test_experts_draw_over_all_classes(tiny_clouds: PointClouds) -> None:
    weights = torch.arange(len(tiny_clouds)).double()
    source = generator()
    drawn = torch.cat([_pass(Weighted(tiny_clouds, weights), source) for _ in range(300)])
    found = torch.bincount(drawn, minlength=len(weights)).double()
    assert found[0] == 0
    assert chisquare(found[1:].numpy(), (weights[1:] / weights.sum() * len(drawn)).numpy()).pvalue > 0.01
    equal, plain = (_pass(real, generator()) for real in (Weighted(tiny_clouds, torch.ones(24)), tiny_clouds))
    assert torch.equal(equal, plain)


def test_equal_weights_in_a_class_are_none(tiny_clouds: PointClouds) -> None:
    weights = 1.0 + tiny_clouds.labels
    for seed in range(5):
        one, _ = random_clouds(Weighted(tiny_clouds, weights), range(3), 4, generator(seed))
        other, _ = random_clouds(tiny_clouds, range(3), 4, generator(seed))
        assert torch.equal(one, other)
    for quantiles in (0, 4):
        config = bank_config(quantiles=quantiles)
        (one,), (other,) = (Bank.of(real, config).members for real in (Weighted(tiny_clouds, weights), tiny_clouds))
        assert torch.equal(one.pooled_mean, other.pooled_mean)
        assert all(torch.equal(left, right) for left, right in zip(one.profiles, other.profiles, strict=True))


def test_means_of_classes_are_weighted_and_networks_are_not(tiny_clouds: PointClouds) -> None:
    weights = torch.rand(24, generator=generator()) + 0.1
    config = bank_config(networks=2, trained_steps=(2, 3))
    weighted, plain = (Bank.of(real, config) for real in (Weighted(tiny_clouds, weights), tiny_clouds))
    for one, other in zip(weighted.members, plain.members, strict=True):
        left, right = (made.network.state_dict() for made in (one, other))
        assert all(torch.equal(value, right[name]) for name, value in left.items())
        with torch.no_grad():
            pooled = one.network(tiny_clouds.points[:, :16]).global_feature
        for label in range(3):
            own = tiny_clouds.labels == label
            expected = (weights[own, None] * pooled[own]).sum(0) / weights[own].sum()
            torch.testing.assert_close(one.pooled_mean[label], expected, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(one.pooled_mean, other.pooled_mean)


def test_what_is_cached_depends_on_the_weights(tiny_clouds: PointClouds) -> None:
    weights = torch.ones(24)
    other = weights.clone()
    other[3] = 2
    prints = {
        real.fingerprint() for real in (tiny_clouds, Weighted(tiny_clouds, weights), Weighted(tiny_clouds, other))
    }
    assert len(prints) == 3
    assert uniform(Weighted(tiny_clouds, other)) is tiny_clouds
    assert uniform(tiny_clouds) is tiny_clouds
    assert weights_of(tiny_clouds) is None


@given(st.floats(0.1, 1e6), st.integers(0, 9))
@settings(max_examples=20, deadline=None)
def test_only_the_ratios_of_weights_matter(scale: float, seed: int) -> None:
    clouds = PointClouds(torch.randn(12, 4, 3, generator=generator()) / 4, torch.arange(12) % 2, ("a", "b"))
    weights = torch.rand(12, generator=generator(seed), dtype=torch.float64)
    one, other = (random_clouds(Weighted(clouds, w), [0, 1], 3, generator(seed)) for w in (weights, scale * weights))
    assert torch.equal(one[0], other[0])


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (torch.ones(5), r"shape \(5,\)"),
        (-torch.ones(24), "-1.0 of cloud 0"),
        (torch.full((24,), torch.nan), "nan of cloud 0"),
        ((torch.arange(24) >= 8).float(), "none above 0 in class"),
    ],
)
def test_bad_weights(bad: torch.Tensor, said: str, tiny_clouds: PointClouds) -> None:
    with pytest.raises(InputError, match=said):
        Weighted(tiny_clouds, bad)


def test_losses_are_those_of_the_student(tiny_clouds: PointClouds) -> None:
    trained = student(tiny_clouds)
    focus = Focus(Teacher((trained,), ("net",), ("0",), 1.0))
    with torch.no_grad():
        expected = torch.stack([
            cross_entropy(trained.network(cloud[None, :64]).logits, label[None])
            for cloud, label in zip(tiny_clouds.points, tiny_clouds.labels, strict=True)
        ])  # fmt: skip
    torch.testing.assert_close(focus.losses(tiny_clouds), expected, rtol=1e-4, atol=1e-5)
    weights = focus.on(tiny_clouds).weights
    torch.testing.assert_close(weights, (0.5 + 0.5 * expected / expected.mean()).double(), rtol=1e-4, atol=1e-5)
    order = torch.randperm(24, generator=generator())
    torch.testing.assert_close(focus.losses(tiny_clouds[order]), expected[order], rtol=1e-4, atol=1e-5)


def test_a_student_sees_as_many_points_as_it_was_trained_on(tiny_clouds: PointClouds) -> None:
    few = Focus(Teacher((student(tiny_clouds, points=16),), ("net",), ("0",), 1.0)).losses(tiny_clouds)
    many = Focus(Teacher((student(tiny_clouds),), ("net",), ("0",), 1.0)).losses(tiny_clouds)
    assert not torch.allclose(few, many)


SMALL: dict[str, dict[str, Any]] = {
    "krr": {"members": 1, "options": {"bank": {"pooled_samples": 3}}},
    "quantile": {"members": 1, "options": {"bank": {"quantiles": 4}}},
    "gm": {"members": 1, "options": {"bank": {"pooled_samples": 3}}},
    "dc": {"options": {"outer": 1, "real_clouds": 3}},
    "tm": {
        "members": 1,
        "options": {"start": (0, 1), "length": 1, "student_steps": 2, "bank": {"steps": 3, "interval": 1}},
    },
}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory, tiny_file: Path) -> Path:
    """A student's file."""
    clouds = load(str(tiny_file), "train")
    path = tmp_path_factory.mktemp("student") / "student.safetensors"
    save_network(path, student(clouds))
    return path


def asked(**changes: Any) -> dict[str, Any]:
    """Of a small set, soon distilled."""
    return {"clouds_per_class": 2, "points": 16, "steps": 3, "objective": "krr", "init": "random", **changes}


@pytest.mark.parametrize("name", SMALL)
def test_objectives_see_the_weights(name: str, tiny_file: Path, kept: Path) -> None:
    """One of each way to draw: kept features, class means, gradients, batches of a step, experts."""
    real = load(str(tiny_file), "train", points=64)
    plain, focused = (distill(real, **asked(focus=focus, objective=name, **SMALL[name])) for focus in (None, kept))
    assert plain.losses != focused.losses
    assert plain.metadata.source_fingerprint == focused.metadata.source_fingerprint == real.fingerprint()
    assert plain.metadata.selection == focused.metadata.selection  # the first guess is chosen as ever
    assert focused.metadata.objective is not None
    said = focused.metadata.objective["focus"]
    assert isinstance(said, dict)
    assert said["student"] == "student.safetensors"
    assert said["floor"] == 0.5


def test_focus_by_the_command_line_and_from_a_stream(tiny_file: Path, kept: Path, tmp_path: Path) -> None:
    words = ["distill", "--data", str(tiny_file), "--clouds-per-class", "2", "--points", "16", "--steps", "2",
             "--members", "1", "--init", "random", "--focus", str(kept)]  # fmt: skip
    for output, more in (("a.h5", []), ("b.h5", ["--stream"])):
        assert main([*words, *more, "--output", str(tmp_path / output)]) == 0
    one, other = (Artefact.load(tmp_path / output) for output in ("a.h5", "b.h5"))
    torch.testing.assert_close(one.clouds.points, other.clouds.points)
    assert one.metadata.objective == other.metadata.objective


class Stopping(Follower):
    """Ctrl-C after the first step."""

    def step(self, step: int, loss: float) -> None:
        raise KeyboardInterrupt


def test_resumed_equals_uninterrupted(tiny_file: Path, kept: Path, tmp_path: Path) -> None:
    real, checkpoint = load(str(tiny_file), "train", points=64), tmp_path / "checkpoint"
    whole = distill(real, **asked(focus=kept, members=1))
    with pytest.raises(Interrupted):
        distill(real, checkpoint=checkpoint, followers=[Stopping()], **asked(focus=kept, members=1))
    with pytest.raises(InputError, match="checkpoint"):  # of other weights
        distill(real, checkpoint=checkpoint, resume=True, **asked(members=1))
    again = distill(real, checkpoint=checkpoint, resume=True, **asked(focus=kept, members=1))
    assert torch.equal(again.clouds.points, whole.clouds.points)
    assert again.losses == whole.losses


def test_bad_students(
    tiny_file: Path, tiny_clouds: PointClouds, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "distill",
        "--data",
        str(tiny_file),
        "--clouds-per-class",
        "2",
        "--points",
        "16",
        "--output",
        str(tmp_path / "a.h5"),
    ]
    assert main([*words, "--focus", str(tmp_path / "none.safetensors")]) == 2
    assert "none.safetensors" in capsys.readouterr().err
    other = tmp_path / "other.safetensors"
    save_network(other, student(tiny_clouds, ("ball", "box", "chair")))
    assert main([*words, "--focus", str(other)]) == 2
    said = capsys.readouterr().err
    assert "chair" in said
    assert "Traceback" not in said
    assert not (tmp_path / "a.h5").exists()
