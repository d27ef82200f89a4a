"""The example notebooks: they run, what they say is true, and every one has a page."""

import json
import re
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parents[2] / "docs"
NOTEBOOKS = sorted((DOCS / "examples").glob("*.ipynb"))


@pytest.fixture(scope="module")
def notebooks() -> ModuleType:
    """The module of the extension that runs them."""
    pytest.importorskip("sphinx", reason="the extra docs is not installed")
    sys.path.insert(0, str(DOCS / "_ext"))
    try:
        return import_module("generated.notebooks")
    finally:
        sys.path.pop(0)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PCDISTILL_CACHE", str(tmp_path / "cache"))


def test_there_are_two() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["distilling", "first-set"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_clouds(path: Path, notebooks: ModuleType) -> None:
    done = notebooks.run(path)
    pictures = [cell.picture for cell in done if cell.picture]
    assert pictures
    assert all(picture.startswith(b"\x89PNG") and len(picture) < 150_000 for picture in pictures)
    said = "".join(cell.said for cell in done)
    shares = [int(found) for found in re.findall(r"(\d+) %", said)]
    assert shares
    assert min(shares) > 60  # of three or ten classes: it has learned
    if path.stem == "distilling":
        first, last = re.findall(r"loss (\S+) at first, (\S+) after 40 steps", said)[0]
        assert float(last) < float(first)
    else:
        assert 100 <= int(re.findall(r"(\d+) bytes per class", said)[0]) <= 123


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_has_a_page_of_its_title_and_keeps_no_output(path: Path) -> None:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    title = notebook["cells"][0]["source"][0].strip()
    assert path.with_suffix(".md").read_text() == f"{title}\n\n```{{notebook}} {path.name}\n```\n"
    assert not any(cell.get("outputs") for cell in notebook["cells"])


def test_a_cell_that_fails_is_named(notebooks: ModuleType, tmp_path: Path) -> None:
    cells = [{"cell_type": "code", "source": ["1 + 1"]}, {"cell_type": "code", "source": ["1 / 0"]}]
    (tmp_path / "bad.ipynb").write_text(json.dumps({"cells": cells[:1]}))
    assert [cell.said for cell in notebooks.run(tmp_path / "bad.ipynb")] == ["2\n"]
    assert "```python\n1 + 1\n```\n\n```text\n2\n```" in notebooks.markdown(tmp_path / "bad.ipynb", "bad.ipynb")
    (tmp_path / "bad.ipynb").write_text(json.dumps({"cells": cells}))
    with pytest.raises(RuntimeError, match=r"^bad\.ipynb, cell 2: ZeroDivisionError: division by zero$"):
        notebooks.run(tmp_path / "bad.ipynb")
