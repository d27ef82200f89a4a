"""What the commands that make a set have in common: where it is made from, and where it goes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, ClassVar

import torch
from pydantic import Field

from pcdistill.artefact.artefact import Artefact, finesse
from pcdistill.clouds import CloudSource
from pcdistill.commands.base import Command, tell
from pcdistill.condense.plan import SelectPlan
from pcdistill.condense.preview import preview
from pcdistill.core.errors import InputError
from pcdistill.core.options import Force, Reading, Streamed
from pcdistill.core.progress import Say
from pcdistill.data import any_number
from pcdistill.data.places import remember
from pcdistill.data.reading import read, stream
from pcdistill.evaluation import split
from pcdistill.training.recipe import EvaluationProtocol


class Making(Reading, Command):
    """A command that makes an artefact of a data set."""

    heading: ClassVar[str] = "data"

    data: Annotated[str, Field(description="catalog name, HDF5 file or folder")]
    output: Annotated[Path, Field(description="artefact to write (.h5)")]
    stream: Streamed = False
    force: Force = False

    @contextmanager
    def real(
        self, protocol: EvaluationProtocol, points: int | None = None, noted: bool = True
    ) -> Iterator[CloudSource]:
        """The clouds that the set is made of, without those that `protocol` chooses recipes on.

        They are in memory, or with `stream` an open file. A folder gives them `points` points at least. Where it was
        read is remembered, if `noted`.
        """
        if not self.stream:
            clouds = read(self, self.data)
            if points is not None and points > clouds.points_per_cloud and any_number(clouds):
                clouds = read(self, self.data, points=points)
            tell(clouds)
            whole = split(clouds, protocol)[0]
            if noted:
                remember(whole.fingerprint(), self.data)
            yield whole
            return
        if protocol.grid is not None:
            raise InputError("protocol", f"{protocol.name}, which holds clouds out, with --stream", "a set in memory")
        with stream(self, self.data) as real:
            tell(real)
            yield real
            if noted:
                remember(real.fingerprint(), self.data)  # which takes a pass over the file, unless it was asked for

    def foresee(self, plan: SelectPlan, points: int | None, say: Say) -> None:
        """Say what `plan` would make, and make nothing of it."""
        with self.real(plan.protocol, points, noted=False) as real:
            made, standing_in, settings, seconds = preview(real, plan)
        say(f"would write {self.output}: {summary(made)}, {made.nbytes:,} bytes in all")
        counts = torch.bincount(made.storage.labels)
        if counts.min() < counts.max():
            say(f"  from {counts.min()} to {counts.max()} clouds a class")
        if standing_in:
            say("  about: random clouds stood in for those that trained networks would choose")
        if settings is None:
            return
        steps = f"{settings.steps:,} steps of at most {min(settings.batch, len(made.storage)):,} clouds"
        if seconds is None:
            say(f"  {steps}, after networks or experts are made of the set, which are not in the cache")
        else:
            say(f"  {steps}, about {seconds:.0f} s distilling")


def prepared(artefact: Artefact, kept: bool) -> str:
    """What the networks or experts took that a set was distilled with."""
    seconds = f"{artefact.metadata.prepare_seconds:.0f} s"
    return f"from the cache; {seconds} when made" if kept else f"{seconds}, kept for next time"


def summary(artefact: Artefact) -> str:
    """Its size in one line."""
    facts = artefact.metadata
    coded = " (entropy-coded)" if facts.storage in ("coded", "voxels") else ""
    return (
        f"{len(facts.class_names)} classes x {round(facts.clouds_per_class, 1):g} clouds x {facts.points} points "
        f"{finesse(artefact)}, {artefact.bytes_per_class:,.0f} bytes per class{coded}"
    )
