"""The commands as functions: a configuration in, a result out. The command line only prints what they give."""

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from pydantic import JsonValue, ValidationError
from torch import Tensor

from pcdistill.allocation import BITS as SHAPE_BITS
from pcdistill.allocation import POINTS as SHAPE_POINTS
from pcdistill.allocation import Choose, Shape, fill, measured, ranked, trimmed
from pcdistill.clouds import CloudSource, PointClouds
from pcdistill.config import (
    BITS,
    POINTS,
    BudgetConfig,
    DistillConfig,
    EvaluateConfig,
    ExpertsConfig,
    LabelledConfig,
    SelectConfig,
    TaughtConfig,
    TrainConfig,
)
from pcdistill.data import catalog, load, open_streamed
from pcdistill.distill import DistillSettings, OnStep, distill, learned_points
from pcdistill.engine import Job, carried_out
from pcdistill.environment import hardware, versions
from pcdistill.errors import InputError
from pcdistill.evaluation import Evaluation, as_tested, evaluate, planned_steps, score, split
from pcdistill.evaluation.ranking import ARMS, Compression, Ranking, compression, rank
from pcdistill.expansion import Expansion
from pcdistill.export import load_model
from pcdistill.files import atomic, cache_root, check_writable
from pcdistill.matching import Objective, objectives
from pcdistill.matching.base import merged
from pcdistill.matching.experts import ExpertConfig, estimate, missing_experts, record_expert, record_experts
from pcdistill.models import build, networks
from pcdistill.progress import progress
from pcdistill.selection import network_descriptor, raw_descriptor, select, selectors
from pcdistill.storage import Artefact, Budget, Metadata, Storage, soften_by, storages, utc_now
from pcdistill.storage.labels import smoothed
from pcdistill.teaching import Agreement, Focus, Online, OnPolicy, Teacher, Watched, read_teacher
from pcdistill.trained import Trained, save_network
from pcdistill.training import Protocol, protocol, train
from pcdistill.viewing import Exhibit, Live, upright

# Probability of the own class that learned labels start from without a teacher, before it is rounded to a byte.
OWN = 0.9

NETWORK_FILES = (".safetensors", ".onnx")

# Clouds per step that the steps of objectives are meant for.
STEP_CLOUDS = 480

# Times that a run that is watched is shown anew.
WATCHED = 20

# Shapes that `--auto measured` tries: each takes the training of a network.
TRIED = 4


def run_select(config: SelectConfig) -> Artefact:
    """Select a coreset, store it at the budget's bits, and write the artefact.

    Raises:
        InputError, OSError: before anything is written.
    """
    config.check_budget()
    protocol(config.protocol), selectors[config.method], teacher_of(config)
    if config.features != "raw":
        networks[config.features]
    check_writable(config.output)
    with _training_set(config) as real:
        artefact = coreset_artefact(real, config)
    artefact.save(config.output)
    return artefact


def coreset_artefact(real: CloudSource, config: SelectConfig) -> Artefact:
    """A coreset of `real` as configured, in memory; `config.data` only names it and `config.output` is not written."""
    plan, teacher = protocol(config.protocol), teacher_of(config)
    start = _begin(real, config, config.method, config.features, teacher)
    expansion = config.expansion(config.seed)
    return _coreset(real, start, plan, config.seed, config.data, teacher, expansion, config.method, config.labels)


@contextmanager
def _training_set(config: SelectConfig | DistillConfig) -> Iterator[CloudSource]:
    """The clouds that the set is made of: in memory, or with `stream` an open file."""
    plan = protocol(config.protocol)
    if not config.stream:
        yield split(load(config.data, "train", root=config.root), plan)[0]
        return
    if plan.grid is not None:
        raise InputError("protocol", f"{plan.name}, which holds clouds out, with --stream", "a set in memory")
    with open_streamed(config.data, "train", root=config.root) as real:
        yield real


def select_artefact(
    real: CloudSource,
    budget: Budget,
    method: str,
    plan: Protocol,
    seed: int,
    features: str = "raw",
    dataset: str = "",
    teacher: Teacher | None = None,
    storage: str = "points",
    expansion: Expansion | None = None,
) -> Artefact:
    """A coreset of `real` as an artefact in memory; soft labels by a teacher and an expansion, if there are any."""
    if teacher is not None:
        teacher.check(real.class_names)
    clouds = chooser(real, method, features, seed)(budget.counts(len(real.class_names)), budget.points)
    start = Start(clouds, budget, storages[storage], None)
    return _coreset(real, start, plan, seed, dataset, teacher, expansion, method)


def _coreset(
    real: CloudSource, start: "Start", plan: Protocol, seed: int, dataset: str, teacher: Teacher | None,
    expansion: Expansion | None, method: str, labels: str = "teacher",
) -> Artefact:  # fmt: skip
    _check_expansion(expansion, start.clouds)
    storage = start.kind.from_clouds(start.clouds, start.budget)
    selection = _selection(start.clouds)
    if teacher is not None:
        soften_by(storage, teacher.probabilities, expansion if labels == "views" else None)
        selection["labels"] = {"kind": labels, **teacher.describe()}
    metadata = _metadata(real, dataset, storage, plan, seed).model_copy(
        update={"arm": method, "selection": selection, "expansion": _described(expansion)}
    )
    return Artefact(storage, metadata)


class Start(NamedTuple):
    """The clouds that a set starts from, and how they are stored."""

    clouds: PointClouds
    budget: Budget
    kind: type[Storage]
    nbytes: int | None  # of all classes, where the budget is one in bytes


def chooser(real: CloudSource, method: str, features: str, seed: int) -> Choose:
    """A function that selects from `real`."""
    describe: Callable[[CloudSource], Tensor] = raw_descriptor
    name = "raw"
    if features != "raw":
        network = build(features, len(real.class_names), seed)
        describe, name = partial(network_descriptor, network=network), f"{features}, random weights, seed {seed}"

    # What is chosen from depends on labels and seed alone, so that it need not be described again for other counts.
    memo: dict[int, Tensor] = {}

    def described(part: CloudSource) -> Tensor:
        key = len(part.labels)
        if key not in memo:
            memo[key] = describe(part)
        return memo[key]

    def choose(counts: tuple[int, ...], points: int) -> PointClouds:
        return select(real, method, counts, features=described, features_name=name, points=points, seed=seed)

    return choose


def _begin(
    real: CloudSource, config: SelectConfig | DistillConfig, method: str, features: str, teacher: Teacher | None
) -> Start:
    """The clouds to begin with, as many as the budget of `config` holds.

    Raises:
        InputError: not even one cloud of every class; or a teacher of other classes.
    """
    if teacher is not None:
        teacher.check(real.class_names)
    choose, kind, seed = chooser(real, method, features, config.seed), kind_of(config), config.seed
    soften = None if config.labels == "hard" else partial(_soften, config=config, teacher=teacher)
    classes = len(real.class_names)
    nbytes = config.total_bytes(classes, len(real.labels) * real.points_per_cloud * 12)
    if nbytes is None:
        points, bits = config.points or POINTS, config.bits or BITS
        extra = kind.side_bytes + (0 if soften is None else classes)
        budget = Budget(config.clouds_per_class or 0, points, bits, extra)
        return Start(choose(budget.counts(classes), budget.points), budget, kind, None)
    shapes = _shapes(real, config, nbytes, kind)
    if len(shapes) > 1 and config.auto == "measured":
        if not isinstance(real, PointClouds):
            raise InputError("auto", "measured, with --stream", "a set in memory")
        trials = measured(
            real, nbytes, shapes[:TRIED], kind, lambda train: chooser(train, method, features, seed),
            protocol(config.protocol), sharing=config.sharing, soften=soften, seed=seed,
        )  # fmt: skip
        shapes = [trials[0].shape]
    for shape in shapes:
        try:
            filled = fill(real, nbytes, shape, kind, choose, sharing=config.sharing, soften=soften)
            return Start(filled.clouds, filled.budget, kind, nbytes)
        except InputError:
            if shape == shapes[-1]:
                raise
    raise AssertionError("there is always a shape")


def kind_of(config: BudgetConfig) -> type[Storage]:
    """The storage that a configuration names, or the one that serves its budget."""
    in_bytes = config.clouds_per_class is None and (config.bits or BITS) <= 12
    return storages[config.storage or ("coded" if in_bytes else "points")]


def _shapes(real: CloudSource, config: LabelledConfig, nbytes: int, kind: type[Storage]) -> list[Shape]:
    """Points and bits that are given, else all that may do, the most promising first."""
    sizes = torch.bincount(real.hard_labels, minlength=len(real.class_names)).tolist()
    most = real.points_per_cloud
    points = (config.points,) if config.points else tuple(n for n in SHAPE_POINTS if n <= most) or (most,)
    bits = (config.bits,) if config.bits else SHAPE_BITS
    return ranked(nbytes / len(sizes), sizes, kind.name == "coded", points, bits)


def _selection(chosen: PointClouds) -> dict[str, JsonValue]:
    """What an artefact says of how its clouds, or the first guess at them, were chosen."""
    names = {"method": "", "features": "_features", "seed": "_seed", "candidates": "_candidates"}
    return {
        name: chosen.provenance[f"selection{key}"]
        for name, key in names.items()
        if f"selection{key}" in chosen.provenance
    }


def teacher_of(config: LabelledConfig) -> Teacher | None:
    """The teacher that labels a set, if its configuration names one.

    Raises:
        InputError: one that is missing, not wanted or not readable; a temperature without one.
    """
    if not config.teacher:
        if config.labels in ("teacher", "views"):
            raise InputError("labels", f"{config.labels!r} and no --teacher", "a network written by pcdistill train")
        if config.temperature != 1:
            raise InputError("temperature", f"{config.temperature} and no --teacher", "both or neither")
        return None
    if config.labels == "hard":
        found = f"{', '.join(map(str, config.teacher))} with hard labels"
        raise InputError("teacher", found, "--labels teacher or views (or, distilling, learned)")
    return read_teacher(config.teacher, config.temperature)


def _check_expansion(expansion: Expansion | None, clouds: PointClouds) -> None:
    """Refuse here, before any work, what an artefact of as many clouds would refuse at the end."""
    if expansion is not None:
        expansion.check(len(clouds), clouds.points_per_cloud, clouds.num_classes, "expand")


def _described(expansion: Expansion | None) -> dict[str, JsonValue] | None:
    """What an artefact says of it."""
    return None if expansion is None else expansion.model_dump(mode="json")


def _soften(storage: Storage, config: SelectConfig | DistillConfig, teacher: Teacher | None) -> dict[str, JsonValue]:
    """Give `storage` the labels that it starts from; what an artefact says of them."""
    if config.labels == "hard":
        return {}
    if teacher is None:
        storage.soften(smoothed(storage.labels, len(storage.class_names), OWN), learn=True)
        return {"labels": {"kind": config.labels, "own": OWN}}
    views = config.expansion(config.seed) if config.labels == "views" else None
    soften_by(storage, teacher.probabilities, views, learn=config.labels == "learned")
    return {"labels": {"kind": config.labels, **teacher.describe()}}


def focus_of(config: DistillConfig) -> Focus | None:
    """The student that a set is to complement, if its configuration names one.

    Raises:
        InputError: one that is missing or not readable.
    """
    return None if config.focus is None else Focus(read_teacher([config.focus], 1.0))


def make_objective(config: DistillConfig) -> Objective:
    """The objective that a configuration names, not yet prepared."""
    kind = objectives[config.objective]
    if "seed" in config.options:
        raise InputError("options", "seed", "--seed")
    if config.labels == "learned" and not kind.learns_labels:
        able = ", ".join(name for name in objectives if objectives[name].learns_labels)
        raise InputError(
            "labels", f"learned with objective {config.objective}, which sees classes only", f"one of {able}"
        )
    given = {"networks": config.networks, "network": config.surrogate, "seed": config.seed}
    bank = {key: value for key, value in given.items() if value is not None}
    made = kind(seed=config.seed, **merged({"bank": bank}, config.options))
    for name in made.options.bank.network.split(","):
        networks[name.strip()]
    return made


def run_experts(config: ExpertsConfig, say: Callable[[str], None]) -> float:
    """Record expert trajectories in the cache, saying beforehand what it will cost; returns the seconds of all.

    Every expert is a job of its own and kept as soon as it is done: the same command goes on after an interruption.

    Raises:
        InputError: unknown names, impossible settings, or, after the others are done, an expert that diverges.
    """
    wanted = make_objective(config.distilling()).options.bank
    real = load(config.data, "train", root=config.root)
    cost = estimate(real, wanted)
    say(
        f"{wanted.networks} experts of {wanted.steps} steps, {wanted.networks - cost.missing} recorded before: "
        f"about {cost.seconds:.0f} s of work and {cost.megabytes:.0f} MB in {cache_root() / 'experts'}"
    )
    left = [Job(f"expert {k}", _expert, (config.data, config.root, wanted, k)) for k in missing_experts(real, wanted)]
    failures = []
    with (
        progress("recording experts", len(left)) as report,
        closing(carried_out(left, config.engine, config.workers)) as ends,
    ):
        for number, (job, reason) in enumerate(ends, 1):
            report(number, job.name)
            if reason is not None:
                failures.append(f"{job.name}: {reason}")
    if failures:
        raise InputError("experts", f"{len(failures)} of {len(left)} failed, as {failures[0]}")
    return record_experts(real, wanted)[1]


def _expert(data: str, root: Path | None, config: ExpertConfig, k: int) -> None:
    record_expert(load(data, "train", root=root), config, k)


def run_distill(config: DistillConfig, say: Callable[[str], None] = lambda _: None) -> Artefact:
    """Condense a data set as configured and write the artefact.

    The state is saved beside the output on Ctrl-C and every two minutes; `config.resume` goes on from there.
    `say` is told where the run can be watched, if it can.

    Raises:
        InputError, OSError: before hours are spent where that can be known.
        Interrupted: after Ctrl-C.
    """
    config.check_budget()
    protocol(config.protocol), selectors[config.init]
    if config.rate and kind_of(config).rate is Storage.rate:
        raise InputError("rate", f"of storage {kind_of(config).name}", "storage coded: its size depends on its points")
    make_objective(config), teacher_of(config), focus_of(config)
    check_writable(config.output)
    checkpoint = config.output.with_name(config.output.name + ".checkpoint")
    with _live(config, say) as live, _training_set(config) as real, _log(config.log, config.resume) as on_step:
        artefact = distill_artefact(real, config, checkpoint, on_step, live)
        artefact.save(config.output)
    checkpoint.unlink(missing_ok=True)
    return artefact


def distill_artefact(
    real: CloudSource,
    config: DistillConfig,
    checkpoint: Path | None = None,
    on_step: OnStep | None = None,
    live: Live | None = None,
) -> Artefact:
    """`real` condensed as configured, in memory; `config.data` only names it and `config.output` is not written.

    `live` shows the snapshots as they are taken.
    """
    plan, objective, teacher = protocol(config.protocol), make_objective(config), teacher_of(config)
    expansion, focus = config.expansion(config.seed), focus_of(config)
    seen = real if focus is None else focus.on(real)  # by the objective; the first guess is chosen as ever
    started = time.perf_counter()
    start = _begin(real, config, config.init, "raw", teacher)
    selecting = time.perf_counter() - started
    _check_expansion(expansion, start.clouds)
    storage = start.kind.from_clouds(start.clouds, start.budget)
    label_facts = _soften(storage, config, teacher)
    batch = step_clouds(len(real.class_names)) if config.batch is None else config.batch
    share = min(1.0, STEP_CLOUDS / min(batch, len(storage)))  # what a large step costs, fewer steps save
    steps = round(share * objective.steps) if config.steps is None else config.steps
    # The more clouds a class has, the less each has to move (docs/notebook.md, section 6).
    lr = 0.02 / (len(storage) / len(real.class_names)) ** 0.5 if config.lr is None else config.lr
    settings = DistillSettings(
        steps=steps,
        lr=lr,
        batch=batch,
        ema=config.ema,
        rate=config.rate,
        snapshots=config.snapshots,
        seed=config.seed,
    )
    if live is not None:
        watched = _Watched(live, real, storage, config, steps)
        on_step = watched.followed(on_step)
    done = distill(seen, storage, objective, settings, checkpoint=checkpoint, resume=config.resume, on_step=on_step)
    if live is not None:
        watched.show(steps)

    def follow() -> None:
        if config.labels in ("teacher", "views"):
            _soften(storage, config, teacher)  # they belong to the clouds as they are now

    follow()
    snapshots = done.snapshots
    if start.nbytes is not None and storage.nbytes > start.nbytes:
        kept = _within(storage, start, start.nbytes, follow)
        snapshots = [snapshot[kept] for snapshot in snapshots]
        storage = storage.kept(kept)
        if snapshots:
            snapshots[-1] = learned_points(storage)
    focused = {} if focus is None else {"focus": focus.describe()}
    metadata = _metadata(real, config.data, storage, plan, config.seed).model_copy(
        update={
            "arm": config.objective,
            "distilled": True,
            "selection": {**_selection(start.clouds), **label_facts},
            "objective": {"name": config.objective, **objective.describe(), **focused},
            "settings": settings.model_dump(),
            "prepare_seconds": done.prepare_seconds,
            "distill_seconds": selecting + done.seconds,
            "expansion": _described(expansion),
        }
    )
    return Artefact(storage, metadata, done.losses, snapshots)


@contextmanager
def _live(config: DistillConfig, say: Callable[[str], None]) -> Iterator[Live | None]:
    """Who shows the run to a browser, if that is asked for."""
    if config.watch is None:
        yield None
        return
    live = Live(config.watch)
    try:
        say(f"watch it at {live.address}")
        yield live
    finally:
        live.close()


class _Watched:
    """Hands the clouds of a run to `live`, now and then; what the run makes does not depend on it."""

    def __init__(self, live: Live, real: CloudSource, storage: Storage, config: DistillConfig, steps: int) -> None:
        self.live, self.storage, self.steps = live, storage, steps
        self.name, self.objective = set_name(config.data), config.objective
        self.up = str(real.provenance.get("up_axis", "z"))
        self.frames: dict[int, Tensor] = {}
        self.losses: list[float] = []
        self.before = 0
        self.show(0)

    def followed(self, on_step: OnStep | None) -> OnStep:
        """`on_step`, and after some steps the page anew."""
        at = {round(self.steps * part / WATCHED) for part in range(1, WATCHED)}

        def follow(step: int, loss: float) -> None:
            if not self.losses:
                self.before = step - 1  # a run that goes on from a checkpoint
            self.losses.append(loss)
            if step in at:
                self.show(step)
            if on_step is not None:
                on_step(step, loss)

        return follow

    def show(self, step: int) -> None:
        storage = self.storage
        self.frames[step] = upright(learned_points(storage), self.up)
        facts = {
            "run": f"{self.objective} of {self.name}, step {step:,} of {self.steps:,}",
            "clouds": f"{len(storage):,} of {len(storage.class_names)} classes",
            "bytes per class": f"{storage.nbytes / len(storage.class_names):,.0f} at this step",
        }
        clouds = PointClouds(self.frames[step], storage.labels, storage.class_names)
        exhibit = Exhibit(
            f"{self.name}: {self.objective}", clouds, tuple(self.frames.values()), tuple(self.frames),
            losses=tuple(self.losses), before=self.before, total=self.steps,
            bits=storage.layout().get("bits", 32), facts=facts,
        )  # fmt: skip
        self.live.show(exhibit, ended=step == self.steps)


def step_clouds(classes: int) -> int:
    """Clouds per step where nobody asks for another number: 40 of every class, `STEP_CLOUDS` at least."""
    return max(STEP_CLOUDS, 40 * classes)


def _within(storage: Storage, start: Start, nbytes: int, follow: Callable[[], None]) -> Tensor:
    """Indices of the clouds to keep in `nbytes`; where one of every class is too much, all move back to the start.

    They move by halves until they fit, as they did at the start; `follow` gives them their labels again.
    """
    try:
        return trimmed(storage, nbytes)
    except InputError:
        first, learned = start.kind.from_clouds(start.clouds, start.budget).learned(), storage.learned()
        for share in (0.5,) * 8 + (1.0,):
            with torch.no_grad():
                for name, value in first.items():
                    learned[name].lerp_(value, share)
            follow()
            if storage.nbytes <= nbytes:
                break
        return torch.arange(len(storage))


class Source(NamedTuple):
    """What a command was pointed at: the clouds to train on, of an artefact or a data set."""

    clouds: PointClouds
    artefact: Artefact | None
    dataset: str
    protocol: Protocol


def open_source(
    name: str, root: Path | None, protocol_name: str | None, network: str | None, points: int | None = None
) -> Source:
    """Training clouds of an artefact or a data set, with the protocol to use on them."""
    artefact = Artefact.load(name) if Artefact.is_one(name) else None
    if artefact is not None:
        plan = stored_protocol(artefact, name)
        if protocol_name not in (None, plan.name):
            plan = protocol(str(protocol_name))
        if points is not None:
            raise InputError(name, "an artefact with --points", "a data set")
        clouds, dataset = artefact.training_clouds, artefact.metadata.dataset
        plan = artefact.taught(plan)
    else:
        plan, dataset = protocol(protocol_name or "tuned"), name
        clouds = load(name, "train", root=root, points=points or plan.test_points)
    if network is not None:
        networks[network]
        plan = plan.model_copy(update={"network": network})
    return Source(clouds, artefact, dataset, plan)


def taught(source: Source, config: TaughtConfig) -> tuple[Source, Online | OnPolicy | None]:
    """The source with the loss that is configured, and the teacher's lesson if there is one.

    Raises:
        InputError: a teacher that cannot be read or knows other classes, or or settings of soft labels without any.
    """
    plan = source.protocol.changed(**config.loss())
    source = source._replace(protocol=plan)
    if not config.teacher:
        if config.loss() and source.clouds.labels.ndim == 1:
            raise InputError(
                " and ".join(config.loss()), "given, but labels are hard", "--teacher, or a set with soft labels"
            )
        return source, None
    teacher = read_teacher(config.teacher, plan.recipe.temperature)
    teacher.check(source.clouds.class_names)
    options = config.on_policy()
    stored = None if source.artefact is None else source.artefact.taught(plan).recipe.temperature
    if options is not None and source.clouds.labels.ndim == 2 and stored != plan.recipe.temperature:
        # Of a batch some labels are stored, others come from the teacher, and all are learned at one temperature.
        raise InputError(
            "temperature", f"{plan.recipe.temperature:g} with --policy", f"{stored:g}, that of the set's labels"
        )
    return source, Online(teacher) if options is None else OnPolicy(teacher, options)


def stored_protocol(artefact: Artefact, place: object) -> Protocol:
    """The protocol that an artefact is meant to be evaluated by.

    Raises:
        InputError: none that this release knows.
    """
    try:
        return Protocol.model_validate(artefact.metadata.protocol)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, ("protocol", *first["loc"])))
        raise InputError(place, f"metadata '{field}': {first['msg']}", "a protocol of this release") from None


def run_train(config: TrainConfig, say: Callable[[str], None] = lambda _: None) -> list[float]:
    """Train a network and write its weights (safetensors) with what is needed to use them; returns the losses.

    What an on-policy teacher was asked is said.
    """
    if config.output.suffix != ".safetensors":
        raise InputError("output", str(config.output), "a name that ends in .safetensors")
    check_writable(config.output)
    source = open_source(config.source, config.root, config.protocol, config.network_name, config.points)
    if source.protocol.grid is not None:
        found = f"{source.protocol.name}, which chooses among recipes"
        raise InputError("protocol", found, "one with a recipe of its own, as tuned")
    source, lesson = taught(source, config)
    if config.steps is not None:
        source = source._replace(protocol=source.protocol.changed(steps=config.steps))
    network = build(source.protocol.network, source.clouds.num_classes, config.seed)
    total = source.protocol.recipe.total_steps(len(source.clouds))
    notes: list[tuple[int, int, Agreement]] = []
    with progress("training", total) as report:
        losses = train(
            network,
            source.clouds,
            source.protocol.recipe,
            config.seed,
            lambda step, loss: report(step, f"loss {loss:.4g}"),
            Watched(lesson, lesson.teacher, config.watch, notes) if lesson is not None and config.watch else lesson,
        )
    save_network(
        config.output,
        Trained(
            network, source.clouds.class_names, source.protocol, set_name(source.dataset),
            source.clouds.points_per_cloud, config.seed, {} if lesson is None else lesson.describe(),
        ),
    )  # fmt: skip
    if isinstance(lesson, OnPolicy):
        say(f"the teacher labelled {lesson.calls.clouds:,} clouds in {lesson.calls.seconds:.1f} s")
    if notes:
        _note(config.output.with_suffix(".agreement.jsonl"), notes, say)
    return losses


def _note(path: Path, notes: Sequence[tuple[int, int, Agreement]], say: Callable[[str], None]) -> None:
    """Write how student and teacher agreed, a line a note, and say how it began and ended."""
    lines = [
        # Without mistakes there is no number for what the teacher says of them.
        json.dumps(
            {"step": step} | {name: None if math.isnan(value) else value for name, value in found._asdict().items()}
        )
        for _, step, found in notes
    ]
    with atomic(path) as temporary:
        temporary.write_text("".join(line + "\n" for line in lines))
    first, last = notes[0][2], notes[-1][2]
    say(
        f"student and teacher, first to last: overlap of top 3 {first.overlap:.2f} to {last.overlap:.2f}, KL "
        f"{first.kl:.2f} to {last.kl:.2f}, student wrong {100 * first.mistakes:.0f} to {100 * last.mistakes:.0f} %; "
        f"{len(notes)} notes in {path}"
    )


def check_evaluation(config: EvaluateConfig) -> None:
    """Refuse settings that exclude one another, and a device that torch does not have here.

    Raises:
        InputError: saying which, or what torch says.
    """
    if config.ranking and (config.per_class or not config.plain):
        raise InputError("ranking", "with views, networks, an output or classes", "none of them")
    if config.ranking and config.loss():
        raise InputError(
            "ranking", f"with {' and '.join(config.loss())}", "--teacher alone: the set says how it is trained on"
        )
    if config.ranking and config.policy:
        raise InputError("ranking", "with --policy", "--teacher alone, who labels clouds before training")
    try:
        torch.empty(1, device=config.device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        found = f"'{config.device}' ({str(error).splitlines()[0][:100]})"
        raise InputError("device", found, "one that torch has here") from None


def run_evaluate(config: EvaluateConfig) -> Evaluation:
    """Accuracy on the clean test split of networks trained on the source, or of one trained before.

    Raises:
        InputError: bad input, or views, several networks or an output, which `matrices.run_matrix` is for.
    """
    if not config.plain:
        raise InputError("run_evaluate", "views, networks or output", "none of them (see matrices.run_matrix)")
    check_evaluation(config)
    if config.source.endswith(NETWORK_FILES):
        trained = network_to_test(config)
        test = among(test_set(config, trained.dataset), trained.class_names)
        test = as_tested(test, trained.class_names, trained.protocol, trained.points)
        return Evaluation((), (score(trained.network, test),), 0.0, class_names=test.class_names)
    source, lesson = taught(source_to_train_on(config, config.network), config)
    test = test_set(config, source.dataset)
    source, validation = held_out(source, config)
    total = planned_steps(source.protocol, len(source.clouds), config.seeds)
    with progress("training", total) as report:
        seeds = range(config.seeds)
        found = evaluate(source.clouds, test, source.protocol, seeds, report, validation, config.device, lesson)
    return replace(found, labelled=asdict(lesson.calls)) if isinstance(lesson, OnPolicy) else found


class Ranked(NamedTuple):
    """An artefact's scores apart from labels and recipe, and how many times as much the whole set is."""

    ranking: Ranking
    compression: Compression


def run_ranking(config: EvaluateConfig) -> Ranked:
    """DD-Ranking's scores of an artefact (`evaluation.ranking`).

    Raises:
        InputError: something else than an artefact, soft labels and no teacher, or as `run_evaluate`.
    """
    check_evaluation(config)
    source = source_to_train_on(config, config.network)
    if source.artefact is None:
        raise InputError(config.source, "a data set with --ranking", "an artefact")
    if config.teacher and source.artefact.clouds.labels.ndim == 1:
        raise InputError("teacher", f"with --ranking, but labels of {config.source} are hard", "no teacher")
    test, plan = test_set(config, source.dataset), source.protocol
    held_out(source, config)  # refuses artefacts that know what a grid is chosen on
    real = load(config.data or source.dataset, "train", root=config.root, points=plan.test_points)
    label = None
    if config.teacher:
        teacher = read_teacher(config.teacher, source.protocol.recipe.temperature)
        teacher.check(real.class_names)
        label = teacher.probabilities
    with progress("scoring", len(ARMS)) as report:
        found = rank(source.artefact, real, test, plan, range(config.seeds), label, report, config.device)
    return Ranked(found, compression(source.artefact, real, plan))


def held_out(source: Source, config: EvaluateConfig) -> tuple[Source, PointClouds | None]:
    """What a protocol with a grid chooses a recipe on, and the source without it; None without a grid.

    Raises:
        InputError: an artefact that was made of these clouds, too.
    """
    plan, dataset = source.protocol, config.data or source.dataset
    if plan.grid is None:
        return source, None
    if source.artefact is None:
        clouds, validation = split(source.clouds, plan)
        return source._replace(clouds=clouds), validation
    made, validation = split(load(dataset, "train", root=config.root), plan)
    if (rule := source.artefact.metadata.source.get("split_rule")) != made.provenance["split_rule"]:
        found = f"made of clouds that protocol {plan.name} chooses a recipe on (its clouds: {rule or 'all of train'})"
        raise InputError(config.source, found, f"a set made with --protocol {plan.name}")
    return source, validation


def source_to_train_on(config: EvaluateConfig, network: str | None) -> Source:
    """The source, with its protocol changed as configured; one with another recipe is called NAME*, like that."""
    source = open_source(config.source, config.root, config.protocol, network)
    plan, recipe = source.protocol, source.protocol.recipe
    if config.steps is not None:
        plan = plan.changed(steps=config.steps)
    if config.train_rotation not in (None, recipe.augmentation.rotate):
        plan = plan.changed(augmentation=recipe.augmentation.model_copy(update={"rotate": config.train_rotation}))
    return source._replace(protocol=plan.model_copy(update={"thin": plan.thin or config.thin}))


def network_to_test(config: EvaluateConfig) -> Trained:
    """The trained network that the source is.

    Raises:
        InputError: not one, or settings for training given.
    """
    trained = load_model(Path(config.source))
    if config.network not in (None, trained.protocol.network) or config.protocol is not None:
        raise InputError(config.source, "a trained network with --network or --protocol", "neither")
    if config.policy or config.teacher or config.loss():
        raise InputError(config.source, "a trained network with a teacher or its loss", "a set to train on")
    if config.networks or config.steps is not None or config.train_rotation is not None:
        raise InputError(config.source, "a trained network with --networks, --steps or --train-rotation", "none")
    thin = trained.protocol.thin or config.thin
    return trained._replace(protocol=trained.protocol.model_copy(update={"thin": thin}))


def set_name(name: str) -> str:
    """A data set's catalog name or file name: files that are passed on say nothing of their maker's folders."""
    return Path(name).resolve().name if Path(name).exists() else name


def test_set(config: EvaluateConfig, dataset: str) -> PointClouds:
    """The test split of `config.data`, else of the set that the source was made from, if that can be found."""
    if config.data is None and not _is_here(dataset, config.root):
        raise InputError(config.source, f"made from '{dataset}', which is not here", "--data with the set to test on")
    return load(config.data or dataset, "test", root=config.root)


def made_from(artefact: Artefact, place: str, root: Path | None, data: str | None = None) -> tuple[PointClouds, bool]:
    """The training clouds that an artefact was made from, or those of `data`, and whether they are the very ones.

    They are where the fingerprint agrees: that of all stored points, or of the first ones that the artefact's protocol
    tests on; without what a protocol with a grid holds out. Where it does not, all points of all clouds are given.

    Raises:
        InputError: the set is not here, or no protocol of this release.
    """
    facts, plan = artefact.metadata, stored_protocol(artefact, place)
    if data is None and not _is_here(facts.dataset, root):
        raise InputError(place, f"made from '{facts.dataset}', which is not here", "--real with the training set")
    whole = load(data or facts.dataset, "train", root=root)
    sizes = [None, *([plan.test_points] if plan.test_points < whole.points_per_cloud else [])]
    for size in sizes:
        clouds = whole if size is None else load(data or facts.dataset, "train", root=root, points=size)
        if (part := split(clouds, plan)[0]).fingerprint() == facts.source_fingerprint:
            return part, True
    return whole, False


def _is_here(dataset: str, root: Path | None) -> bool:
    return dataset in {row.name for row in catalog(root)} or Path(dataset).exists()


def among(test: PointClouds, class_names: tuple[str, ...]) -> PointClouds:
    """Test clouds labelled by a network's classes, which may be more, or in another order, as `adapt` leaves them."""
    return test.with_classes(class_names) if set(test.class_names) <= set(class_names) else test


def _metadata(real: CloudSource, dataset: str, storage: Storage, plan: Protocol, seed: int) -> Metadata:
    name = dataset or str(real.provenance.get("name", "unnamed"))
    return Metadata(
        arm="",
        distilled=False,
        dataset=set_name(name),
        source_fingerprint=real.fingerprint(),
        source=dict(real.provenance),
        storage=storage.name,
        layout=storage.layout(),
        class_names=real.class_names,
        clouds_per_class=_average(len(storage), len(real.class_names)),
        points=storage.decode().points_per_cloud,
        bits=storage.layout()["bits"],
        selection={},
        objective=None,
        settings=None,
        protocol=plan.model_dump(mode="json"),
        seed=seed,
        prepare_seconds=0.0,
        distill_seconds=0.0,
        versions=versions(),
        hardware=hardware(),
        created=utc_now(),
    )


def _average(clouds: int, classes: int) -> int | float:
    return clouds // classes if clouds % classes == 0 else clouds / classes


@contextmanager
def _log(folder: Path | None, append: bool) -> Iterator[Callable[[int, float], None] | None]:
    """Yield a function that logs a step's loss to `folder/log.jsonl` and, where installed, TensorBoard."""
    if folder is None:
        yield None
        return
    folder.mkdir(parents=True, exist_ok=True)
    try:
        from torch.utils.tensorboard import SummaryWriter

        events = SummaryWriter(str(folder))
    except ImportError:
        events = None
    with (folder / "log.jsonl").open("a" if append else "w") as lines:

        def on_step(step: int, loss: float) -> None:
            lines.write(json.dumps({"step": step, "loss": loss}) + "\n")
            lines.flush()
            if events is not None:
                events.add_scalar("loss", loss, step)

        try:
            yield on_step
        finally:
            if events is not None:
                events.close()
