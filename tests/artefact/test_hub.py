"""Publishing on the Hugging Face Hub and reading from it, with a server on this machine in its place."""

import base64
import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from pcdistill.artefact.artefact import Artefact
from pcdistill.artefact.places import repository
from pcdistill.cli import main
from pcdistill.core.errors import InputError

REPOSITORY = Path(__file__).parents[2]
COMMIT = "0" * 40
# Its endpoint is read when huggingface_hub is imported: commands run in one process of their own.
PROGRAM = """
import json, sys
from pcdistill.cli import main
sys.exit(max(main(words) != code for words, code in json.loads(sys.argv[1])))
"""


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's protocol as is spoken when a few small files are published and fetched."""

    files: ClassVar[dict[str, bytes]] = {}
    asked: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.asked.append(f"{self.path} {self.headers.get('Authorization')}")
        if self.path.endswith("/preupload/main"):
            names = [file["path"] for file in json.loads(body)["files"]]
            self._say({"files": [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]})
        elif "/commit/main" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            url = f"http://{self.headers['Host']}/datasets/user/set/commit/{COMMIT}"
            self._say({"commitUrl": url, "commitOid": COMMIT, "hookOutput": "", "success": True})
        elif self.path == "/api/repos/create":
            self._say({"url": f"http://{self.headers['Host']}/datasets/user/set", "name": "user/set"})
        else:
            self._say({"errors": [], "warnings": []})  # of the card's header

    def do_HEAD(self) -> None:
        self._file(False)

    def do_GET(self) -> None:
        self._file(True)

    def _file(self, content: bool) -> None:
        place, _, name = self.path.partition("/resolve/main/")
        found = self.files.get(name) if place == "/datasets/user/set" else None
        self.send_response(404 if found is None else 200)
        self.send_header("X-Repo-Commit", COMMIT)
        if found is None:
            there = place in ("/datasets/user/set", "/datasets/user/other")
            self.send_header("X-Error-Code", "EntryNotFound" if there else "RepoNotFound")
        self.send_header("ETag", f'"{hashlib.sha256(found or b"").hexdigest()}"')
        self.send_header("Content-Length", str(len(found or b"")))
        self.end_headers()
        if content and found:
            self.wfile.write(found)

    def _say(self, facts: object) -> None:
        text = json.dumps(facts).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def hub() -> Iterator[str]:
    """Its address."""
    pytest.importorskip("huggingface_hub", reason="the extra hub is not installed")
    Hub.files.clear()
    Hub.asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def commands(hub: str, folder: Path, *lines: tuple[list[str], int]) -> subprocess.CompletedProcess[str]:
    """Run command lines that have to end with these codes, one after another."""
    environment = {
        **os.environ, "HF_ENDPOINT": hub, "HF_TOKEN": "hf_token", "HF_HOME": str(folder / "hf"),
        "HF_HUB_DISABLE_TELEMETRY": "1", "PYTHONPATH": str(REPOSITORY),
    }  # fmt: skip
    words = [sys.executable, "-c", PROGRAM, json.dumps(lines)]
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def test_what_is_pushed_is_what_is_loaded(hub: str, tmp_path: Path) -> None:
    made = Artefact.load("zoo:shapes-123")
    made.save(tmp_path / "a.h5")
    done = commands(
        hub, tmp_path, (["push", "a.h5", "hf:user/set"], 0), (["show", "hf:user/set", "--json"], 0),
        (["view", "hf:user/other"], 2), (["show", "hf:user/none"], 2),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert Hub.files.keys() == {"set.h5", "README.md", "README.png"}
    assert Hub.files["set.h5"] == (tmp_path / "a.h5").read_bytes()
    card = Hub.files["README.md"].decode()
    assert card.startswith("---\nlicense: cc0-1.0\n")
    assert 'pcd.Artefact.load("hf:user/set")' in card
    assert any(line == "/api/repos/create Bearer hf_token" for line in Hub.asked)
    published, shown, *_ = done.stdout.splitlines()
    assert published == "published hf:user/set: set.h5, README.md and README.png"
    assert json.loads(shown)["source_fingerprint"] == made.metadata.source_fingerprint
    other, none = done.stderr.splitlines()[-2:]
    assert "hf:user/other" in other
    assert none.startswith("pcdistill: error: hf:user/none: ")


def test_sets_of_data_that_may_not_be_passed_on_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = Artefact.load("zoo:shapes-123")
    for dataset in ("modelnet10", "modelnet40_1024.h5", "psb19"):
        Artefact(made.storage, made.metadata.model_copy(update={"dataset": dataset})).save(tmp_path / "a.h5")
        assert main(["push", str(tmp_path / "a.h5"), "hf:user/set"]) == 2
        assert f"made of {dataset}, whose licence does not allow it" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["user/set", "hf:set", "hf:user/set/more", "hf:../set", "hf:user/..", "hf:/"])
def test_what_is_no_repository_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"hub: .*, expected hf:USER/NAME"):
        repository(name)
