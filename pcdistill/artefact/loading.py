"""Clouds of a data set or an artefact by name."""

import os
from collections.abc import Callable
from functools import update_wrapper
from typing import Concatenate, ParamSpec

from pcdistill import data
from pcdistill.artefact.artefact import Artefact
from pcdistill.artefact.places import HUB, ZOO
from pcdistill.clouds import PointClouds

Name = str | os.PathLike[str]
More = ParamSpec("More")


def _or_named(
    load: Callable[Concatenate[Name, More], PointClouds],
) -> Callable[Concatenate[Name, More], PointClouds]:
    def either(name: Name, /, *arguments: More.args, **keywords: More.kwargs) -> PointClouds:
        if str(name).startswith((ZOO, HUB)) and not (arguments or keywords):
            return Artefact.load(name).training_clouds
        return load(name, *arguments, **keywords)

    update_wrapper(either, load)
    return either


load = _or_named(data.load)
