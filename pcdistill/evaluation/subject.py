"""What is trained on or tested: an artefact, a data set or a trained network, opened once with what belongs to it.

Names are looked up and files are read here; below, nothing is looked up or read a second time.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator

from pcdistill.artefact.artefact import Artefact, stored_protocol
from pcdistill.clouds import PointClouds
from pcdistill.core.errors import InputError
from pcdistill.core.options import Device, Options, Paths, Positional, Reading
from pcdistill.data import any_number
from pcdistill.data.catalog import CATALOG
from pcdistill.data.places import remember, remembered
from pcdistill.data.reading import read, stream
from pcdistill.data.stream import AnyClouds, StreamedClouds
from pcdistill.evaluation.conditions import TestSets
from pcdistill.evaluation.sweep import split
from pcdistill.export import NETWORK_FILES, load_model
from pcdistill.teaching import Online, OnPolicy, OnPolicyOptions, read_teacher
from pcdistill.training.augment import Poses
from pcdistill.training.losses import SoftLoss
from pcdistill.training.recipe import EvaluationProtocol
from pcdistill.training.recipe import protocol as protocol_called
from pcdistill.training.trained import Trained

# What cannot be asked of a network that was trained before.
OF_TRAINING = (
    "network", "protocol", "train_steps", "rotate", "partial", "teacher", "temperature", "soft_loss", "hard", "policy",
)  # fmt: skip


class TrainingSpec(Reading, Poses):
    """What networks are trained on, and how."""

    heading: ClassVar[str] = "data and training"

    source: Annotated[str, Positional, Field(description="artefact, or data set to train on whole")]
    network: Annotated[str | None, Field(description="network (default: the protocol's)")] = None
    protocol: Annotated[
        str | None, Field(description="tuned, converged or published (default: the artefact's, else tuned)")
    ] = None
    train_steps: Annotated[int | None, Field(ge=1, description="of training, in place of the recipe's")] = None
    device: Device = "cpu"


class SupervisionSpec(Options):
    """Who labels clouds while networks are trained, besides their set, and what is made of labels."""

    heading: ClassVar[str] = "labels"

    teacher: Annotated[
        Paths,
        Field(description="network (.safetensors), or several, that label every cloud as the student sees it"),
    ] = ()
    temperature: Annotated[
        float | None,
        Field(
            gt=0,
            allow_inf_nan=False,
            description="that logits of teacher and student are divided by (default: that of the set's labels, else 1)",
        ),
    ] = None
    soft_loss: Annotated[
        SoftLoss | None, Field(description="under soft labels: kl (default), or mse between logits")
    ] = None
    hard: Annotated[
        float | None, Field(ge=0, le=1, description="weight of the hard label beside a soft one (default: 0)")
    ] = None
    policy: Annotated[
        dict[str, Any],
        Field(
            description="let the teacher label clouds that the student is unsure of, a share of every batch: "
            "kind=mix (or relabel, augment, move) choose=entropy share=0.5 warm=0.2 candidates=2 epsilon=0.05"
        ),
    ] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check_policy(self) -> Self:
        if self.policy and not self.teacher:
            raise InputError("policy", "given, but no teacher", "--teacher")
        self.on_policy()
        return self

    def on_policy(self) -> OnPolicyOptions | None:
        """What `policy` asks for; None if that is nothing.

        Raises:
            InputError: an unknown option or a value out of range.
        """
        return OnPolicyOptions.checked(self.policy, "policy") if self.policy else None

    def loss(self) -> dict[str, Any]:
        """What is given of the recipe's loss."""
        given = {name: getattr(self, name) for name in ("temperature", "soft_loss", "hard")}
        return {name: value for name, value in given.items() if value is not None}


class SubjectSpec(TrainingSpec):
    """What is tested, and by how many networks."""

    heading: ClassVar[str] = "test"

    source: Annotated[
        str, Positional, Field(description="artefact, data set, or trained network (.safetensors, .onnx)")
    ]
    protocol: Annotated[
        str | None, Field(description="tuned, converged, published or sweep (default: the artefact's, else tuned)")
    ] = None
    test_data: Annotated[str | None, Field(description="data set to test on (default: the one it was made from)")] = (
        None
    )
    test_points: Annotated[
        int | None,
        Field(ge=1, description="points of a test cloud that are looked at (default: 1024, or all there are)"),
    ] = None
    thin: Annotated[bool, Field(description="thin test clouds to as many points as were trained on")] = False
    train_seeds: Annotated[int, Field(ge=1, description="number of networks trained, of each kind")] = 3


@dataclass(frozen=True, eq=False, kw_only=True)
class Training:
    """A set that networks are trained on, or a network that was trained before.

    Attributes:
        source: what it was opened as.
        made: the artefact, the clouds of the data set, in memory or on disk, or the network.
        training_clouds: what networks are trained on, of an artefact expanded if it says so; None of a network.
        dataset: name of the data set that it was made from, or is.
        source_fingerprint: of the training clouds of that set, as far as it is known.
        protocol: how networks are trained on it, or were.
        supervision: the teacher that is asked for, or is in the file, if any.
    """

    source: str
    made: Artefact | AnyClouds | Trained
    training_clouds: AnyClouds | None
    dataset: str
    source_fingerprint: str
    protocol: EvaluationProtocol
    supervision: Online | OnPolicy | None = None

    @property
    def artefact(self) -> Artefact | None:
        """What it is, if it is one."""
        return self.made if isinstance(self.made, Artefact) else None

    @property
    def clouds(self) -> AnyClouds:
        """The training clouds.

        Raises:
            InputError: of a trained network, which has none.
        """
        if self.training_clouds is None:
            raise InputError(self.source, "a trained network", "an artefact or a data set to train on")
        return self.training_clouds

    @cached_property
    def digest(self) -> str:
        """Of the file, or of a data set its fingerprint: what follows from it is known by this."""
        return self.made.fingerprint() if isinstance(self.made, AnyClouds) else self.made.digest

    def close(self) -> None:
        """Let go of the file of a set on disk."""
        if isinstance(self.made, StreamedClouds):
            self.made.close()


@dataclass(frozen=True, eq=False, kw_only=True)
class Subject(Training):
    """What is tested, with what it is tested on.

    Attributes:
        test_data: the data set to test on, if another was asked for.
        test: the test split, all points of its clouds; in the classes of a network that knows more.
        validation: of protocols with a grid, clouds that recipes are chosen on, none of which a set was made of.
        real: the training split, which an artefact was made from, with what is held out of it; None where nobody needs
            it.
    """

    test_data: str | None
    test: PointClouds
    validation: PointClouds | None = None
    real: PointClouds | None = None


def open_training(spec: TrainingSpec, points: int | None = None, streamed: bool = False) -> Training:
    """A set to train networks on, with protocol and, of a spec that has one, supervision.

    Args:
        spec: what is asked for.
        points: of every cloud of a data set (default: as many as the protocol tests on, or all there are).
        streamed: whether a data set stays on disk: `close` what is returned.

    Raises:
        InputError: an unknown name, a file that cannot be read, a teacher of other classes, or settings that exclude
            one another.
    """
    trained = spec.source.endswith(NETWORK_FILES)
    artefact = None if trained else Artefact.load_if_one(spec.source)
    if streamed and (trained or artefact is not None):
        raise InputError("stream", f"{spec.source}, {'a trained network' if trained else 'an artefact'}", "a data set")
    if trained:
        return _trained_network(spec)
    made: Artefact | AnyClouds
    clouds: AnyClouds
    if artefact is None:
        temperature, dataset = None, spec.source
        protocol = _protocol(spec, protocol_called(spec.protocol or "tuned"), None)
        if streamed and protocol.grid is not None:
            reason = f"{protocol.name}, which holds clouds out, with --stream"
            raise InputError("protocol", reason, "a set in memory")
        opened = stream if streamed else read
        made = clouds = opened(spec, spec.source, points=points or protocol.test_points, at_most=points is None)
        protocol = protocol.suiting(parts=clouds.parts is not None)
        fingerprint = clouds.fingerprint()
        remember(fingerprint, spec.source)
    else:
        if points is not None:
            raise InputError(spec.source, "an artefact with --points", "a data set")
        temperature, dataset = artefact.label_temperature, artefact.metadata.dataset
        stored = stored_protocol(artefact, spec.source)
        named = stored if spec.protocol in (None, stored.name) else protocol_called(str(spec.protocol))
        made, clouds, fingerprint = artefact, artefact.training_clouds, artefact.metadata.source_fingerprint
        protocol = _protocol(spec, named, temperature).suiting(parts=clouds.parts is not None)
    supervision = None
    if isinstance(spec, SupervisionSpec):
        kept = None if artefact is None else _kept(artefact, protocol, spec.device)
        supervision = _supervision(spec, clouds, temperature, protocol, kept, spec.device)
    return Training(
        source=spec.source, made=made, training_clouds=clouds, dataset=dataset, source_fingerprint=fingerprint,
        protocol=protocol, supervision=supervision,
    )  # fmt: skip


def open_subject(spec: SubjectSpec, *, real: bool = False, streamed: bool = False) -> Subject:
    """A set to train networks on, or a trained network, with the clouds to test on and to choose recipes on.

    Args:
        spec: what is asked for.
        real: whether the training set that an artefact was made from is needed in any case.
        streamed: as in `open_training`; what it is tested on is in memory.

    Raises:
        InputError: as `open_training`; a set to test on that is not here; an artefact that was made of clouds that a
            recipe is to be chosen on.
    """
    training = open_training(spec, streamed=streamed)
    opened = {one.name: getattr(training, one.name) for one in fields(Training)} | {"test_data": spec.test_data}
    dataset, protocol = spec.test_data or training.dataset, training.protocol
    if spec.test_data is None and not isinstance(training.made, AnyClouds):
        dataset = told(dataset, training.source_fingerprint, spec.source, "--test-data with the set to test on")
    test = _test_set(spec, dataset)
    opened["protocol"] = protocol = _tested_at(protocol, test, spec.test_points)
    if isinstance(training.made, Trained):
        made = training.made._replace(protocol=protocol)
        return Subject(**{**opened, "made": made}, test=_among(test, made.class_names))
    if isinstance(training.made, StreamedClouds):
        return Subject(**opened, test=test)
    if isinstance(training.made, PointClouds):
        clouds, validation = split(training.made, protocol)
        opened |= {"made": clouds, "training_clouds": clouds}
        return Subject(**opened, test=test, validation=validation, real=training.made)
    if protocol.grid is None and not real:
        return Subject(**opened, test=test)
    whole = read(spec, dataset, points=training.protocol.test_points, at_most=True)
    return Subject(**opened, test=test, validation=_held_out(training.made, whole, protocol, spec.source), real=whole)


def _test_set(spec: SubjectSpec, dataset: str) -> PointClouds:
    """The test split, all stored points of its clouds; of a folder at least those that are asked for."""
    test = read(spec, dataset, "test")
    if spec.test_points is not None and spec.test_points > test.points_per_cloud:
        if not any_number(test):
            raise InputError("test_points", f"{spec.test_points} of {test.points_per_cloud} stored", "at most as many")
        return read(spec, dataset, "test", points=spec.test_points)
    return test


def _tested_at(protocol: EvaluationProtocol, test: PointClouds, points: int | None) -> EvaluationProtocol:
    """The protocol at the points that are asked for, else at its own, or all there are if these are fewer."""
    points = points or min(protocol.test_points, test.points_per_cloud)
    return protocol.model_copy(update={"test_points": points})


def open_set(name: str, reading: Reading, split: str = "train", points: int | None = None) -> Artefact | PointClouds:
    """The artefact, or else the data set, of a name.

    Args:
        name: of a file, or of the catalog.
        reading: how a data set is read.
        split, points: of a data set, as in `data.load`.

    Raises:
        InputError: neither, or a file that cannot be read.
    """
    return Artefact.load_if_one(name) or read(reading, name, split, points=points)


def open_test_sets(names: Iterable[str], reading: Reading) -> TestSets:
    """The test splits of these data sets.

    Raises:
        InputError: one that is not there.
    """
    return {name: read(reading, name, "test") for name in names}


def made_from(artefact: Artefact, place: str, reading: Reading, data: str | None = None) -> tuple[PointClouds, bool]:
    """The training clouds that an artefact was made from, or those of `data`, and whether they are the very ones.

    They are where the fingerprint agrees: that of all stored points, or of the first ones that the artefact's protocol
    tests on; without what a protocol with a grid holds out. Where it does not, all points of all clouds are given.

    Raises:
        InputError: the set is not here, or no protocol of this release.
    """
    facts, protocol = artefact.metadata, stored_protocol(artefact, place)
    data = data or told(facts.dataset, facts.source_fingerprint, place, "--real with the training set")
    whole = read(reading, data)
    sizes = [None, *([protocol.test_points] if protocol.test_points < whole.points_per_cloud else [])]
    for size in sizes:
        clouds = whole if size is None else read(reading, data, points=size)
        if (part := split(clouds, protocol)[0]).fingerprint() == facts.source_fingerprint:
            return part, True
    return whole, False


def _trained_network(spec: TrainingSpec) -> Training:
    """A network in a file; what would change its training is refused."""
    trained = load_model(Path(spec.source))
    given = [name for name in OF_TRAINING if getattr(spec, name, None) not in (None, (), {})]
    if given and not (given == ["network"] and spec.network == trained.protocol.network):
        flags = " and ".join("--" + name.replace("_", "-") for name in given)
        raise InputError(spec.source, f"a trained network with {flags}", "a set to train on")
    thin = trained.protocol.thin or getattr(spec, "thin", False)
    trained = trained._replace(protocol=trained.protocol.model_copy(update={"thin": thin}))
    trained.network.to(spec.device)
    return Training(
        source=spec.source, made=trained, training_clouds=None, dataset=trained.dataset,
        source_fingerprint=trained.source_fingerprint, protocol=trained.protocol,
    )  # fmt: skip


def _protocol(spec: TrainingSpec, protocol: EvaluationProtocol, temperature: float | None) -> EvaluationProtocol:
    """A protocol with what is asked for, called NAME* with another recipe; `temperature` is that of labels."""
    changes: dict[str, Any] = {} if temperature is None else {"temperature": temperature}
    if isinstance(spec, SupervisionSpec):
        changes |= spec.loss()
    if spec.train_steps is not None:
        changes["steps"] = spec.train_steps
    changes["augmentation"] = spec.shown(protocol.recipe.augmentation)
    if isinstance(spec, SubjectSpec):
        protocol = protocol.model_copy(update={"thin": protocol.thin or spec.thin})
    if spec.network is not None:
        protocol = protocol.using(spec.network)
    return protocol.changed(**changes)


def _supervision(
    spec: SupervisionSpec,
    clouds: AnyClouds,
    temperature: float | None,
    protocol: EvaluationProtocol,
    kept: Online | None,
    device: str,
) -> Online | OnPolicy | None:
    """The teacher that is asked for; settings of soft labels are refused where there are none.

    Args:
        spec: what is asked for.
        clouds: the training set.
        temperature: of its labels, where they are another teacher's.
        protocol: of the student.
        kept: the teacher in the set's file, if there is one: who is asked for takes its place.
        device: where the teacher is asked.
    """
    soft = clouds.labels.ndim == 2
    if spec.teacher and clouds.parts is not None:
        raise InputError("teacher", "of a set whose points have parts", "none: it is labelled point by point")
    if not spec.teacher:
        if spec.loss() and not soft and kept is None:
            raise InputError(
                " and ".join(spec.loss()), "given, but labels are hard", "--teacher, or a set with soft labels"
            )
        return kept
    teacher = read_teacher(spec.teacher, protocol.recipe.temperature, device)
    teacher.check(clouds.class_names)
    options = spec.on_policy()
    if options is None:
        return Online(teacher)
    if soft and temperature not in (None, protocol.recipe.temperature):
        # Of a batch some labels are stored, others come from the teacher, and all are learned at one temperature.
        reason = f"{protocol.recipe.temperature:g} with --policy"
        raise InputError("temperature", reason, f"{temperature:g}, that of the set's labels")
    return OnPolicy(teacher, options)


def _kept(artefact: Artefact, protocol: EvaluationProtocol, device: str) -> Online | None:
    """The teacher in an artefact's file, at the temperature of its students, on a device."""
    kept = artefact.supervision
    return None if kept is None else Online(kept.teacher._replace(temperature=protocol.recipe.temperature).to(device))


def _held_out(artefact: Artefact, whole: PointClouds, protocol: EvaluationProtocol, place: str) -> PointClouds | None:
    """What a grid chooses a recipe on; an artefact that was made of these clouds, too, is refused."""
    made, validation = split(whole, protocol)
    if validation is None:
        return None
    if (rule := artefact.metadata.source.get("split_rule")) != made.provenance["split_rule"]:
        reason = f"made of clouds that protocol {protocol.name} chooses a recipe on"
        raise InputError(
            place, f"{reason} (its clouds: {rule or 'all of train'})", f"a set made with --protocol {protocol.name}"
        )
    return validation


def _among(test: PointClouds, class_names: Sequence[str]) -> PointClouds:
    """Test clouds labelled by a network's classes, which may be more, or in another order, as `adapt` leaves them."""
    return test.with_classes(class_names) if set(test.class_names) <= set(class_names) else test


def told(dataset: str, fingerprint: str, place: object, wanted: str) -> str:
    """Where the set is that a file says it was made from: where this machine read it, in the catalog, or here.

    A name with folders in it is no name that this package writes: a stranger's file does not choose what is opened.

    Args:
        dataset: what the file calls it.
        fingerprint: of the set's training clouds.
        place: the file.
        wanted: the flag that names the set instead.

    Raises:
        InputError: not read here before, no name of the catalog, nor that of something in the current folder.
    """
    if (found := remembered(fingerprint)) is not None:
        return found
    bare = dataset not in ("", ".", "..") and not any(mark in dataset for mark in "/\\:\0")
    if dataset not in CATALOG and not (bare and Path(dataset).exists()):
        raise InputError(place, f"made from {dataset[:80]!r}, which is not here", wanted)
    return dataset
