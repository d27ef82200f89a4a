"""Notebooks as pages: their cells are run when the pages are built, and shown with what they say and draw.

They run in this process, which has the package imported already, in a folder of their own; so no other package is
needed, and a page takes a few seconds.
"""

import ast
import base64
import contextlib
import io
import json
import tempfile
from pathlib import Path
from typing import Any, NamedTuple


class Cell(NamedTuple):
    """A cell of a notebook, and of code what came of it: text, and a picture as PNG."""

    kind: str
    source: str
    said: str = ""
    picture: bytes | None = None


def cells_of(path: Path) -> list[Cell]:
    """Those of a file, not run."""
    found = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [Cell(cell["cell_type"], "".join(cell["source"])) for cell in found]


def run(path: Path) -> list[Cell]:
    """The cells of a notebook, run one after the other as one session.

    Raises:
        RuntimeError: naming the cell that failed.
    """
    session: dict[str, Any] = {"__name__": "__main__"}
    done = list[Cell]()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for number, cell in enumerate(cells_of(path), 1):
            try:
                done.append(cell if cell.kind != "code" else _carried_out(cell, session, f"{path.name}, cell {number}"))
            except Exception as error:
                raise RuntimeError(f"{path.name}, cell {number}: {type(error).__name__}: {error}") from error
    return done


def _carried_out(cell: Cell, session: dict[str, Any], name: str) -> Cell:
    """As Jupyter does: the value of a last expression is shown."""
    code, last = ast.parse(cell.source, name), None
    if code.body and isinstance(code.body[-1], ast.Expr):
        last = ast.Expression(code.body.pop().value)  # type: ignore[attr-defined]
    with contextlib.redirect_stdout(io.StringIO()) as said:
        exec(compile(code, name, "exec"), session)
        value = None if last is None else eval(compile(last, name, "eval"), session)
        picture = value._repr_png_() if hasattr(value, "_repr_png_") else None
        if value is not None and picture is None:
            said.write(f"{value!r}\n")
    return cell._replace(said=said.getvalue(), picture=picture)


def markdown(path: Path, link: str) -> str:
    """A notebook that has been run, as Markdown without its title, which is that of the page."""
    blocks = [f"This page is a notebook, {{download}}`{path.name} <{link}>`, run when these pages were built."]
    for cell in run(path):
        if cell.kind == "markdown":
            blocks.append("\n".join(line for line in cell.source.splitlines() if not line.startswith("# ")))
            continue
        blocks.append(f"```python\n{cell.source}\n```")
        if cell.said:
            blocks.append(f"```text\n{cell.said}```")
        if cell.picture is not None:
            data = base64.b64encode(cell.picture).decode()
            blocks.append(
                f'```{{raw}} html\n<p><img src="data:image/png;base64,{data}" alt="What the cell draws"></p>\n```'
            )
    return "\n\n".join(blocks)
