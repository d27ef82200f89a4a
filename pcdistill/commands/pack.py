"""`pcdistill pack`: all of a set in one small file."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from pcdistill.commands.base import Command
from pcdistill.commands.making import summary
from pcdistill.condense import make
from pcdistill.core.files import check_writable
from pcdistill.core.options import Positional, Root
from pcdistill.core.progress import Say
from pcdistill.data import load
from pcdistill.evaluation import split
from pcdistill.training.recipe import protocol


class Pack(Command):
    """Store all clouds of a set as voxels, in an artefact that is trained on like any other; the set is in memory."""

    data: Annotated[str, Positional, Field(description="catalog name, HDF5 file or folder")]
    output: Annotated[Path, Field(description="artefact to write (.h5)")]
    side: Annotated[int, Field(ge=4, le=64, description="cells a side of a grid")] = 16
    points: Annotated[int, Field(ge=1, description="that a cloud is decoded to")] = 256
    protocol: Annotated[str, Field(description="how it is meant to be evaluated: tuned, published or sweep")] = "tuned"
    root: Root = None

    def run(self, say: Say) -> None:
        plan = protocol(self.protocol)
        check_writable(self.output)
        real = split(load(self.data, "train", root=self.root), plan)[0]
        artefact = make.pack(real, plan, side=self.side, points=self.points, dataset=self.data)
        artefact.save(self.output)
        say(f"wrote {self.output}: {summary(artefact)}")
