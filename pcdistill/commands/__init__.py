"""A command is a file: its flags, its work and what it says."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pcdistill.commands.base import Command

COMMANDS = {
    "data": "list, describe, convert data sets",
    "select": "choose real clouds",
    "pack": "all of a set in one small file",
    "distill": "condense a set into synthetic clouds",
    "experts": "record what trajectory matching follows",
    "train": "train one network",
    "teachers": "find the teacher that suits a student and a set",
    "adapt": "teach a trained network new classes or a new domain",
    "evaluate": "accuracy of networks trained on a set, or of a trained one",
    "rank": "score an artefact apart from labels and recipe",
    "audit": "compare a set's clouds with real ones: nearness, coverage, copies",
    "export": "networks for devices, clouds for other tools",
    "predict": "say what objects in files are",
    "view": "pictures, animations, a page, a window",
    "show": "what is in an artefact or a network",
    "compare": "a grid of methods, budgets and networks",
    "report": "join records into tables, or a page",
    "cite": "BibTeX of what an artefact stands on",
    "card": "a page on an artefact: what it is, holds, costs and may be used for",
    "zoo": "artefacts that come with the package",
    "push": "publish an artefact with its card on the Hugging Face Hub",
    "demo": "all of it on the built-in set",
    "doctor": "what works here, and what is missing",
    "cache": "what is kept for next time",
    "completion": "for the tab key of a shell",
}
"""Names of the commands, in the order in which one meets them, and what each is for."""


RENAMED = {"teach": "teachers"}
"""Names that commands had in an earlier release, and those that they have now."""

EVERYWHERE = {
    "--quiet": "show no progress",
    "--verbose": "say when each stage begins and ends",
    "--debug": "show tracebacks",
}
"""Flags of all commands that are no settings, and what they do."""


def command(name: str) -> "type[Command]":
    """The class of a command; its file is imported only now, so that help and typing errors are answered at once."""
    found: type[Command] = getattr(import_module(f"{__name__}.{name}"), name.capitalize())
    return found
