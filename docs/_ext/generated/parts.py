"""The parts of the package that must have a place on a page, and those that have one."""

from collections.abc import Iterable, Mapping

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

from pcdistill.commands import COMMANDS
from pcdistill.matching import objectives
from pcdistill.selection import selectors
from pcdistill.storage import storages

PARTS: Mapping[str, Iterable[str]] = {
    "command": COMMANDS,
    "objective": objectives,
    "selector": selectors,
    "storage": storages,
}
# What to write for one that has no page.
PLACES = {
    "command": "docs/commands/{0}.md with a heading and the directives ```{{synopsis}} {0}``` and ```{{flags}} {0}```",
    "objective": "docs/methods/{0}.md with a heading and the directive ```{{about}} objective {0}```",
    "selector": "docs/methods/selection.md with the directive ```{{about}} selector {0}```",
    "storage": "docs/methods/storages.md with the directive ```{{about}} storage {0}```",
}
Shown = dict[str, set[tuple[str, str]]]  # page to (kind, name)


def shown(env: BuildEnvironment) -> Shown:
    """What every page shows, as far as the pages have been read."""
    if not hasattr(env, "pcdistill_parts"):
        env.pcdistill_parts = {}  # type: ignore[attr-defined]
    found: Shown = env.pcdistill_parts  # type: ignore[attr-defined]
    return found


def note(env: BuildEnvironment, kind: str, name: str) -> None:
    """Note that the page that is being read shows a part."""
    shown(env).setdefault(env.docname, set()).add((kind, name))


def forget(app: Sphinx, env: BuildEnvironment, docname: str) -> None:
    """A page is read anew, or gone."""
    shown(env).pop(docname, None)


def merge(app: Sphinx, env: BuildEnvironment, docnames: Iterable[str], other: BuildEnvironment) -> None:
    """Pages that another process has read."""
    shown(env).update({docname: parts for docname, parts in shown(other).items() if docname in docnames})


def complain(app: Sphinx, env: BuildEnvironment) -> None:
    """Warn of every part that stands on no page."""
    there = set().union(*shown(env).values())
    for kind, names in PARTS.items():
        for name in names:
            if (kind, name) not in there:
                logging.getLogger(__name__).warning(
                    "%s '%s' has no page: write %s", kind, name, PLACES[kind].format(name)
                )
