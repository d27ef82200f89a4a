"""`pcdistill data`: list, describe and convert data sets."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from pcdistill.commands.base import Command, tell, warn
from pcdistill.core.errors import InputError
from pcdistill.core.files import check_output
from pcdistill.core.options import Force, Positional, Reading, Seed
from pcdistill.core.progress import Say
from pcdistill.data import catalog, info, write_hdf5
from pcdistill.data.catalog import load_counted
from pcdistill.data.check import check
from pcdistill.data.objects import MESH_POINTS
from pcdistill.data.prepare import Counted, MissingSplit, Wanted
from pcdistill.data.reading import wanted
from pcdistill.results.table import Table


class Data(Reading, Command):
    """List the data sets of the catalog, describe or check one, or convert one to the project's HDF5 file."""

    action: Annotated[
        Literal["list", "info", "check", "convert"], Positional, Field(description="list, info, check or convert")
    ]
    name: Annotated[str | None, Positional, Field(description="catalog name, file or folder")] = None
    output: Annotated[Path | None, Field(description="HDF5 file to write (convert)")] = None
    points: Annotated[
        int | None,
        Field(ge=1, description="points per cloud (default: as stored, or 1024 where clouds have unequal numbers)"),
    ] = None
    seed: Seed = 0
    json_: Annotated[bool, Field(alias="json", description="print one JSON object instead of text (info)")] = False
    force: Force = False

    def run(self, say: Say) -> None:
        if self.action == "list":
            for row in catalog(self.root):
                where = row.found or "not found (see datasets/)"
                say(f"{row.name:27} {row.classes:3} classes {row.train:6} train {row.test:6} test   {where}")
            return
        if self.name is None:
            raise InputError(f"data {self.action}", "no data set named", "a catalog name, file or folder")
        if self.action == "info":
            said = info(self.name, self.root, wanted(self, self.points, self.seed), tell)
            say(json.dumps(said, indent=2) if self.json_ else _told(said))
            return
        if self.action == "check":
            self._check(self.name, say)
            return
        if self.output is None:
            raise InputError("data convert", "no --output", "the HDF5 file to write")
        check_output(self.output, self.force)
        self._convert(self.name, self.output, say)

    def _check(self, name: str, say: Say) -> None:
        """Say what there is and all that is wrong.

        Raises:
            InputError: anything is wrong.
        """
        found = check(name, wanted(self, self.points, self.seed), self.root)
        for line in found.facts:
            say(line)
        for line in found.faults:
            say(f"wrong: {line}")
        if found.faults:
            count = len(found.faults)
            raise InputError(name, f"{count} {'fault' if count == 1 else 'faults'}, as listed", "none")
        say("nothing wrong")

    def _convert(self, name: str, output: Path, say: Say) -> None:
        """Write both splits, or the one that there is, at one number of points."""
        how = wanted(self, self.points, self.seed)
        found = self._splits(name, how)
        if len({one.clouds.points_per_cloud for one in found.values()}) > 1:
            found = self._splits(name, replace(how, points=MESH_POINTS))
        train, test = found["train"].clouds, found["test"].clouds if "test" in found else None
        numbers = {split: one.numbers for split, one in found.items() if one.numbers is not None}
        numbers = {} if all((each == train.points_per_cloud).all() for each in numbers.values()) else numbers
        write_hdf5(train, test, output, true_points=numbers)
        tell(train, test)
        bad = sum(int(one.clouds.provenance.get("skipped", 0)) for one in found.values())
        both = f"{len(train)}" if test is None else f"{len(train)} + {len(test)}"
        without = f", without {bad} that cannot be used" if bad else ""
        say(f"wrote {output}: {both} clouds x {train.points_per_cloud} points{without}")

    def _splits(self, name: str, wanted: Wanted) -> dict[str, Counted]:
        """Both splits, or train alone where there is no other."""
        found = {"train": load_counted(name, "train", wanted, self.root)}
        try:
            found["test"] = load_counted(name, "test", wanted, self.root)
        except MissingSplit as missing:
            warn(f"train alone: {missing}")
        return found


def _told(facts: Mapping[str, Any]) -> str:
    """What `info` found, for people: facts of the set, and a line for every class."""
    splits = facts["splits"]
    first = next(iter(splits.values()))
    source = {key: first["provenance"].get(key) for key in ("source", "up_axis")}
    lines = {"name": facts["name"], **{key: facts.get(key) for key in ("licence", "url", "card")}, **source}
    lines |= {f"{name} clouds": f"{split['clouds']:,} x {split['points']:,} points" for name, split in splits.items()}
    rows = [[name, *(split["per_class"][name] for split in splits.values())] for name in facts["classes"]]
    described = [f"{key.replace('_', ' '):13} {value}" for key, value in lines.items() if value]
    return "\n".join([*described, "", Table(["class", *splits], rows).text(), *_parts(facts.get("parts", {}))])


def _parts(of_class: Mapping[str, Sequence[str]]) -> list[str]:
    """Parts that points are labelled with: of every class, or a line for each where they have others."""
    if not of_class:
        return []
    every = dict.fromkeys(name for own in of_class.values() for name in own)
    if all(len(own) == len(every) for own in of_class.values()):
        return ["", f"parts of every class: {', '.join(every)}"]
    return ["", f"{len(every)} parts:", *(f"  {name}: {', '.join(own)}" for name, own in of_class.items())]
