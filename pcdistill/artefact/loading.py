"""Clouds of a data set or an artefact by name."""

import os
from functools import update_wrapper
from typing import Any

from pcdistill import data
from pcdistill.artefact.artefact import Artefact
from pcdistill.artefact.places import HUB, ZOO
from pcdistill.clouds import PointClouds


def load(name: str | os.PathLike[str], *arguments: Any, **keywords: Any) -> PointClouds:
    if str(name).startswith((ZOO, HUB)) and not (arguments or keywords):
        return Artefact.load(name).training_clouds
    return data.load(name, *arguments, **keywords)


update_wrapper(load, data.load)
