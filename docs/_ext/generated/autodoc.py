"""Docstrings of this package for autodoc: what is Markdown-like in them, and classes of settings."""

import inspect
import re
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from pydantic import BaseModel
from sphinx.application import Sphinx

from generated import fields
from pcdistill.commands import COMMANDS, command

# Napoleon, at 500, takes what stands before a colon in a property's docstring for its type.
BEFORE_NAPOLEON, AFTER_NAPOLEON, COLON = 400, 600, "\N{RATIO}"
PAGES = {command(name): name for name in COMMANDS}


def connect(app: Sphinx) -> None:
    """Have autodoc ask the functions below."""
    app.connect("autodoc-process-docstring", process, priority=BEFORE_NAPOLEON)
    app.connect("autodoc-process-docstring", put_colons_back, priority=AFTER_NAPOLEON)
    app.connect("autodoc-process-signature", sign)
    app.connect("autodoc-skip-member", skip)
    app.connect("doctree-read", dash)


def process(app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """Docstring lines, in place."""
    if what == "class" and _is_model(value):
        lines[:] = [*_without_attributes(lines), "", *_fields(value)]
    elif what == "class":
        lines[:] = [*lines, *_commented(value)]
    lines[:] = list(_literal(lines))
    if what in ("property", "attribute", "data") and lines:
        lines[0] = lines[0].replace(":", COLON)


def put_colons_back(app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """What `process` hid from napoleon."""
    lines[:] = [line.replace(COLON, ":") for line in lines]


def dash(app: Sphinx, doctree: nodes.document) -> None:
    """Sphinx writes two hyphens between a parameter and its text, for typography that would change flags as well."""
    for text in [text for text in doctree.findall(nodes.Text) if text == " -- "]:
        text.parent.replace(text, nodes.Text(" – "))


def sign(app: Sphinx, what: str, name: str, value: Any, *rest: Any) -> tuple[str, str | None] | None:
    """Settings are listed below their class and not in its signature."""
    return ("(**fields)", None) if what == "class" and _is_model(value) else None


def skip(app: Sphinx, what: str, name: str, value: Any, skipped: bool, options: Any) -> bool | None:
    """What pydantic and named tuples add to a class is no part of it."""
    added = name.startswith("model_") or type(value).__name__ == "_tuplegetter"
    # Options of an objective have their table on its page.
    return True if added or (name == "Options" and _is_model(value)) else None


def _is_model(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, BaseModel)


def _without_attributes(lines: list[str]) -> list[str]:
    if "Attributes:" not in lines:
        return lines
    start = lines.index("Attributes:")
    rest = next((at for at in range(start + 1, len(lines)) if lines[at] and lines[at][0] != " "), len(lines))
    return [*lines[:start], *lines[rest:]]


def _fields(kind: type[BaseModel]) -> Iterator[str]:
    """The settings of a class; those of a command are on its page."""
    if kind in PAGES:
        yield f"Its fields are the flags of :doc:`pcdistill {PAGES[kind]} </commands/{PAGES[kind]}>`."
        return
    for setting in fields.settings(kind).values():
        default = setting.default if setting.default in ("", "required") else f"default {setting.default}"
        facts = ", ".join(filter(None, [setting.values, default]))
        yield f"- {setting.name} ({facts})" + (f": {setting.meaning}" if setting.meaning else "")


def _commented(kind: type) -> Iterator[str]:
    """Fields of named tuples and data classes, with the comments behind them."""
    if not (hasattr(kind, "_fields") or hasattr(kind, "__dataclass_fields__")):
        return
    try:
        source = inspect.getsource(kind)
    except (OSError, TypeError):
        return
    found = re.findall(r"^    (\w+): ([^=#\n]+?)(?: = [^#\n]+)?  # (.+)$", source, flags=re.MULTILINE)
    if found:
        yield from ("", *(f"- `{name}`: {comment}" for name, _, comment in found))


def _literal(lines: list[str]) -> Iterator[str]:
    """Indented paragraphs are formulas and programs; other signs that rst would read are taken as written."""
    before, inside = "", False
    for place, line in enumerate(lines):
        starts = line.startswith("    ") and not before.strip() and not inside
        if starts and _stands_alone(lines[:place]):
            inside = True
            yield from ("::", "")
        if line.strip() and not line.startswith("    "):
            inside = False
        yield line if inside else _escaped(line)
        before = line


def _stands_alone(above: list[str]) -> bool:
    """Whether what comes after these lines is no part of a section such as `Args:`, or of a list."""
    heads = [line for line in above if line.strip() and not line.startswith("    ")]
    return bool(heads) and not re.match(r"(Args|Returns|Raises|Attributes|Yields):$|- ", heads[-1])


def _escaped(line: str) -> str:
    parts = re.split(r"(`[^`]*`)", line)
    return "".join(
        part if place % 2 else re.sub(r"([*|]|(?<=\w)_(?!\w))", r"\\\1", part) for place, part in enumerate(parts)
    )
