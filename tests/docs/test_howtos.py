"""The how-to pages: their programs run as they stand, and every command in the documentation is one."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from pcdistill.commands import COMMANDS, command
from pcdistill.commands.flags import read

REPOSITORY = Path(__file__).parents[2]
DOCS = REPOSITORY / "docs"
METHOD = DOCS / "howto" / "method.md"
HOWTOS = sorted((DOCS / "howto").glob("*.md"))
Script = Callable[[Path], ModuleType]


@pytest.fixture
def program(script: Script) -> ModuleType:
    """`blocks.py`."""
    return script(Path(__file__).parent / "blocks.py")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Of a process in which `pip install .` puts packages into a folder of its own, without network."""
    programs, packages = tmp_path / "bin", tmp_path / "packages"
    programs.mkdir()
    for name, module in {"pip": "-m pip", "python": ""}.items():
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {module} "$@"\n')
        (programs / name).chmod(0o755)
    pip = {"PIP_TARGET": str(packages), "PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_NO_INDEX": "1"}
    paths = {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{packages}{os.pathsep}{REPOSITORY}",
    }
    return {**os.environ, **pip, **paths, "PIP_QUIET": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def test_there_are_howtos() -> None:
    assert {"method.md", "network.md", "dataset.md", "memory.md"} <= {page.name for page in HOWTOS}


def carried_out(page: Path, folder: Path, environment: dict[str, str]) -> None:
    """In a process of its own: what a page registers is not there for other tests."""
    command = [sys.executable, str(Path(__file__).parent / "blocks.py"), str(page)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("page", [page for page in HOWTOS if page != METHOD], ids=lambda page: page.stem)
def test_its_programs_run(page: Path, environment: dict[str, str], tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="how-to pages install packages that hatchling builds")
    if "torch_geometric" in page.read_text():
        pytest.importorskip("torch_geometric", reason="torch-geometric is an extra")
    folder = tmp_path / "work"
    folder.mkdir()
    carried_out(page, folder, environment)


@pytest.mark.slow
def test_a_method_is_one_file_one_entry_and_one_page(environment: dict[str, str], tmp_path: Path) -> None:
    """In a copy of the repository, of which nothing else is touched; its own tests are among the page's commands."""
    copy = tmp_path / "copy"
    for name in ("pcdistill", "docs", "tests", "scripts"):
        shutil.copytree(REPOSITORY / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "_build"))
    shutil.copy(REPOSITORY / "pyproject.toml", copy)
    before = contents(copy)
    carried_out(METHOD, copy, environment)
    after = contents(copy)
    touched = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    assert touched == {
        "pcdistill/matching/spread.py", "pcdistill/artefact/references.bib", "docs/methods/spread.md",
    }  # fmt: skip


def contents(folder: Path) -> dict[str, bytes]:
    """Files by their places, but for those that Python and commands leave behind."""
    files = (path for path in folder.rglob("*") if path.is_file())
    made = ("__pycache__", ".pytest_cache", ".hypothesis")
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in files
        if not {*path.parts} & {*made} and not (path.parent == folder and path.suffix == ".h5")
    }


def test_every_command_of_the_pages_is_one(
    program: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flags and values are those that the command line takes, so that no page shows one that is gone."""
    monkeypatch.chdir(tmp_path)
    seen = set()
    for page in sorted(DOCS.rglob("*.md")):
        for block in program.blocks(page):
            if block.language == "toml" and block.caption:
                Path(block.caption).write_text(block.text)
            for line in block.commands() if block.language == "console" else []:
                name, *words = shlex.split(line.partition(" > ")[0])
                if name == "pcdistill":
                    read(words[0], command(words[0]), words[1:])
                    seen.add(words[0])
    assert seen == set(COMMANDS)


def test_blocks_are_found(program: ModuleType, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "text\n\n```{code-block} python\n:caption: made.py\n\nanswer = 42\n```\n\n"
        "````{code-block} markdown\n:caption: page.md\n\n```python\nnot run\n```\n````\n\n"
        "```text\nnot run\n```\n\n```console\n$ true \\\n  && true\noutput\n$ false\n```\n"
    )
    made, inner, text, console = program.blocks(page)
    assert (made.language, made.caption, made.text, made.line) == ("python", "made.py", "answer = 42\n", 3)
    assert (inner.language, inner.caption, inner.text) == ("markdown", "page.md", "```python\nnot run\n```\n")
    assert text.language == "text"
    assert console.commands() == ["true   && true", "false"]


def test_a_page_that_fails_is_noticed(environment: dict[str, str], tmp_path: Path) -> None:
    for number, block in enumerate(
        (
            "```python\nassert 1 == 2\n```\n",
            "```console\n$ false\n```\n",
            "```console\n$ pcdistill show missing.h5\n```\n",
        )
    ):
        page = tmp_path / f"{number}.md"
        page.write_text(block)
        command = [sys.executable, str(Path(__file__).parent / "blocks.py"), str(page)]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode != 0, block
