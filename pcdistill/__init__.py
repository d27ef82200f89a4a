"""Condense labelled sets of 3D point clouds into a few kilobytes per class.

>>> import pcdistill as pcd
>>> clouds = pcd.load("shapes", "test", points=64)
>>> clouds
PointClouds(shapes: 400 clouds x 64 points, 10 classes)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for type checkers; `__getattr__` imports
    from pcdistill.artefact import Artefact, Expansion, expand, load
    from pcdistill.clouds import PointClouds
    from pcdistill.condense import distill, select
    from pcdistill.core.errors import InputError
    from pcdistill.data import from_dataset, from_pyg, to_pyg
    from pcdistill.evaluation import evaluate, train
    from pcdistill.matching import objectives
    from pcdistill.models import as_network, networks
    from pcdistill.selection import selectors
    from pcdistill.storage import storages
    from pcdistill.training import EvaluationProtocol, Recipe, protocol, recipe
    from pcdistill.viewing import gallery

_ROOMS = {
    "Artefact": "artefact",
    "Expansion": "artefact",
    "InputError": "core.errors",
    "PointClouds": "clouds",
    "EvaluationProtocol": "training",
    "Recipe": "training",
    "as_network": "models",
    "distill": "condense",
    "evaluate": "evaluation",
    "expand": "artefact",
    "from_dataset": "data",
    "from_pyg": "data",
    "gallery": "viewing",
    "load": "artefact",
    "networks": "models",
    "objectives": "matching",
    "protocol": "training",
    "recipe": "training",
    "select": "condense",
    "selectors": "selection",
    "storages": "storage",
    "to_pyg": "data",
    "train": "evaluation",
}

__all__ = [
    "Artefact",
    "EvaluationProtocol",
    "Expansion",
    "InputError",
    "PointClouds",
    "Recipe",
    "as_network",
    "distill",
    "evaluate",
    "expand",
    "from_dataset",
    "from_pyg",
    "gallery",
    "load",
    "networks",
    "objectives",
    "protocol",
    "recipe",
    "select",
    "selectors",
    "storages",
    "to_pyg",
    "train",
]


def __getattr__(name: str) -> Any:
    """What is asked for is imported only then: the command line answers `--help` without torch."""
    if name not in _ROOMS:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
