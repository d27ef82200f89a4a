"""What concerns the machine: what works on it, what is kept on it, and what its shell completes."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from pcdistill.cli import main
from pcdistill.commands import COMMANDS
from pcdistill.core.environment import EXTRAS, Extra
from pcdistill.core.files import cache_root


def test_the_doctor_says_what_loads_and_how_to_get_the_rest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    broken = tmp_path / "broken_extra.py"
    broken.write_text("raise OSError('libnone.so: cannot open')")
    monkeypatch.syspath_prepend(str(tmp_path))
    extras = {"plots": Extra("json", "json", "a"), "las": Extra("no_such", "no_such", "b"),
              "video": Extra("broken_extra", "broken", "c")}  # fmt: skip
    monkeypatch.setattr("pcdistill.commands.doctor.EXTRAS", extras)
    assert main(["doctor", "--json", "--root", str(tmp_path)]) == 0
    facts = json.loads(capsys.readouterr().out)
    states = {name: extra["state"] for name, extra in facts["extras"].items()}
    assert states == {
        "plots": json.__version__, "las": "missing: pip install 'pcdistill[las]'",
        "video": "does not load: libnone.so: cannot open",
    }  # fmt: skip
    assert (facts["found"], facts["devices"][0]) == (["shapes", "shapes_parts"], "cpu")
    assert main(["doctor"]) == 0
    assert "missing: pip install 'pcdistill[las]'" in capsys.readouterr().out


def test_clearing_the_cache_leaves_what_is_not_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PCDISTILL_CACHE", str(tmp_path))
    ours = [tmp_path / "banks" / f"{'a1' * 16}.safetensors", tmp_path / "data" / f"{'b2' * 32}.h5"]
    others = [tmp_path / "banks" / "mine.safetensors", tmp_path / f"{'a1' * 16}.safetensors", tmp_path / "x" / "y.h5"]
    for file in (*ours, *others):
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"0" * 500_000)
    assert main(["cache", "list"]) == 0
    assert f"in all            2 files        1.0 MB  {tmp_path}" in capsys.readouterr().out
    assert all(file.exists() for file in ours)
    assert main(["cache", "clear"]) == 0
    assert "removed           2 files" in capsys.readouterr().out
    assert not any(file.exists() for file in ours)
    assert all(file.exists() for file in others)


def test_the_cache_is_where_systems_keep_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PCDISTILL_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LOCALAPPDATA", "/local")
    for system, place in {
        "linux": Path.home() / ".cache" / "pcdistill", "darwin": Path.home() / "Library" / "Caches" / "pcdistill",
        "win32": Path("/local", "pcdistill", "Cache"),
    }.items():  # fmt: skip
        monkeypatch.setattr("sys.platform", system)
        assert cache_root() == place
    monkeypatch.setenv("XDG_CACHE_HOME", "/base")
    assert cache_root() == Path("/base/pcdistill")


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["pcdistill", "dist"], ["distill"]),
        (["pcdistill", "select", "--quo"], ["--quota"]),
        (["pcdistill", "select", "--quota", ""], ["even", "root", "proportional", "gain"]),
        (["pcdistill", "data", "ch"], ["check"]),
    ],
)
def test_bash_completes(typed: list[str], offered: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash")
    assert main(["completion", "bash"]) == 0
    words = " ".join(f"'{word}'" for word in typed)
    ask = f"COMP_WORDS=({words}); COMP_CWORD={len(typed) - 1}; _pcdistill; echo ${{COMPREPLY[@]}}"
    done = subprocess.run([bash, "-c", f"{capsys.readouterr().out}\n{ask}"], capture_output=True, text=True)
    assert (done.stdout.split(), done.stderr) == (offered, "")


def test_other_shells_are_told_of_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "fish"]) == 0
    fish = capsys.readouterr().out
    assert all(f"-a {name} -d " in fish for name in COMMANDS)
    assert "'__fish_seen_subcommand_from select' -l quota -r -f -a 'even root proportional gain' -d " in fish
    assert main(["completion", "zsh"]) == 0
    assert capsys.readouterr().out.startswith("autoload -U +X bashcompinit")


def test_extras_are_those_of_the_package() -> None:
    assert all(extra.use and extra.module and extra.package for extra in EXTRAS.values())
