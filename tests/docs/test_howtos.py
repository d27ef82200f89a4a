"""The how-to pages: their programs run as they stand, and every command in the documentation is one."""

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from pcdistill.cli import COMMANDS, parse

REPOSITORY = Path(__file__).parents[2]
DOCS = REPOSITORY / "docs"
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
    assert {"method.md", "network.md", "dataset.md"} <= {page.name for page in HOWTOS}


@pytest.mark.parametrize("page", HOWTOS, ids=lambda page: page.stem)
def test_its_programs_run(page: Path, environment: dict[str, str], tmp_path: Path) -> None:
    """In a process of its own: what a page registers is not there for other tests."""
    pytest.importorskip("hatchling", reason="how-to pages install packages that hatchling builds")
    folder = tmp_path / "work"
    folder.mkdir()
    command = [sys.executable, str(Path(__file__).parent / "blocks.py"), str(page)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


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
            for command in block.commands() if block.language == "console" else []:
                name, *words = shlex.split(command.partition(" > ")[0])
                if name == "pcdistill":
                    seen.add(parse(words)[0])
    assert seen == set(COMMANDS)


def test_blocks_are_found(program: ModuleType, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "text\n\n```{code-block} python\n:caption: made.py\n\nanswer = 42\n```\n\n"
        "```text\nnot run\n```\n\n```console\n$ true \\\n  && true\noutput\n$ false\n```\n"
    )
    made, text, console = program.blocks(page)
    assert (made.language, made.caption, made.text, made.line) == ("python", "made.py", "answer = 42\n", 3)
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
