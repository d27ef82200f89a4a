"""docs/format.md: what it says is true and its programs run, without this package."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from pcdistill.storage import Artefact, Metadata

DOCUMENT = (Path(__file__).parents[2] / "docs" / "format.md").read_text()
SNIPPETS = dict(re.findall(r"<!-- tested: (\w+) -->\n```python\n(.*?)```", DOCUMENT, flags=re.DOTALL))


def run(snippet: str, *arguments: Path) -> str:
    """Output of a program of the document, run where `pcdistill` cannot be imported."""
    program = "import sys\nsys.modules['pcdistill'] = None\n" + SNIPPETS[snippet]
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


@pytest.fixture
def saved(make_artefact: Callable[..., Artefact], tmp_path: Path) -> Path:
    path = tmp_path / "a.h5"
    make_artefact(classes=3, each=4, points=20).save(path)
    return path


def test_the_verifier(saved: Path) -> None:
    assert run("verify", saved) == "intact"
    content = saved.read_bytes()
    for damaged in (
        content[:-1],
        content[:3000] + bytes([content[3000] ^ 1]) + content[3001:],
        content.replace(b"artefact 1", b"artefact 2"),
        content[:200] + b"x" + content[201:],
    ):
        saved.write_bytes(damaged)
        assert run("verify", saved) == "damaged"


def test_the_decoder(saved: Path, tmp_path: Path) -> None:
    run("decode", saved, tmp_path / "clouds.npz")
    clouds = Artefact.load(saved).clouds
    with np.load(tmp_path / "clouds.npz", allow_pickle=False) as decoded:
        assert decoded["points"].dtype == np.float32
        assert decoded["points"].tobytes() == clouds.points.numpy().tobytes()
        assert decoded["labels"].tolist() == clouds.labels.tolist()
        assert tuple(decoded["class_names"]) == clouds.class_names


def test_the_decoder_of_soft_labels(make_artefact: Callable[..., Artefact], tmp_path: Path) -> None:
    made = make_artefact(classes=3, each=4, points=20)
    soft = torch.rand(12, 3, generator=torch.Generator().manual_seed(0)).softmax(1)
    made.storage.soften(soft)
    facts = made.metadata.model_copy(update={"layout": made.storage.layout()})
    Artefact(made.storage, facts).save(tmp_path / "a.h5")
    run("decode", tmp_path / "a.h5", tmp_path / "clouds.npz")
    with np.load(tmp_path / "clouds.npz", allow_pickle=False) as decoded:
        assert decoded["labels"].dtype == np.float32
        assert decoded["labels"].tobytes() == Artefact.load(tmp_path / "a.h5").clouds.labels.numpy().tobytes()


def test_every_key_of_the_metadata_is_described() -> None:
    table = DOCUMENT.split("## Metadata")[1].split("## ")[0]
    described = re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (`.*?) \|", table, flags=re.MULTILINE)))
    assert described == list(Metadata.model_fields)
