"""Put the sets of the grid that come with the package into `pcdistill/artefact/zoo`, with card and picture.

python -m benchmarks.zoo.ship      # makes sets that are not in runs/sets
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from benchmarks.sets import ROOT
from pcdistill.artefact.places import ZOO
from pcdistill.commands.card import Card
from pcdistill.core.options import read_toml
from pcdistill.experiments.cells import Cell, cells
from pcdistill.experiments.grid import set_of
from pcdistill.experiments.spec import GridSpec
from pcdistill.results.record import PRESET, WHOLE, Record, read_records

HERE = Path(__file__).parent
FOLDER = ROOT / "pcdistill" / "artefact" / "zoo"


def shipped(spec: GridSpec, records: Sequence[Record]) -> dict[str, Cell]:
    """What is shipped, by name: what was measured, but random and whole sets."""
    measured = {(one.dataset, one.arm, one.variant) for one in records}
    named: dict[str, Cell] = {}
    for cell in cells(spec):
        arm, size = cell.arm.removeprefix(PRESET), cell.record_facts()["variant"]
        if arm not in ("random", WHOLE) and (cell.data, arm, size) in measured:
            named[f"{cell.data}-{size}"] = cell
    return named


def main() -> None:
    """Files, cards and pictures of all."""
    values, records = read_toml(HERE / "grid.toml", GridSpec), read_records(HERE / "records.jsonl")
    for name, cell in shipped(GridSpec.checked(values, "grid.toml"), records).items():
        one = GridSpec.checked({**values, "only": [" ".join(cell.words())]}, "grid.toml")
        file = FOLDER / f"{name}.h5"
        shutil.copyfile(set_of(one), file)
        page = Card(source=ZOO + name, output=file.with_suffix(".md"), records=(HERE / "records.jsonl",), force=True)
        page.run(print)


if __name__ == "__main__":
    main()
