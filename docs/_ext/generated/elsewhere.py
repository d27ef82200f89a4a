"""Links to the documentation of other libraries: of types, where their lists of names are at hand, else plain text."""

import logging

from docutils.nodes import TextElement
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

BEFORE_INTERSPHINX = 400  # which is at 500


def connect(app: Sphinx) -> None:
    """Have a list that cannot be had be no warning: these pages are built without network as well."""
    logging.getLogger("sphinx.sphinx.ext.intersphinx").addFilter(_reached)
    app.connect("missing-reference", keep, priority=BEFORE_INTERSPHINX)


def keep(app: Sphinx, env: BuildEnvironment, node: pending_xref, text: TextElement) -> TextElement | None:
    """A single word in backticks, such as `random`, is ours, and no module of Python."""
    return text if node.get("reftype") == "obj" and "." not in node["reftarget"] else None


def _reached(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith("failed to reach any of the inventories")
