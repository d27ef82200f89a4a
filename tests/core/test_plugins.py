"""Parts from other distributions, found by entry points: a real fake distribution on `sys.path`, as pip leaves it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pcdistill.cli import main
from pcdistill.core.errors import InputError
from pcdistill.core.registry import Registry
from pcdistill.matching import objectives
from pcdistill.models import build, networks
from pcdistill.selection import selectors
from pcdistill.storage import storages

REPOSITORY = Path(__file__).parents[2]
GROUP = "pcdistill.networks"
MEAN = """
from torch import nn

from pcdistill.models import Network


class Mean(Network):
    def __init__(self, num_classes):
        super().__init__()
        self.layer, self.head = nn.Linear(3, 8), nn.Linear(8, num_classes)

    def point_features(self, points):
        return [self.layer(points)]
"""
Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put a distribution with one module and entry points of one group on `sys.path`; gives its folder."""

    def add(dist: str, module: str, code: str, points: dict[str, str], group: str = GROUP) -> Path:
        folder = tmp_path / dist
        facts = folder / f"{dist}-1.2.dist-info"
        facts.mkdir(parents=True)
        (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist}\nVersion: 1.2\n")
        lines = [f"[{group}]", *(f"{name} = {value}" for name, value in points.items())]
        (facts / "entry_points.txt").write_text("\n".join(lines))
        (folder / f"{module}.py").write_text(code)
        monkeypatch.syspath_prepend(folder)
        return folder

    return add


def test_a_network_of_another_distribution_is_one_of_ours(install: Install) -> None:
    before = len(networks)
    install("distone", "plugin_one", MEAN, {"mean": "plugin_one:Mean"})
    assert "plugin_one" not in sys.modules
    assert "mean" in networks
    assert list(networks) == sorted([*networks])
    assert "mean" in list(networks)
    assert len(networks) == before + 1
    assert "plugin_one" not in sys.modules  # listing loads nothing
    network = build("mean", 4, 0)
    assert network(torch.zeros(2, 5, 3)).logits.shape == (2, 4)
    assert networks["mean"] is networks["mean"] is sys.modules["plugin_one"].Mean
    with pytest.raises(InputError, match=r"^network: 'meen' \(did you mean 'mean'\?\)"):
        networks["meen"]


def test_it_is_gone_with_its_distribution(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = install("disttwo", "plugin_two", MEAN, {"mean": "plugin_two:Mean"})
    assert "mean" in networks
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place != str(folder)])
    assert "mean" not in networks


@pytest.mark.parametrize(
    ("registry", "group"),
    [
        (objectives, "pcdistill.objectives"),
        (storages, "pcdistill.storages"),
        (selectors, "pcdistill.selectors"),
        (networks, GROUP),
    ],
)
def test_every_kind_of_part_has_its_group(registry: Registry[object], group: str, install: Install) -> None:
    assert "thing" not in registry
    install("distthing", f"thing_{group[10:]}", "class Thing: ...", {"thing": f"thing_{group[10:]}:Thing"}, group)
    assert registry["thing"].__name__ == "Thing"  # type: ignore[attr-defined]


def test_it_says_itself_what_it_stands_on(install: Install) -> None:
    install("distcites", "plugin_cites", f"{MEAN}    cites = ('someone2024means',)\n", {"mine": "plugin_cites:Mean"})
    install("distsilent", "plugin_silent", MEAN, {"silent": "plugin_silent:Mean", "gone": "plugin_silent:Gone"})
    assert networks.cites("mine") == ("someone2024means",)
    assert networks.cites("silent") is None
    assert networks.cites("gone") is None


@pytest.mark.parametrize(
    ("code", "value", "reason"),
    [
        ("import no_such_module", "{}:Mean", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("raise RuntimeError('two\\nlines')", "{}:Mean", "RuntimeError: two lines"),
        ("def", "{}:Mean", "SyntaxError: "),
        ("", "{}:Mean", "AttributeError: "),
    ],
)
def test_a_broken_one_is_an_error_for_those_who_ask_for_it(
    code: str, value: str, reason: str, install: Install, request: pytest.FixtureRequest
) -> None:
    module = f"broken_{abs(hash(request.node.name))}"
    install("distbroken", module, code, {"mine": value.format(module)})
    assert "mine" in list(networks)
    assert build("pointnet-small", 3, 0) is not None
    with pytest.raises(InputError) as caught:
        networks["mine"]
    text = str(caught.value)
    assert text.startswith(
        f"network: 'mine' of distribution distbroken 1.2 cannot be loaded from {module}:Mean ({reason}"
    )
    assert "\n" not in text


def test_what_is_no_factory_or_no_network_is_refused(install: Install) -> None:
    install("distodd", "plugin_odd", "thing = 3", {"odd": "plugin_odd:thing", "none": "builtins:int"})
    with pytest.raises(
        InputError, match=r"'odd' of distribution distodd 1\.2 is plugin_odd:thing, 3, expected a factory"
    ):
        networks["odd"]
    with pytest.raises(InputError, match=r"^network none: a int from its factory, expected a Network$"):
        build("none", 3, 0)


def test_a_name_never_changes_its_meaning(install: Install) -> None:
    ours = networks["pointnet"]
    folder = install("distclash", "plugin_clash", MEAN, {"pointnet": "plugin_clash:Mean", "twice": "plugin_clash:Mean"})
    with pytest.raises(
        InputError, match=r"^network: 'pointnet' of distribution distclash 1\.2, expected a name that noth"
    ):
        networks["pointnet"]
    install("distagain", "plugin_again", MEAN, {"twice": "plugin_again:Mean"})
    with pytest.raises(
        InputError, match=r"'twice' of distribution distagain 1\.2 and distribution distclash 1\.2, exp"
    ):
        networks["twice"]
    sys.path.remove(str(folder))
    assert networks["pointnet"] is ours


def test_a_name_that_is_in_use_is_taken_from_nobody(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("distfirst", "plugin_first", MEAN, {"mine": "plugin_first:Mean"})
    assert networks["mine"].__name__ == "Mean"  # type: ignore[attr-defined]
    folder = install("distlate", "plugin_late", MEAN, {"mine": "plugin_late:Mean"})
    monkeypatch.setattr(sys, "path", [*(place for place in sys.path if place != str(folder)), str(folder)])
    with pytest.raises(InputError, match=r"'mine' of distribution distfirst 1\.2 and distribution distlate 1\.2, exp"):
        networks["mine"]


def test_a_distribution_without_metadata_is_one_line_too(install: Install) -> None:
    folder = install("distbare", "plugin_bare", "raise ValueError", {"bare": "plugin_bare:Mean"})
    next(folder.glob("*.dist-info/METADATA")).unlink()
    with pytest.raises(InputError, match=r"^network: 'bare' of an unnamed distribution cannot be loaded"):
        networks["bare"]


def test_the_commands_know_it(
    install: Install, tiny_file: Path, tmp_path: Path, short_recipes: None, capsys: pytest.CaptureFixture[str]
) -> None:
    install("distcommand", "plugin_command", MEAN, {"mine": "plugin_command:Mean"})
    output = tmp_path / "net.safetensors"
    assert main(["train", str(tiny_file), "--output", str(output), "--network", "mine"]) == 0
    assert main(["evaluate", str(output), "--test-data", str(tiny_file)]) == 0
    assert main(["evaluate", str(tiny_file), "--train-seeds", "1", "--network", "mine"]) == 0
    assert main(["evaluate", str(tiny_file), "--train-seeds", "1", "--network", "mind"]) == 2
    assert "'mind' (did you mean 'mine'?)" in capsys.readouterr().err


def test_the_installed_command_knows_it(install: Install, tiny_file: Path, tmp_path: Path) -> None:
    folder = install("distprocess", "plugin_process", MEAN, {"mine": "plugin_process:Mean", "bad": "nowhere:Bad"})
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(REPOSITORY), str(folder)))}
    command = [sys.executable, "-c", "import sys; from pcdistill.cli import main; sys.exit(main())"]
    words = ["evaluate", str(tiny_file), "--train-seeds", "1", "--network", "bad"]
    done = subprocess.run([*command, *words], capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 2
    assert done.stderr.startswith("pcdistill: error: network: 'bad' of distribution distprocess 1.2 cannot be loaded")
    assert len(done.stderr.splitlines()) == 1
