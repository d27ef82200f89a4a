"""`pcdistill audit`: what an artefact's clouds look like beside real ones, and whether they are copies of them."""

import json
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field
from torch import Tensor

from pcdistill.artefact.artefact import Artefact
from pcdistill.clouds import PointClouds
from pcdistill.commands.base import Command, tell, warn
from pcdistill.core.errors import InputError
from pcdistill.core.files import atomic, check_output
from pcdistill.core.options import Device, Force, Positional, Reading
from pcdistill.core.progress import Say, progress
from pcdistill.data.reading import read
from pcdistill.evaluation.audit import CHANCE, Findings, audit, rounding
from pcdistill.evaluation.part_scores import part_shares
from pcdistill.evaluation.subject import made_from, told

SHOWN = 5  # of the clouds that are as near as copies, the nearest


class Audited(NamedTuple):
    """An audit, and what was compared with what.

    Attributes:
        artefact: whose stored clouds, not what is made of them in training.
        real: name of the training set.
        same: whether it is the one that the artefact was made from.
    """

    artefact: Artefact
    real: str
    same: bool
    findings: Findings
    parts: tuple[Tensor, Tensor] | None = None  # `part_shares` of stored and of real clouds, where they have the same


class Audit(Reading, Command):
    """Compare an artefact's clouds with real ones: how near they are, what they cover, and whether they are copies."""

    source: Annotated[Path, Positional, Field(description="artefact")]
    real: Annotated[
        str | None, Field(description="data set to compare with (default: the one that it was made from)")
    ] = None
    per_class: Annotated[bool, Field(description="print every class")] = False
    device: Device = "cpu"
    output: Annotated[Path | None, Field(description="file to write, with every cloud's distances (.json)")] = None
    force: Force = False
    json_: Annotated[bool, Field(alias="json", description="print one JSON object instead of text")] = False

    def run(self, say: Say) -> None:
        if self.output is not None:
            if self.output.suffix != ".json":
                raise InputError("output", str(self.output), "a name that ends in .json")
            check_output(self.output, self.force)
        audited = self._audited()
        if not audited.same:
            warn(f"{self.source} was not made from '{audited.real}' as it is here")
        if self.output is not None:
            with atomic(self.output) as temporary:
                temporary.write_text(json.dumps(_facts(audited)) + "\n", encoding="utf-8")
        if self.json_:
            say(json.dumps(_facts(audited)))
            return
        if self.per_class:
            say(_per_class(audited))
        say(_summary(audited))
        if self.output is not None:
            say(f"wrote {self.output}")

    def _audited(self) -> Audited:
        """The artefact beside the set that it was made from, or the one that is asked for."""
        artefact = Artefact.load(self.source)
        facts, name = artefact.metadata, self.real or artefact.metadata.dataset
        place = self.real or told(name, facts.source_fingerprint, self.source, "--real with the training set")
        real, same = made_from(artefact, str(self.source), self, place)
        test = read(self, place, "test", points=real.points_per_cloud)  # in the same frame
        tell(real, test)
        with progress("comparing", len(artefact.metadata.class_names)) as report:
            findings = audit(artefact.clouds, real, test, rounding(artefact), report, self.device)
        return Audited(artefact, name, same, findings, _shares(artefact.clouds, real))


def _facts(audited: Audited) -> dict[str, Any]:
    """Everything that was found, as plain values: of all clouds, of every class, and of every cloud."""
    artefact, findings = audited.artefact, audited.findings
    labels, names = artefact.clouds.hard_labels.tolist(), artefact.metadata.class_names
    each = {**findings.near._asdict(), "near": findings.copies, "traced": findings.traced}
    near = {name: values.tolist() for name, values in each.items()}
    clouds = [
        {"class": names[label], **{name: values[place] for name, values in near.items()}}
        for place, label in enumerate(labels)
    ]
    return {
        "arm": artefact.metadata.arm,
        "dataset": artefact.metadata.dataset,
        "real": audited.real,
        "made_from_it": audited.same,
        "points": artefact.metadata.points,
        "rounded_to_bits": rounding(artefact),
        "bounds": findings.bounds._asdict(),
        **_part_facts(audited),
        **findings.overall.facts(),
        "classes": {name: quality.facts() for name, quality in findings.classes.items()},
        "clouds": clouds,
    }


def _summary(audited: Audited) -> str:
    """What was found, for people to read: all classes together, beside training and test clouds."""
    quality, clouds = audited.findings.overall, audited.artefact.clouds
    made_from_it = "that they were made from" if audited.same else f"of {audited.real}"
    sides = [side for side in (quality.made, quality.training, quality.test) if side is not None]
    chance = f"{_percent(CHANCE)} by chance"
    rows = [
        ("clouds compared", [f"{side.clouds:,}" for side in sides], "of real ones some of every class"),
        ("Chamfer distance", [f"{side.chamfer:.4f}" for side in sides], "to the nearest training cloud, squared"),
        ("earth mover's distance", [f"{side.emd:.4f}" for side in sides], "to the same cloud"),
        (
            "distance to its surface",
            [f"{side.ratio:.2f}" for side in sides],
            "1: the median of training clouds",
        ),
        ("as near as copies", [_percent(side.near) for side in sides], chance),
        (
            "nearest over second",
            [f"{side.margin:.2f}" for side in sides],
            "Chamfer distances, to the nearest and the next",
        ),
        ("traced to one cloud", [_percent(side.traced) for side in sides], chance),
        (
            "authentic",
            [_percent(side.authentic) for side in sides],
            "farther from it than it is from another",
        ),
        ("unevenness", [f"{side.uneven:.2f}" for side in sides], "of the gaps between points; 0: all equal"),
        (
            "least matching distance",
            [f"{quality.mmd:.4f}", f"{quality.training_mmd:.4f}"],
            "from a training cloud to the nearest of the set, or of as many training clouds",
        ),
        (
            "coverage",
            [_percent(quality.coverage)],
            f"{quality.covered} training clouds are the nearest of some cloud; {quality.coverable} at most can be",
        ),
    ]
    header = ["this set", "training", "test"][: len(sides)]
    title = (
        f"{audited.artefact.metadata.arm}: {len(clouds)} clouds x {clouds.points_per_cloud} points beside the "
        f"{quality.training_clouds:,} training clouds {made_from_it}"
    )
    width = 10 * len(sides)
    lines = [
        f"{name:24}{''.join(f'{cell:>10}' for cell in cells):{width}}   {note}".rstrip() for name, cells, note in rows
    ]
    head = f"{'':24}" + "".join(f"{word:>10}" for word in header)
    return "\n".join([title, head, *lines, _verdict(audited), *_part_lines(audited)])


def _shares(clouds: PointClouds, real: PointClouds) -> tuple[Tensor, Tensor] | None:
    """Shares of parts of both, where they have parts of the same names."""
    if clouds.part_names is None or clouds.part_names != real.part_names or clouds.class_names != real.class_names:
        return None
    return part_shares(clouds), part_shares(real)


def _part_facts(audited: Audited) -> dict[str, Any]:
    """Shares of the parts of every class, stored and real."""
    names = audited.artefact.clouds.part_names
    if audited.parts is None or names is None:
        return {}
    made, training = audited.parts
    return {"parts": {
        label: {names.names[part]: {"made": float(made[number, part]), "training": float(training[number, part])}
                for part in names.of_class[number]}
        for number, label in enumerate(audited.artefact.metadata.class_names)
    }}  # fmt: skip


def _part_lines(audited: Audited) -> list[str]:
    """How far shares of parts are from those of training clouds, on average over classes, and where most."""
    facts = _part_facts(audited).get("parts")
    if not facts:
        return []
    gaps = [
        (share["made"] - share["training"], f"{part} of {label}")
        for label, own in facts.items()
        for part, share in own.items()
    ]
    moved = sum(abs(gap) for gap, _ in gaps) / 2 / len(facts)
    gap, where = max(gaps, key=lambda one: abs(one[0]))
    few = "more" if gap > 0 else "less"
    return [
        f"Of the points of a class {_percent(moved)} are of another part than in training clouds, on average; the most "
        f"in {where}, {_percent(abs(gap))} {few}."
    ]


def _verdict(audited: Audited) -> str:
    """Whether the clouds are copies, in a sentence or two; and which ones, if some are."""
    findings = audited.findings
    quality, copies, traced = findings.overall, int(findings.copies.sum()), int(findings.traced.sum())
    fresh = quality.training if quality.test is None else quality.test
    return (
        f"{copies} of {quality.made.clouds} clouds {'is' if copies == 1 else 'are'} as near to a training cloud as "
        f"copies would be (of real clouds that are no copies {_percent(fresh.near)}, of copies made for "
        f"comparison {_percent(quality.copies)}).\n"
        f"{traced} can be traced to one training cloud, as moved copies can (of real clouds that are no copies "
        f"{_percent(fresh.traced)})."
        + _listed("\nNearest: ", findings.copies, findings.near.ratio, findings.near.source, audited)
        + _listed("\nTraced: ", findings.traced, findings.near.margin, findings.near.nearest, audited)
    )


def _listed(title: str, flagged: Tensor, measure: Tensor, twin: Tensor, audited: Audited) -> str:
    """The first of the clouds that are flagged, by a measure, with the training clouds that they are compared with."""
    labels, names = audited.artefact.clouds.hard_labels, audited.artefact.metadata.class_names
    places = measure.argsort()[: min(int(flagged.sum()), SHOWN)].tolist()
    words = [
        f"{names[int(labels[at])]} {at} to training cloud {int(twin[at])} ({float(measure[at]):.2f})" for at in places
    ]
    return title + "; ".join(words) if words else ""


def _per_class(audited: Audited) -> str:
    """A line for every class."""
    width = max(map(len, audited.findings.classes))
    titles = ("clouds", "Chamfer", "EMD", "surface", "near", "traced", "authentic", "uneven", "covered")
    lines = [f"{'':{width}}" + "".join(f"{title:>11}" for title in titles)]
    for name, quality in audited.findings.classes.items():
        made = quality.made
        cells = (
            f"{made.clouds}", f"{made.chamfer:.4f}", f"{made.emd:.4f}", f"{made.ratio:.2f}", _percent(made.near),
            _percent(made.traced), _percent(made.authentic), f"{made.uneven:.2f}",
            f"{quality.covered} of {quality.coverable}",
        )  # fmt: skip
        lines.append(f"{name:{width}}" + "".join(f"{cell:>11}" for cell in cells))
    return "\n".join(lines)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
