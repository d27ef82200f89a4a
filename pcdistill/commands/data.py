"""`pcdistill data`: list, describe and convert data sets."""

import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from pcdistill.commands.base import Command
from pcdistill.core.errors import InputError
from pcdistill.core.files import check_writable
from pcdistill.core.options import Positional, Root, Seed
from pcdistill.core.progress import Say
from pcdistill.data import catalog, info, load, write_hdf5


class Data(Command):
    """List the data sets of the catalog, describe one, or convert one to the project's HDF5 file."""

    action: Annotated[Literal["list", "info", "convert"], Positional, Field(description="list, info or convert")]
    name: Annotated[str | None, Positional, Field(description="catalog name, file or folder")] = None
    output: Annotated[Path | None, Field(description="HDF5 file to write (convert)")] = None
    root: Root = None
    points: Annotated[int | None, Field(ge=1, description="points per cloud (convert)")] = None
    seed: Seed = 0

    def run(self, say: Say) -> None:
        if self.action == "list":
            for row in catalog(self.root):
                where = row.found or "not found (see datasets/)"
                say(f"{row.name:27} {row.classes:3} classes {row.train:6} train {row.test:6} test   {where}")
            return
        if self.name is None:
            raise InputError(f"data {self.action}", "no data set named", "a catalog name, file or folder")
        if self.action == "info":
            say(json.dumps(info(self.name, self.root), indent=2))
            return
        if self.output is None:
            raise InputError("data convert", "no --output", "the HDF5 file to write")
        check_writable(self.output)
        train, test = (
            load(self.name, split, root=self.root, points=self.points, seed=self.seed) for split in ("train", "test")
        )
        write_hdf5(train, test, self.output)
        say(f"wrote {self.output}: {len(train)} + {len(test)} clouds x {train.points_per_cloud} points")
