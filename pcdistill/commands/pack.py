"""`pcdistill pack`: all of a set in one small file."""

from typing import Annotated

from pydantic import Field

from pcdistill.commands.making import Making, summary
from pcdistill.condense import make
from pcdistill.core.files import check_output
from pcdistill.core.options import Positional
from pcdistill.core.progress import Say, progress
from pcdistill.training.recipe import protocol


class Pack(Making):
    """Store all clouds of a set as voxels, in an artefact that is trained on like any other."""

    data: Annotated[str, Positional, Field(description="catalog name, HDF5 file or folder")]
    side: Annotated[int, Field(ge=4, le=64, description="cells a side of a grid")] = 16
    points: Annotated[int, Field(ge=1, description="that a cloud is decoded to")] = 256
    protocol: Annotated[
        str, Field(description="how it is meant to be evaluated: tuned, converged, published or sweep")
    ] = "tuned"

    def run(self, say: Say) -> None:
        plan = protocol(self.protocol)
        check_output(self.output, self.force)
        with self.real(plan) as real, progress("packing", len(real.labels)) as report:
            artefact = make.pack(
                real, plan, side=self.side, points=self.points, dataset=self.data, on_progress=report
            )  # fmt: skip
        artefact.save(self.output)
        say(f"wrote {self.output}: {summary(artefact)}")
