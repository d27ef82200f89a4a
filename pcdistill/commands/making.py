"""What the commands that make a set have in common: where it is made from, and where it goes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from pcdistill.artefact.artefact import Artefact, finesse
from pcdistill.clouds import CloudSource
from pcdistill.commands.base import Command, tell
from pcdistill.core.errors import InputError
from pcdistill.core.options import Root, Streamed, UpAxis
from pcdistill.data import any_number, load, open_streamed
from pcdistill.evaluation import split
from pcdistill.training.recipe import EvaluationProtocol


class Making(Command):
    """A command that makes an artefact of a data set."""

    heading: ClassVar[str] = "data"

    data: Annotated[str, Field(description="catalog name, HDF5 file or folder")]
    output: Annotated[Path, Field(description="artefact to write (.h5)")]
    root: Root = None
    stream: Streamed = False
    up_axis: UpAxis = None

    @contextmanager
    def real(self, protocol: EvaluationProtocol, points: int | None = None) -> Iterator[CloudSource]:
        """The clouds that the set is made of, without those that `protocol` chooses recipes on.

        They are in memory, or with `stream` an open file. A folder gives them `points` points at least.
        """
        if not self.stream:
            clouds = load(self.data, "train", root=self.root, up_axis=self.up_axis)
            if points is not None and points > clouds.points_per_cloud and any_number(clouds):
                clouds = load(self.data, "train", root=self.root, up_axis=self.up_axis, points=points)
            tell(clouds)
            yield split(clouds, protocol)[0]
            return
        if protocol.grid is not None:
            raise InputError("protocol", f"{protocol.name}, which holds clouds out, with --stream", "a set in memory")
        with open_streamed(self.data, "train", root=self.root, up_axis=self.up_axis) as real:
            yield real


def summary(artefact: Artefact) -> str:
    """Its size in one line."""
    facts = artefact.metadata
    coded = " (entropy-coded)" if facts.storage in ("coded", "voxels") else ""
    return (
        f"{len(facts.class_names)} classes x {round(facts.clouds_per_class, 1):g} clouds x {facts.points} points "
        f"{finesse(artefact)}, {artefact.bytes_per_class:,.0f} bytes per class{coded}"
    )
