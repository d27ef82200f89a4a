"""Teaching on the student's own policy: what is chosen, what is made, and that nothing else changes."""

import copy
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pcdistill.cli import main
from pcdistill.clouds import PointClouds
from pcdistill.core.errors import InputError
from pcdistill.geometry import random_rotations
from pcdistill.models import Network, build
from pcdistill.models.base import Output
from pcdistill.teaching import Online, OnPolicy, OnPolicyOptions, Teacher
from pcdistill.teaching.onpolicy import disagreement, entropy, mixed, most, moved, normals
from pcdistill.training.loop import predict, train
from pcdistill.training.losses import label_losses
from pcdistill.training.recipe import protocol, recipe
from pcdistill.training.supervision import Batch
from pcdistill.training.trained import Trained, load_network

KINDS = ("relabel", "augment", "mix", "move")
CHOICES = [(kind, choose) for kind in KINDS for choose in ("entropy", "disagreement", "random")]
CHOICES.remove(("relabel", "disagreement"))


class Asked(Network):
    """A teacher's network that keeps what it is asked."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network, self.clouds = network, list[Tensor]()

    def forward(self, points: Tensor) -> Output:
        self.clouds += points.unbind(0)
        found: Output = self.network(points)
        return found


@pytest.fixture(scope="module")
def experienced() -> Network:
    """A network that knows balls, boxes and rings, and is sure of little."""
    made = build("pointnet-tiny", 3, 9)
    tilted = torch.Generator().manual_seed(0)
    clouds = torch.randn(24, 64, 3, generator=tilted)
    labels = torch.arange(24) % 3
    train(made, PointClouds(clouds / clouds.norm(dim=2).amax(1)[:, None, None], labels, ("a", "b", "c")),
          recipe("tuned", steps=20, batch=12), 0)  # fmt: skip
    return made


def teaching(clouds: PointClouds, network: Network | None = None, temperature: float = 1.0) -> Teacher:
    taught = build("pointnet-small", clouds.num_classes, 3) if network is None else network
    plan = protocol("tuned", "pointnet-small")
    return Teacher((Trained(taught.eval(), clouds.class_names, plan, "tiny", 64),), temperature)


def batch_of(clouds: PointClouds, step: int = 5, soft: bool = False) -> Batch:
    """A step of ten, of every second cloud."""
    points, classes = clouds.points[::2], clouds.labels[::2]
    labels = torch.full((len(points), 3), 1 / 3) if soft else classes
    return Batch(points, labels, classes, step, 10)


def taught(batch: Batch, teacher: Teacher, student: Network, seed: int = 0, **options: Any) -> tuple[Batch, OnPolicy]:
    supervision = OnPolicy(teacher, OnPolicyOptions(**options))
    return supervision.begin([seed])(batch, [student]), supervision


# What is made


@given(seed=st.integers(0, 999), turn=st.integers(0, 99))
@settings(max_examples=20)
def test_points_of_a_plane_stay_in_it(seed: int, turn: int) -> None:
    flat = torch.rand(2, 40, 3, generator=torch.Generator().manual_seed(seed)) * torch.tensor([1.0, 1.0, 0.0])
    turned = random_rotations(1, torch.Generator().manual_seed(turn), axis=None)[0]
    network = build("pointnet-tiny", 3, seed)
    points = flat @ turned.T
    there = moved(network, points, 0.1)
    assert (there @ turned)[..., 2].abs().max() < 1e-5
    assert 0.05 < (there - points).norm(dim=2).max() < 0.1 + 1e-5


def test_points_of_a_sphere_stay_near_it() -> None:
    """As near as a tangent plane, and as the planes through nine points are tilted."""
    count = torch.arange(2000)
    height, around = 1 - (2 * count + 1) / 2000, count * math.pi * (3 - math.sqrt(5))
    flat = (1 - height**2).sqrt()
    sphere = torch.stack([flat * around.cos(), flat * around.sin(), height], 1)[None]
    tilt = (normals(sphere) * sphere).sum(2).abs().clamp(max=1).acos().max()
    assert tilt < 0.05
    for epsilon in (0.2, 0.05):
        there = moved(build("pointnet-tiny", 3, 0), sphere, epsilon)
        gone = (there - sphere).norm(dim=2)
        assert gone.max() <= epsilon + 1e-5
        assert gone.max() > epsilon / 2
        assert (there.norm(dim=2) - 1).abs().max() < epsilon**2 / 2 + tilt * epsilon


@pytest.mark.parametrize("temperature", [None, 2.0])
def test_the_student_is_less_sure_after_a_move(
    tiny_clouds: PointClouds, experienced: Network, temperature: float | None
) -> None:
    labels = None if temperature is None else torch.full((24, 3), 1 / 3)
    there = moved(experienced, tiny_clouds.points, 0.05, labels=labels, temperature=temperature or 1.0)
    before, after = predict(experienced, tiny_clouds.points), predict(experienced, there)
    if labels is not None:
        gains = disagreement(after, labels, 2.0) - disagreement(before, labels, 2.0)
    else:
        gains = entropy(after) - entropy(before)
        random = torch.nn.functional.normalize(torch.randn(there.shape, generator=torch.Generator().manual_seed(0)))
        anywhere = entropy(predict(experienced, tiny_clouds.points + 0.05 * random)) - entropy(before)
        assert gains.mean() > 3 * anywhere.mean().abs()
    assert (gains > 0).float().mean() > 0.9


def test_moving_leaves_the_student_as_it_is(tiny_clouds: PointClouds) -> None:
    student = build("pointnet-tiny", 3, 0).train()
    before = copy.deepcopy(student.state_dict())
    moved(student, tiny_clouds.points, 0.05)
    assert student.training
    assert all(parameter.grad is None for parameter in student.parameters())
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())


@given(seed=st.integers(0, 999))
@settings(max_examples=20)
def test_mixed_clouds_hold_points_of_both_and_most_of_the_first(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    own = torch.rand(16, 20, 3, generator=generator)
    other = own + 5
    found = mixed(own, other, generator)
    replaced = found[..., 0] > 2
    assert (replaced.sum(1) <= 10).all()
    assert len(replaced.sum(1).unique()) >= 2
    for cloud, (one, two) in zip(found, zip(own, other, strict=True), strict=True):
        assert len(cloud.unique(dim=0)) == 20
        assert all((torch.cat([one, two]) == point).all(1).any() for point in cloud)


def test_neighbouring_points_are_replaced_together() -> None:
    """In about half of the clouds what goes is a ball about a point, and what comes is near that point."""
    line = torch.linspace(0, 1, 20)[:, None] * torch.ones(3)
    own = line.expand(400, -1, -1)
    found = mixed(own, own + torch.tensor([0.0, 0.0, 2.0]), torch.Generator().manual_seed(0))
    place = (found[..., 0] * 19).round().long()
    taken = found[..., 2] - found[..., 0] > 1
    whole = []
    for cloud in range(400):
        gone = sorted(set(range(20)) - set(place[cloud][~taken[cloud]].tolist()))
        if 3 <= len(gone) <= 8:
            whole.append(gone == list(range(gone[0], gone[0] + len(gone))))
    assert 0.4 < sum(whole) / len(whole) < 0.65


# What is chosen


def test_entropy_and_disagreement_are_those_of_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, teachers = torch.randn(2, 7, 5, generator=generator, dtype=torch.float64)
    expected = torch.distributions.Categorical(logits=logits).entropy()
    torch.testing.assert_close(entropy(logits), expected)
    labelled = torch.distributions.Categorical(logits=teachers)
    student = torch.distributions.Categorical(logits=logits / 3)
    expected = torch.distributions.kl_divergence(labelled, student)
    torch.testing.assert_close(disagreement(logits, labelled.probs, 3.0), expected)
    certain = torch.eye(5, dtype=torch.float64)[:1]
    assert disagreement(logits[:1], certain).isfinite().all()
    assert torch.autograd.gradcheck(entropy, logits.requires_grad_())


def test_most_are_the_greatest() -> None:
    assert most(torch.tensor([0.5, 2.0, 2.0, -1.0, 0.7]), 3).tolist() == [1, 2, 4]


def test_the_most_unsure_candidates_take_the_last_places(tiny_clouds: PointClouds, experienced: Network) -> None:
    """All 12 clouds are candidates, moved: those that the student is then least sure of have to be there."""
    batch = batch_of(tiny_clouds)
    found, _ = taught(batch, teaching(tiny_clouds), experienced, kind="move", share=0.5, candidates=2)
    assert torch.equal(found.points[:6], batch.points[:6])
    everywhere = entropy(predict(experienced, moved(experienced, batch.points, 0.05)))
    shown = entropy(predict(experienced, found.points[6:]))
    torch.testing.assert_close(shown, everywhere.sort(descending=True).values[:6], rtol=1e-4, atol=1e-5)
    assert sorted(found.classes[6:].tolist()) == sorted(batch.classes[everywhere.argsort(descending=True)[:6]].tolist())


def test_a_student_is_relabelled_where_it_is_wrong_and_then_where_it_is_unsure(
    tiny_clouds: PointClouds, experienced: Network
) -> None:
    batch = batch_of(tiny_clouds)
    logits = predict(experienced, batch.points)
    wrong, unsure = logits.argmax(1) != batch.classes, entropy(logits)
    for places in (int(wrong.sum()) // 2, int(wrong.sum()) + 2):
        asked = Asked(build("pointnet-small", 3, 3))
        teacher = teaching(tiny_clouds, asked)
        found, supervision = taught(batch, teacher, experienced, kind="relabel", share=places / 12)
        order = sorted(range(12), key=lambda row: (-int(wrong[row]), -float(unsure[row])))
        assert found.labelled is not None
        assert found.labelled.nonzero()[:, 0].tolist() == sorted(order[:places])
        # Nobody else was shown to the teacher.
        assert torch.equal(torch.stack(asked.clouds), batch.points[found.labelled])
        assert supervision.calls.clouds == places
        torch.testing.assert_close(found.labels[found.labelled], teacher.probabilities(batch.points)[found.labelled])
        assert torch.equal(found.points, batch.points)


def test_hard_labels_keep_their_loss_beside_the_teachers() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, classes = torch.randn(4, 3, generator=generator), torch.tensor([0, 1, 2, 0])
    labels = torch.randn(4, 3, generator=generator).softmax(1)
    labelled = torch.tensor([True, False, False, True])
    found = label_losses(logits, labels, classes, smoothing=0.1, soft="mse", labelled=labelled)
    torch.testing.assert_close(found[labelled], label_losses(logits, labels, classes, soft="mse")[labelled])
    torch.testing.assert_close(found[~labelled], label_losses(logits, classes, classes, smoothing=0.1)[~labelled])


# Who labels what


@pytest.mark.parametrize("kind", KINDS)
def test_stored_labels_stay_where_nothing_was_chosen(tiny_clouds: PointClouds, experienced: Network, kind: str) -> None:
    batch, teacher = batch_of(tiny_clouds, soft=True), teaching(tiny_clouds)
    found, supervision = taught(batch, teacher, experienced, kind=kind, share=0.25)
    kept = (found.labels == 1 / 3).all(1)
    assert found.labelled is None
    assert kept.sum() == 9
    assert supervision.calls.clouds == 3
    torch.testing.assert_close(found.labels[~kept], teacher.probabilities(found.points)[~kept])
    assert torch.equal(found.points[kept], batch.points[kept])


@pytest.mark.parametrize("kind", KINDS[1:])
def test_hard_labels_all_become_the_teachers(tiny_clouds: PointClouds, experienced: Network, kind: str) -> None:
    batch, teacher = batch_of(tiny_clouds), teaching(tiny_clouds, temperature=2.0)
    found, supervision = taught(batch, teacher, experienced, kind=kind, choose="disagreement", share=0.5)
    torch.testing.assert_close(found.labels, teacher.probabilities(found.points))
    # Batch and candidates; those that were moved before and after.
    assert supervision.calls.clouds == 12 + 12 * (2 if kind == "move" else 1)
    assert (found.points[:6] == batch.points[:6]).all()
    assert (found.points[6:] != batch.points[6:]).any(2).any(1).all()


@pytest.mark.parametrize(("kind", "choose"), CHOICES)
def test_a_warm_start_leaves_the_batch_alone(
    tiny_clouds: PointClouds, experienced: Network, kind: str, choose: str
) -> None:
    teacher = teaching(tiny_clouds)
    options = {"kind": kind, "choose": choose, "warm": 0.6}
    for soft in (True, False):
        batch = batch_of(tiny_clouds, 5, soft)
        found, supervision = taught(batch, teacher, experienced, **options)
        if soft or kind == "relabel":
            assert found is batch
            assert supervision.calls.clouds == 0
        else:  # as a teacher who does not look at the student
            torch.testing.assert_close(found, Online(teacher).begin([0])(batch, [experienced]))
        after, _ = taught(batch_of(tiny_clouds, 6, soft), teacher, experienced, **options)
        same = torch.equal(after.labels.float(), found.labels.float()) and torch.equal(after.points, batch.points)
        assert not same


@pytest.mark.parametrize(("kind", "choose"), CHOICES)
def test_scoring_touches_no_statistics(tiny_clouds: PointClouds, kind: str, choose: str) -> None:
    student = build("pointnet-tiny", 3, 0).train()
    before = copy.deepcopy(student.state_dict())
    taught(batch_of(tiny_clouds), teaching(tiny_clouds), student, kind=kind, choose=choose)
    assert student.training
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())


class Passive:
    """A supervision that asks the student what it thinks, as `OnPolicy` does, and then does as `Online`."""

    follows = True

    def __init__(self, teacher: Teacher) -> None:
        self.teacher = teacher

    def begin(self, seeds: Sequence[int]) -> Any:
        looking = OnPolicy(self.teacher, OnPolicyOptions(kind="move", warm=0.0)).begin(seeds)
        telling = Online(self.teacher).begin(seeds)

        def teach(batch: Batch, students: Sequence[Network]) -> Batch:
            looking(batch, students)
            return telling(batch, students)

        return teach


def test_a_student_that_is_only_looked_at_learns_the_same(tiny_clouds: PointClouds) -> None:
    how, teacher = recipe("tuned", steps=6, batch=8), teaching(tiny_clouds)
    one, two = build("pointnet-tiny", 3, 0), build("pointnet-tiny", 3, 0)
    train(one, tiny_clouds, how, 0, supervision=Online(teacher))
    train(two, tiny_clouds, how, 0, supervision=Passive(teacher))
    assert all(torch.equal(value, two.state_dict()[name]) for name, value in one.state_dict().items())


@pytest.mark.parametrize(("kind", "choose"), CHOICES)
def test_the_same_seed_teaches_the_same(tiny_clouds: PointClouds, kind: str, choose: str) -> None:
    how, teacher = recipe("tuned", steps=4, batch=8, soft_loss="mse"), teaching(tiny_clouds)
    supervision = OnPolicy(teacher, OnPolicyOptions(kind=kind, choose=choose, warm=0.25))  # type: ignore[arg-type]
    losses = [
        train(build("pointnet-tiny", 3, 0), tiny_clouds, how, seed, supervision=supervision) for seed in (0, 0, 1)
    ]
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]
    assert len(losses[0]) == 4


@pytest.mark.parametrize("kind", ["augment", "mix"])
def test_every_seed_draws_its_own(tiny_clouds: PointClouds, experienced: Network, kind: str) -> None:
    batch, teacher = batch_of(tiny_clouds), teaching(tiny_clouds)
    one, again, other = (taught(batch, teacher, experienced, seed, kind=kind)[0].points for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_warm_to_the_end_it_is_online(tiny_clouds: PointClouds) -> None:
    """No cloud is ever chosen, and order and augmentation are those of any other supervision."""
    how, teacher = recipe("tuned", steps=4, batch=8), teaching(tiny_clouds)
    one, two = build("pointnet-tiny", 3, 0), build("pointnet-tiny", 3, 0)
    warm = OnPolicy(teacher, OnPolicyOptions(warm=1.0))
    assert train(one, tiny_clouds, how, 0, supervision=warm) == train(
        two, tiny_clouds, how, 0, supervision=Online(teacher)
    )
    assert warm.calls.clouds == 32
    assert warm.calls.seconds > 0


# Settings and commands


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kin": "mix"}, r"policy: unknown option 'kin' \(did you mean 'kind'\?\)"),
        ({"kind": "mixup"}, "policy: kind = 'mixup', expected 'relabel', 'augment', 'mix' or 'move'"),
        ({"share": 0}, "policy: share = 0, expected greater than 0"),
        ({"share": 1.5}, "policy: share = 1.5, expected less than or equal to 1"),
        ({"warm": -0.1}, "policy: warm = -0.1, expected greater than or equal to 0"),
        ({"epsilon": math.inf}, "policy: epsilon = inf"),
        ({"candidates": 0}, "policy: candidates = 0"),
        ({"kind": "relabel", "choose": "disagreement"}, "policy: choose = disagreement with kind = relabel"),
    ],
)
def test_options_that_are_none(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        OnPolicyOptions.checked(values, "policy")


def test_on_the_command_line(
    tiny_file: Path, tmp_path: Path, short_recipes: None, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*words: object) -> str:
        assert main([str(word) for word in words]) == 0
        shown = capsys.readouterr()
        assert shown.err == ""
        return shown.out

    teacher, student = tmp_path / "teacher.safetensors", tmp_path / "student.safetensors"
    given = (tiny_file, "--points", 32, "--network", "pointnet-tiny")
    run("train", *given, "--output", teacher)
    policy = ("--teacher", teacher, "--policy", "kind=move", "warm=0.3", "share=0.25")
    # One step of three is warm; hard labels become the teacher's in all of them.
    assert "the teacher labelled 24 clouds in " in run("train", *given, "--output", student, *policy)
    facts = load_network(student).taught
    assert facts["teacher"] == "teacher.safetensors"
    assert isinstance(facts["policy"], dict)
    assert facts["policy"].items() >= {"kind": "move", "warm": 0.3, "share": 0.25, "epsilon": 0.05}.items()
    evaluating = ("evaluate", tiny_file, "--network", "pointnet-tiny", "--train-seeds", 2, *policy[:2])
    words = (*evaluating, "--policy", "kind=relabel", "share=0.25", "warm=0.3")
    # Two of eight clouds in two steps of three, by two networks.
    assert "teacher            8 clouds labelled in " in run(*words)
    assert json.loads(run(*words, "--json"))["labelled"]["clouds"] == 8
    assert "labelled" not in json.loads(run(*evaluating, "--json"))
