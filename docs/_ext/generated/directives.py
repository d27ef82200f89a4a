"""The directives. Each makes Markdown, which is parsed where it stands."""

import importlib
import inspect
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective, SphinxRole

import pcdistill
from generated import fields, notebooks, papers, parts, results
from pcdistill import commands
from pcdistill.commands import COMMANDS, command
from pcdistill.core.registry import Registry
from pcdistill.matching import objectives
from pcdistill.selection import selectors
from pcdistill.storage import storages

REGISTRIES = {"objective": objectives, "selector": selectors, "storage": storages}
REGISTRY_PAGES = {
    "networks": "models.md",
    "objectives": "../methods/index.md",
    "selectors": "../methods/selection.md",
    "storages": "../methods/storages.md",
}
# Documented under these names; the first that has an object is where its text stands.
ROOMS = (
    "clouds", "core.errors", "data", "geometry", "models", "training", "selection", "storage", "matching", "artefact",
    "condense", "evaluation", "viewing", "export", "results",
)  # fmt: skip


class Generated(SphinxDirective):
    """Base of the directives: `markdown` is what stands there in the end."""

    def markdown(self) -> str:
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        for module in (pcdistill, commands, fields, papers, results, sys.modules[__name__]):
            self.env.note_dependency(inspect.getfile(module))
        made = self.parse_text_to_nodes(self.markdown())
        for table in (table for node in made for table in node.findall(nodes.table)):
            table["classes"].append(self.name)
        return made

    def known(self, kind: str, name: str, names: Iterable[str]) -> str:
        """`name`, if there is such a part."""
        if name not in set(names):
            raise self.error(f"no {kind} '{name}'; there are {', '.join(names)}")
        return name


class Synopsis(Generated):
    """What a command is for and how it is called: `{synopsis} distill`."""

    required_arguments = 1

    def markdown(self) -> str:
        kind = command(self.known("command", self.arguments[0], COMMANDS))
        text = inspect.cleandoc(kind.__doc__ or "")
        return f"{text}\n\n```text\n{fields.synopsis(self.arguments[0], kind)}\n```\n"


class Flags(Generated):
    """The flags of a command: `{flags} distill`."""

    required_arguments = 1

    def markdown(self) -> str:
        name = self.known("command", self.arguments[0], COMMANDS)
        parts.note(self.env, "command", name)
        kind = command(name)
        self.env.note_dependency(inspect.getfile(kind))
        needed_first = sorted(fields.flags(kind), key=lambda flag: flag.default != fields.REQUIRED)
        rows = [(flag, default, _sentence(meaning, limits)) for flag, default, limits, meaning in needed_first]
        again = f"From Python: {{py:class}}`{kind.__module__}.{kind.__name__}` takes the same as keywords."
        return f"{_table(('flag', 'default', 'meaning'), rows)}\n{again}\n"


class Commands(Generated):
    """A table of all commands."""

    def markdown(self) -> str:
        rows = [(f"[`{name}`]({name}.md)", _first_line(command(name))) for name in COMMANDS]
        return _table(("command", "what it does"), rows)


class Objectives(Generated):
    """A table of all objectives."""

    def markdown(self) -> str:
        for source in (results.COST, *(inspect.getfile(objectives[name]) for name in objectives)):
            self.env.note_dependency(source)
        cost = results.step_seconds()
        rows = [
            (
                f"[`{name}`]({name}.md)",
                _first_line(objectives[name]),
                f"{cost[name]:.2f}" if name in cost else "not measured",
                _cited("objective", name),
            )
            for name in objectives
        ]
        return _table(("objective", "what it compares", "s / step", "after"), rows)


class About(Generated):
    """Docstring and references of a registered part: `{about} objective krr`."""

    required_arguments = 2

    def markdown(self) -> str:
        kind, name = self.arguments
        if kind not in REGISTRIES:
            raise self.error(f"'{kind}' is none of {', '.join(REGISTRIES)}")
        parts.note(self.env, kind, self.known(kind, name, REGISTRIES[kind]))
        part: Any = REGISTRIES[kind][name]
        self.env.note_dependency(inspect.getfile(part))
        text = re.split(
            r"^(?:Args|Attributes|Raises|Returns):$", inspect.cleandoc(part.__doc__ or ""), flags=re.MULTILINE
        )[0]
        known = papers.papers()
        cited = [f"- {known[key].markdown()}" for key in REGISTRIES[kind].cites(name) or ()]
        return "\n".join([_prose(text), "", *(["References:", "", *cited] if cited else []), ""])


class Options(Generated):
    """What an objective takes under `--options`: `{options} krr`."""

    required_arguments = 1

    def markdown(self) -> str:
        name = self.known("objective", self.arguments[0], objectives)
        tables = []
        for prefix, kind, rows in fields.options(objectives[name].Options):
            self.env.note_dependency(inspect.getfile(kind))
            if prefix:
                tables.append(f"**{prefix.removesuffix('.')}**: {_first_line(kind)}\n")
            shown = [(each, default, values, _prose(meaning)) for each, default, values, meaning in rows]
            if shown:
                tables.append(_table(("option", "default", "values", "meaning"), shown))
        return "\n".join(tables)


class Numbers(Generated):
    """The committed records of an arm, a data set or both: `{numbers}` with `:arm: krr` and `:data: shapes`."""

    option_spec = {"arm": directives.unchanged, "data": directives.unchanged}  # noqa: RUF012

    def markdown(self) -> str:
        arm, dataset = self.options.get("arm"), self.options.get("data")
        for file in results.files():
            self.env.note_dependency(file)
        found = results.records(arm, dataset)
        return results.table(found, arm is None) if found else "Not measured.\n"


class Bibliography(Generated):
    """All of `references.bib`."""

    def markdown(self) -> str:
        return "\n\n".join(f"({_label(key)})=\n{paper.markdown()}" for key, paper in papers.papers().items()) + "\n"


class Exports(Generated):
    """What `pcdistill` itself offers, and where each is described."""

    def markdown(self) -> str:
        rows = []
        for name in pcdistill.__all__:
            value = getattr(pcdistill, name)
            if isinstance(value, Registry):
                listed = ", ".join(f"`{each}`" for each in value)
                rows.append((f"[`{name}`]({REGISTRY_PAGES[name]})", f"Registry: {listed}."))
            else:
                room = next((room for room in ROOMS if _is_in(name, room)), None)
                if room is None:
                    raise self.error(
                        f"pcdistill.{name} is described nowhere: write a page in docs/api, add it to ROOMS"
                    )
                rows.append((f"{{py:obj}}`{name} <pcdistill.{room}.{name}>`", _first_line(value)))
        return _table(("`pcdistill.`", ""), rows)


class Cite(SphinxRole):
    """A paper by its key in `references.bib`."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        paper = papers.papers().get(self.text)
        if paper is None:
            problem = self.inliner.reporter.error(f"no entry '{self.text}' in references.bib", line=self.lineno)
            return [], [problem]
        link = pending_xref(
            "", nodes.inline("", paper.short), refdomain="std", reftype="ref", reftarget=_label(self.text),
            refexplicit=True, refwarn=True, refdoc=self.env.docname,
        )  # fmt: skip
        return [link], []


class Notebook(Generated):
    """A notebook, run now: `{notebook} first-set.ipynb`."""

    required_arguments = 1

    def markdown(self) -> str:
        _, path = self.env.relfn2path(self.arguments[0])
        self.env.note_dependency(path)
        self.env.note_dependency(inspect.getfile(notebooks))
        try:
            return notebooks.markdown(Path(path), self.arguments[0])
        except (RuntimeError, OSError) as error:
            raise self.error(str(error)) from None


DIRECTIVES: dict[str, type[Generated]] = {
    "synopsis": Synopsis,
    "flags": Flags,
    "commands": Commands,
    "objectives": Objectives,
    "about": About,
    "options": Options,
    "numbers": Numbers,
    "bibliography": Bibliography,
    "exports": Exports,
    "notebook": Notebook,
}


def point_to_the_folder(app: Sphinx, path: Path, parent: str, content: list[str]) -> None:
    """Pictures of an included page stand beside that page: HTML's `src` is not among what MyST changes.

    What links to the README of a benchmark leads to its page here.
    """
    folder = Path(os.path.relpath(path.parent, Path(app.env.docname).parent)).as_posix()  # `parent` lacks folders
    content[0] = re.sub(r"\]\((?:\.\./)?(\w+)/README\.md\)", r"](\1.md)", content[0])
    content[0] = re.sub(r'(<img [^>]*src=")(?!\w+:)', lambda found: f"{found[1]}{folder}/", content[0])


def _is_in(name: str, room: str) -> bool:
    module = importlib.import_module(f"pcdistill.{room}")
    value = getattr(module, name, None)
    own = getattr(value, "__module__", None) == module.__name__ or name in getattr(module, "__all__", ())
    return value is getattr(pcdistill, name) and own


def _label(key: str) -> str:
    return f"paper-{key}"


def _cited(kind: str, name: str) -> str:
    return ", ".join(f"{{cite}}`{key}`" for key in REGISTRIES[kind].cites(name) or ()) or "own"


def _first_line(kind: Any) -> str:
    """The first sentence of a docstring."""
    return " ".join(inspect.cleandoc(kind.__doc__ or "").partition("\n\n")[0].split())


def _sentence(meaning: str, limits: str) -> str:
    """A description with its limits; flags in it as code."""
    marked = re.sub(r"(?<![\w`-])--[a-z][a-z-]*", lambda flag: f"`{flag[0]}`", _prose(meaning))
    return marked + (f" ({limits})" if limits else "")


def _prose(text: str) -> str:
    """Text of a docstring as Markdown: signs that mean something there are taken as written, outside code."""
    blocks = re.split(r"(^ {4,}.*$|`[^`]*`)", text, flags=re.MULTILINE)
    return "".join(
        part if place % 2 else re.sub(r"([\\*<>|_\[\]{}])", r"\\\1", part) for place, part in enumerate(blocks)
    )


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table; bars in cells do not end them."""
    lines = [head, [":--"] * len(list(head)), *([re.sub(r"(?<!\\)\|", r"\\|", cell) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
