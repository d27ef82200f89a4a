"""What is installed: the wheel's content, its version, its command, and a core that needs no extra."""

import ast
import importlib
import re
import subprocess
import sys
import tarfile
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from pcdistill.artefact.places import zoo
from pcdistill.core.environment import EXTRAS

REPOSITORY = Path(__file__).parent.parent
PACKAGE = REPOSITORY / "pcdistill"
SETUP = (REPOSITORY / "scripts" / "setup.sh").read_text()
OPTIONAL = (
    "open3d",
    "laspy",
    "torch_geometric",
    "matplotlib",
    "tensorboard",
    "wandb",
    "mlflow",
    "ray",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "executorch",
    "huggingface_hub",
    "sklearn",
    "hypothesis",
)


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as users would get it, built without network by the backend itself."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=REPOSITORY, check=True, capture_output=True, timeout=60)
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    packed = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    sources = {str(path.relative_to(REPOSITORY)) for path in PACKAGE.rglob("*.py")}
    page = {f"pcdistill/viewing/browser/web/{name}" for name in ("page.html", "viewer.css", "viewer.bundle.js")}
    assert packed >= sources | page | {"pcdistill/py.typed"}
    assert not [name for name in packed if "node_modules" in name]
    assert {name.split("/")[0] for name in packed} == {"pcdistill"}


def test_the_wheel_holds_no_data(wheel: Path) -> None:
    """But the artefacts of the zoo, which may be passed on."""
    data = {".h5", ".hdf5", ".npy", ".npz", ".off", ".ply", ".pcd", ".safetensors", ".pt", ".pkl", ".jsonl"}
    found = {name for name in ZipFile(wheel).namelist() if Path(name).suffix in data}
    assert found == {f"pcdistill/artefact/zoo/{name}.h5" for name in zoo()}
    assert wheel.stat().st_size < 3 << 19


def test_the_wheel_carries_licence_and_types(wheel: Path, project: dict[str, Any]) -> None:
    with ZipFile(wheel) as archive:
        info = f"pcdistill-{project['version']}.dist-info"
        assert "MIT License" in archive.read(f"{info}/licenses/LICENSE").decode()
        assert "Typing :: Typed" in archive.read(f"{info}/METADATA").decode()


def test_the_version_is_the_newest_in_the_changelog(project: dict[str, Any]) -> None:
    released = re.findall(r"^## \[(\d[^]]*)\]", (REPOSITORY / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert released == sorted(released, key=Version, reverse=True)
    assert project["version"] == released[0]


def test_files_are_text_of_one_encoding() -> None:
    """Elsewhere than on Linux what is not said may be another."""
    for path in PACKAGE.rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
                said = {keyword.arg for keyword in call.keywords}
                assert call.func.attr not in ("read_text", "write_text") or "encoding" in said, (path, call.lineno)


def test_every_command_resolves(project: dict[str, Any]) -> None:
    assert set(project["scripts"]) == {"pcdistill"}
    for name, target in project["scripts"].items():
        assert callable(EntryPoint(name, target, "console_scripts").load())


def test_the_setup_installs_known_extras_and_an_allowed_torch(project: dict[str, Any]) -> None:
    extras = re.search(r"^extras=(\S+)$", SETUP, flags=re.MULTILINE)
    pinned = re.search(r"^torch=(\S+)$", SETUP, flags=re.MULTILINE)
    assert extras is not None
    assert pinned is not None
    demo = re.search(r"^demo=(\S+)$", SETUP, flags=re.MULTILINE)
    group = re.search(r"^group=(\S+)$", SETUP, flags=re.MULTILINE)
    assert demo is not None
    assert group is not None
    assert {*extras[1].split(","), *demo[1].split(",")} <= set(project["optional-dependencies"])
    assert group[1] in tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["dependency-groups"]
    allowed = next(need for need in map(Requirement, project["dependencies"]) if need.name == "torch")
    assert pinned[1] in allowed.specifier


def test_every_module_loads_without_extras() -> None:
    """In a fresh interpreter where importing an optional package fails as if it were not installed."""
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({OPTIONAL!r}))\n"
        "import importlib, pkgutil, pcdistill\n"
        "for module in pkgutil.walk_packages(pcdistill.__path__, 'pcdistill.'):\n"
        "    if not module.name.endswith('__main__'): importlib.import_module(module.name)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_the_doctor_knows_every_extra(project: dict[str, Any]) -> None:
    extras = {name: needs for name, needs in project["optional-dependencies"].items() if name != "all"}
    assert set(EXTRAS) == set(extras)
    for name, needs in extras.items():
        named = {need.partition(">")[0].partition("[")[0] for need in needs}
        assert EXTRAS[name].package in named
    assert re.findall(r"\w+", project["optional-dependencies"]["all"][0])[0] == "pcdistill"


def test_the_tests_of_the_source_distribution_collect(tmp_path: Path) -> None:
    """They come with all that they read: whoever packs the package anew runs them."""
    build = [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(tmp_path)]
    subprocess.run(build, cwd=REPOSITORY, check=True, capture_output=True, timeout=60)
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    tracked = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("no git repository")
    wanted = {name for name in tracked.stdout.splitlines() if not name.startswith(".") or name.startswith(".ci/")}
    assert wanted <= packed


def test_citation_and_package_agree(project: dict[str, Any]) -> None:
    text = (REPOSITORY / "CITATION.cff").read_text(encoding="utf-8")
    facts = dict(re.findall(r"^([a-z-]+): \"?(.*?)\"?$", text, flags=re.MULTILINE))
    assert facts["version"] == project["version"]
    assert facts["license"] == project["license"]
    assert facts["repository-code"] == project["urls"]["Homepage"]
    released = re.search(rf"^## \[{re.escape(project['version'])}\] - (\S+)$", (REPOSITORY / "CHANGELOG.md").read_text(
        encoding="utf-8"), flags=re.MULTILINE)  # fmt: skip
    assert released is not None
    assert facts["date-released"] == released[1]


def test_the_readme_works_on_a_package_index() -> None:
    """Links that lead somewhere from anywhere, lines that can be read and compared, and no more than is read."""
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    targets = re.findall(r"\]\((\S+?)\)|src=\"(.*?)\"|^\[[\w-]+\]: (\S+)$", text, flags=re.MULTILINE)
    assert all(re.match(r"https://", "".join(one)) for one in targets)
    assert set(re.findall(r"\]\[([\w-]+)\]", text)) == set(re.findall(r"^\[([\w-]+)\]: ", text, flags=re.MULTILINE))
    local = re.findall(
        r"https://(?:github|raw\.githubusercontent)\.com/pcdistill/pcdistill/(?:blob/)?main/([^)\"#\s]+)", text
    )
    assert local
    assert all((REPOSITORY / path).exists() for path in local)
    assert max(len(line) for line in text.splitlines() if not line.startswith(("|", "<img", "!["))) <= 120
    prose = re.sub(r"```.*?```|<!-- table.*?<!-- end -->|<[^>]+>|\]\(\S+\)", " ", text, flags=re.DOTALL)
    assert len(prose.split()) <= 700


def test_every_dependency_is_used(project: dict[str, Any]) -> None:
    modules = {"pillow": "PIL"}
    source = "\n".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    for need in map(Requirement, project["dependencies"]):
        name = modules.get(need.name, need.name)
        importlib.import_module(name)
        assert re.search(rf"^\s*(import|from) {name}\b", source, flags=re.MULTILINE), f"{need.name} is not used"
