"""Trajectory matching: synthetic clouds on which a student ends where experts on the real set end."""

from typing import Any, ClassVar, Literal, NamedTuple

import torch
from pydantic import Field, model_validator
from torch import Tensor

from pcdistill.clouds import CloudSource, PointClouds, device_of
from pcdistill.core.errors import InputError
from pcdistill.matching.base import Objective, ObjectiveOptions, objectives, with_gradients
from pcdistill.matching.draws import step_generator
from pcdistill.matching.experts import Expert, ExpertConfig, expert_steps, missing_experts, record_experts
from pcdistill.matching.gradients import Weights, mean_gradient, one_hot
from pcdistill.models import Network
from pcdistill.training.augment import Augmentation, Draw, apply


class TrajectoryOptions(ObjectiveOptions):
    """Settings of `TrajectoryMatching`.

    Attributes:
        bank: the experts.
        student_steps: N, SGD steps of the student in a segment.
        length: M, length of an expert's segment in kept states (`bank.interval` steps each).
        start: first and last kept state at which segments may start: early ones for small budgets, late ones for large
            budgets (the difficulty of DATM, Guo et al., ICLR 2024).
        grow: steps of the outer loop over which the last start rises from the first; 0 opens the window at once.
        step_size: of the student at first; None takes what the experts' comes to with their momentum.
        learn_step_size: as its logarithm, which keeps it positive.
        student_batch: clouds per student step, equally many of every class; None takes all.
        augmentation: of the synthetic clouds, drawn anew at every student step.
        gradient: `adjoint`: exact, one step at a time backwards from the kept weights; `tesla`: as if later weights did
            not depend on a step (Cui et al., ICML 2023); `unroll`: the plain graph of all steps, whose memory grows
            with N.
        on_policy: share of segments that start where a student trained on the present synthetic set is, instead of on
            an expert's trajectory.
        visits: such a student has made up to this many student steps.
    """

    bank: ExpertConfig = ExpertConfig()
    student_steps: int = Field(default=10, ge=1)
    length: int = Field(default=4, ge=1)
    start: tuple[int, int] = (15, 35)
    grow: int = Field(default=0, ge=0)
    step_size: float | None = Field(default=None, gt=0)
    learn_step_size: bool = True
    student_batch: int | None = Field(default=None, ge=1)
    augmentation: Augmentation = Augmentation(stretch=1.3, tilt=8)
    gradient: Literal["adjoint", "tesla", "unroll"] = "adjoint"
    on_policy: float = Field(default=0.0, ge=0, le=1)
    visits: int = Field(default=20, ge=1)

    @model_validator(mode="after")
    def _check(self) -> "TrajectoryOptions":
        last = self.bank.states - 1 - self.length
        if not 0 <= self.start[0] <= self.start[1] <= last:
            raise ValueError(f"start = {self.start}, expected within 0 to {last}: the experts' states less a segment's")
        return self


class Segment(NamedTuple):
    """A piece of training: from where to where, and who trains."""

    network: Network
    start: Weights
    target: Weights


class Batch(NamedTuple):
    """What a student step sees: places of clouds and how they are augmented."""

    places: Tensor
    draw: Draw


@objectives.register("tm", cites=("cazenavette2022mtt",))
class TrajectoryMatching(Objective):
    """Distance, in units of the expert's own way, between a student after N steps and the expert after M.

        loss = || w_N - w*_{t+M} ||^2 / || w*_t - w*_{t+M} ||^2,   w_0 = w*_t,   w_{i+1} = w_i - a grad_w l(S_i; w_i)

    (MTT, Cazenavette et al., CVPR 2022, eqs. 2 to 4.) The gradient with respect to the synthetic clouds, their labels
    and the step size `a` is taken step by step, backwards: with `v_N` the loss's gradient at `w_N`,

        d loss / d S_i = -a d/dS q_i,   v_i = v_{i+1} - a d/dw q_i,   q_i = < grad_w l(S_i; w_i), v_{i+1} >

    Only the weights are kept between steps, a few hundred kilobytes each: memory does not grow with N. This is the
    gradient of the unrolled graph; TESLA's takes `v_i = v_{i+1}`, in the same time. With `on_policy`, part of the
    segments start at a student's weights, and the expert continues from there on real clouds: what on-policy
    distillation does for sequence models (GKD, Agarwal et al., ICLR 2024) carried over to weights; we know of no
    earlier use.
    """

    name = "tm"
    learns_labels = True
    minibatch = "clouds"
    Options: ClassVar[type[ObjectiveOptions]] = TrajectoryOptions
    pace: ClassVar[dict[str, float]] = {"log_step_size": 2.0}
    steps = 150

    def __init__(self, bank: ExpertConfig | None = None, *, seed: int = 0, **options: Any) -> None:
        super().__init__(bank, seed=seed, **options)
        config: ExpertConfig = self.options.bank
        given = self.options.step_size
        size = config.lr / (1 - config.momentum) if given is None else given
        self.log_step_size = torch.tensor([[size]]).log().requires_grad_(self.options.learn_step_size)

    def prepare(self, real: CloudSource) -> None:
        self.real = real
        self.classes = len(real.class_names)
        self.experts, self.seconds = record_experts(real, self.options.bank)
        learned = self.options.learn_step_size
        self.log_step_size = self.log_step_size.detach().to(device_of(real)).requires_grad_(learned)

    def prepared(self, real: CloudSource) -> bool:
        return not missing_experts(real, self.options.bank)

    def learned(self) -> dict[str, Tensor]:
        return {"log_step_size": self.log_step_size} if self.options.learn_step_size else {}

    def loss(self, decoded: PointClouds, step: int) -> Tensor:
        generator = step_generator("objective", self.seed, step)
        segment = self._segment(decoded, step, generator)
        batches = self._batches(decoded, self.options.student_steps, generator)
        inputs = [decoded.points, one_hot(decoded.labels, self.classes, decoded.points), self.log_step_size]
        method = _unrolled if self.options.gradient == "unroll" else _backwards
        value, gradients = method(segment, batches, inputs, self.options.gradient == "adjoint")
        wanted = [pair for pair in zip(inputs, gradients, strict=True) if pair[0].requires_grad]
        return with_gradients(value, wanted)

    def _segment(self, decoded: PointClouds, step: int, generator: torch.Generator) -> Segment:
        first, last = self.options.start
        if self.options.grow:
            last = first + round((last - first) * min(1.0, step / self.options.grow))
        expert = self.experts[int(torch.randint(len(self.experts), (), generator=generator))]
        state = int(torch.randint(first, last + 1, (), generator=generator))
        start, target = expert.at(state), expert.at(state + self.options.length)
        if float(torch.rand((), generator=generator)) < self.options.on_policy:
            start = self._visited(decoded, expert, generator)
            config: ExpertConfig = self.options.bank
            steps = self.options.length * config.interval
            target = expert_steps(expert.network, start, self.real, config, steps, generator)
        return Segment(expert.network, start, target)

    def _visited(self, decoded: PointClouds, expert: Expert, generator: torch.Generator) -> Weights:
        """Where a student is that was trained on the synthetic set from an expert's state at the first start."""
        visits = int(torch.randint(1, self.options.visits + 1, (), generator=generator))
        targets = one_hot(decoded.labels, self.classes, decoded.points)
        inputs = [value.detach() for value in (decoded.points, targets, self.log_step_size)]
        first = expert.at(self.options.start[0])
        return _student(expert.network, first, self._batches(decoded, visits, generator), inputs)[-1]

    def _batches(self, decoded: PointClouds, steps: int, generator: torch.Generator) -> list[Batch]:
        labels, points = decoded.hard_labels, decoded.points.shape[1]
        classes = labels.unique()
        batches = []
        for _ in range(steps):
            index = torch.arange(len(labels))
            if self.options.student_batch is not None and self.options.student_batch < len(labels):
                most = max(1, self.options.student_batch // len(classes))
                shuffled = torch.randperm(len(labels), generator=generator)
                own = [shuffled[labels[shuffled] == label][:most] for label in classes]
                index = torch.cat(own).sort().values
            batches.append(Batch(index, self.options.augmentation.draw(len(index), points, generator)))
        return batches


Inputs = list[Tensor]  # points (B, P, 3), targets (B, C), logarithm of the step size (1, 1)


def _slope(network: Network, state: Weights, batch: Batch, inputs: Inputs, create_graph: bool) -> Weights:
    points = apply(inputs[0][batch.places], batch.draw)
    return mean_gradient(network, state, points, inputs[1][batch.places], create_graph)


def _student(network: Network, start: Weights, batches: list[Batch], inputs: Inputs) -> list[Weights]:
    """The student's weights before every step and after the last."""
    size = inputs[2].detach().exp()[0, 0]
    states = [start]
    for batch in batches:
        slope = _slope(network, states[-1], batch, [value.detach() for value in inputs], create_graph=False)
        states.append({name: value - size * slope[name] for name, value in states[-1].items()})
    return states


def _distance(segment: Segment, end: Weights) -> tuple[Tensor, Weights]:
    """The loss of a student that ends at `end`, and its gradient there."""
    pairs = segment.target.items()
    way = torch.stack([(segment.start[name] - value).square().sum() for name, value in pairs]).sum()
    if not way > 0:
        earlier = "one that still learns (start earlier: --options start=[0,3]; or raise bank.lr)"
        raise InputError("trajectory matching", "an expert that does not move", earlier)
    gaps = {name: end[name] - value for name, value in pairs}
    value = torch.stack([gap.square().sum() for gap in gaps.values()]).sum() / way
    return value, {name: 2 * gap / way for name, gap in gaps.items()}


def _backwards(segment: Segment, batches: list[Batch], inputs: Inputs, exact: bool) -> tuple[Tensor, list[Tensor]]:
    """Loss and gradients with respect to `inputs`; memory of one step, whatever their number."""
    states = _student(segment.network, segment.start, batches, inputs)
    value, along = _distance(segment, states[-1])
    size = inputs[2].detach().exp()
    leaves = [inputs[0].detach().requires_grad_(), inputs[1].detach().requires_grad_()]
    sums = [torch.zeros_like(leaf) for leaf in leaves]
    log_size = torch.zeros_like(size)
    for batch, state in zip(reversed(batches), reversed(states[:-1]), strict=True):
        weights = {name: part.detach().requires_grad_() for name, part in state.items()}
        slope = _slope(segment.network, weights, batch, leaves, create_graph=True)
        product = sum(((part * along[name]).sum() for name, part in slope.items()), size.new_zeros(()))
        wanted = [*leaves, *(weights.values() if exact else ())]
        found = torch.autograd.grad(product, wanted, materialize_grads=True)
        log_size -= size * product.detach()
        for total, part in zip(sums, found[:2], strict=True):
            total -= size * part
        if exact:
            along = {name: along[name] - size[0, 0] * part for name, part in zip(along, found[2:], strict=True)}
    return value, [*sums, log_size]


def _unrolled(segment: Segment, batches: list[Batch], inputs: Inputs, exact: bool) -> tuple[Tensor, list[Tensor]]:
    """The same through the graph of all steps at once: the reference."""
    leaves = [value.detach().requires_grad_() for value in inputs]
    state = {name: value.detach().requires_grad_() for name, value in segment.start.items()}
    for batch in batches:
        slope = _slope(segment.network, state, batch, leaves, create_graph=True)
        state = {name: value - leaves[2].exp()[0, 0] * slope[name] for name, value in state.items()}
    value, _ = _distance(segment, state)
    return value.detach(), list(torch.autograd.grad(value, leaves, materialize_grads=True))
