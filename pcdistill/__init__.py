"""Condense labelled sets of 3D point clouds into a few kilobytes per class.

>>> import pcdistill as pcd
>>> clouds = pcd.load("shapes", "test", points=64)
>>> clouds
PointClouds(shapes: 400 clouds x 64 points, 10 classes)
"""

from pcdistill.clouds import PointClouds
from pcdistill.config import DistillConfig, EvaluateConfig, SelectConfig, TrainConfig
from pcdistill.data import from_pyg, load, to_pyg
from pcdistill.distill import DistillSettings, distill
from pcdistill.errors import InputError
from pcdistill.evaluation import evaluate
from pcdistill.expansion import Expansion, expand
from pcdistill.jobs import run_distill, run_evaluate, run_select, run_train
from pcdistill.matching import objectives
from pcdistill.matrices import run_matrix
from pcdistill.models import networks
from pcdistill.selection import select, selectors
from pcdistill.storage import Artefact, Budget, storages
from pcdistill.training import Protocol, Recipe, protocol, recipe
from pcdistill.viewing import gallery

__all__ = [
    "Artefact",
    "Budget",
    "DistillConfig",
    "DistillSettings",
    "EvaluateConfig",
    "Expansion",
    "InputError",
    "PointClouds",
    "Protocol",
    "Recipe",
    "SelectConfig",
    "TrainConfig",
    "distill",
    "evaluate",
    "expand",
    "from_pyg",
    "gallery",
    "load",
    "networks",
    "objectives",
    "protocol",
    "recipe",
    "run_distill",
    "run_evaluate",
    "run_matrix",
    "run_select",
    "run_train",
    "select",
    "selectors",
    "storages",
    "to_pyg",
]
