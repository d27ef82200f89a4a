"""The page of a run: read-only, on loopback, from memory, and renewed as snapshots arrive."""

import http.client
import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import torch

from pcdistill.artefact.artefact import Artefact
from pcdistill.cli import main
from pcdistill.clouds import PointClouds
from pcdistill.commands.followers import Watched
from pcdistill.condense.loop import Follower, Interrupted
from pcdistill.condense.make import distill
from pcdistill.condense.plan import resolve
from pcdistill.condense.spec import DistillSpec
from pcdistill.core.errors import InputError
from pcdistill.data import load
from pcdistill.viewing import Exhibit, Live
from tests.viewing.browser import opened, started


def shown(frames: int) -> Exhibit:
    generator = torch.Generator().manual_seed(1)
    start = torch.randn(4, 30, 3, generator=generator)
    way = tuple(start * (1 - 0.1 * frame) for frame in range(frames))
    clouds = PointClouds(way[-1], torch.tensor([0, 0, 1, 1]), ("ball", "ring"))
    return Exhibit("a run", clouds, way, tuple(10 * frame for frame in range(frames)), losses=(1.0,) * 10 * frames)


@pytest.fixture
def live() -> Iterator[Live]:
    made = Live(0)
    yield made
    made._asked = -float("inf")  # nobody is waited for
    made.close()


def ask(live: Live, path: str, method: str = "GET", host: str | None = None) -> tuple[int, bytes]:
    where = urlsplit(live.address)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=10)
    connection.request(method, path, headers={"Host": host or where.netloc})
    answer = connection.getresponse()
    found = answer.status, answer.read()
    connection.close()
    return found


def test_it_tells_what_is_new_and_nothing_else(live: Live) -> None:
    assert ask(live, "/state?after=0") == (204, b"")
    assert b"The run begins" in ask(live, "/")[1]
    live.show(shown(1))
    status, body = ask(live, "/state?after=0")
    meta = json.loads(body)["meta"]
    assert (status, meta["steps"], meta["live"]) == (200, [0], {"version": 1, "every": 1.0, "ended": False})
    assert ask(live, "/state?after=1")[0] == 204
    live.show(shown(3), ended=True)
    meta = json.loads(ask(live, "/state?after=1")[1])["meta"]
    assert (meta["steps"], meta["live"]["ended"]) == ([0, 10, 20], True)
    status, body = ask(live, "/")
    assert status == 200
    assert b"connect-src 'self'" in body


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/../../../../etc/passwd", 404), ("/etc/passwd", 404), ("//etc/passwd", 404), ("/index.html", 404),
        ("/%2e%2e/%2e%2e/etc/passwd", 404), ("/state/../pyproject.toml", 404), ("/state?after=../x", 400),
        ("/state?after=-1", 400), ("/state?after=" + "9" * 5000, 204), ("/state?after=%C2%B2", 400),
    ],
)  # fmt: skip
def test_no_file_of_the_disk_is_reached(live: Live, path: str, status: int) -> None:
    live.show(shown(1))
    found, body = ask(live, path)
    assert found == status
    assert b"root:" not in body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_can_be_changed(live: Live, method: str) -> None:
    assert ask(live, "/", method)[0] == 501


@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "127.0.0.1", "localhost.evil.example:{port}"])
def test_other_names_of_this_machine_are_refused(live: Live, host: str) -> None:
    live.show(shown(1))
    port = urlsplit(live.address).port
    assert ask(live, "/", host=host.format(port=port))[0] == 403
    assert ask(live, "/", host=f"localhost:{port}")[0] == 200


def test_it_listens_on_loopback_only(live: Live) -> None:
    assert live._server.server_address[0] == "127.0.0.1"
    port = urlsplit(live.address).port
    assert port is not None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing; tells this machine's address, if it has one
        outside = probe.getsockname()[0]
    if outside.startswith("127."):
        pytest.skip("no other address than loopback")
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((outside, port), timeout=5)


def test_a_port_that_is_taken_is_told(live: Live) -> None:
    with pytest.raises(InputError, match=r"watch: port \d+: Address already in use, expected a free one"):
        Live(urlsplit(live.address).port or 0)


def test_a_page_that_is_open_sees_the_end() -> None:
    live = Live(0)
    live.show(shown(1))
    ask(live, "/state?after=0")
    live.show(shown(2), ended=True)
    closing = threading.Thread(target=live.close)
    closing.start()
    assert json.loads(ask(live, "/state?after=1")[1])["meta"]["live"]["ended"]
    ask(live, "/state?after=2")
    closing.join(timeout=2)
    assert not closing.is_alive()


def test_nobody_is_waited_for() -> None:
    live = Live(0)
    live.show(shown(1), ended=True)
    start = time.monotonic()
    live.close()
    assert time.monotonic() - start < 1


def test_the_page_follows_the_run(live: Live) -> None:
    live.show(shown(1))
    with started() as browser, opened(browser, live.address) as (page, notes):
        assert page.locator("#time").is_hidden()
        page.locator("#colour").select_option("height")
        page.locator("#theme").click()
        theme = page.locator("html").get_attribute("class")
        live.show(shown(4))
        page.wait_for_selector("#time:visible", timeout=10_000)
        assert page.locator("#step").inner_text() == "step 30 of 30"
        page.keyboard.press("i")
        live.show(shown(6), ended=True)
        page.wait_for_selector("#live.ended", timeout=10_000, state="attached")
        assert page.locator("#live").inner_text() == "finished"
        assert page.locator("#step").inner_text() == "step 0 of 50"  # what a user has chosen stays
        assert page.locator("html").get_attribute("class") == theme
    assert notes.said == []
    assert {urlsplit(address).hostname for address in notes.asked} == {"127.0.0.1"}


SMALL = ("--clouds-per-class", "2", "--points", "16", "--objective", "dm", "--members", "1", "--steps", "30")


def test_a_watched_run_makes_the_same_set(tiny_file: Path, tmp_path: Path) -> None:
    plain, watched = tmp_path / "a.h5", tmp_path / "b.h5"
    assert main(["distill", "--data", str(tiny_file), *SMALL, "--output", str(plain)]) == 0
    program = [sys.executable, "-c", "import sys, pcdistill.cli; sys.exit(pcdistill.cli.main())"]
    command = [*program, "distill", "--data", str(tiny_file), *SMALL, "--live", "0", "--output", str(watched)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as run:
        assert run.stdout is not None
        address = re.fullmatch(r"watch it at (http://127\.0\.0\.1:\d+/)\n", run.stdout.readline())
        assert address is not None
        steps: list[list[int]] = []
        version = 0
        while run.poll() is None:
            try:
                where = urlsplit(address[1])
                connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=10)
                connection.request("GET", f"/state?after={version}")
                answer = connection.getresponse()
                body: Any = json.loads(answer.read() or "null")
            except (OSError, http.client.HTTPException):
                break  # it has ended
            if answer.status == 200:
                steps.append(body["meta"]["steps"])
                version = body["meta"]["live"]["version"]
                if body["meta"]["live"]["ended"]:
                    break
            time.sleep(0.01)
        run.stdout.read()
    assert run.returncode == 0
    assert steps[-1][-1] == 30
    one, two = Artefact.load(plain), Artefact.load(watched)
    assert torch.equal(one.clouds.points, two.clouds.points)
    assert one.snapshots == two.snapshots == ()


def test_a_run_can_be_watched_from_where_it_was_stopped(
    tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Watching is no setting of the run: a checkpoint from before fits."""
    config = DistillSpec(
        clouds_per_class=2,
        points=16,
        objective="dm",
        members=1,
        steps=30,
    )
    checkpoint, shown = tmp_path / "a.h5.checkpoint", list[tuple[tuple[int, ...], int, int, bool]]()
    real = load(str(tiny_file), "train")

    class Stopping(Follower):
        def step(self, step: int, loss: float) -> None:
            if step == 17:
                raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        distill(real, resolve(config), checkpoint=checkpoint, followers=[Stopping()])

    def note(_: Live, made: Exhibit, ended: bool = False) -> None:
        shown.append((made.steps, made.before, len(made.losses), ended))

    monkeypatch.setattr(Live, "show", note)
    live = Live(0)
    try:
        resumed = distill(
            real, resolve(config), checkpoint=checkpoint, resume=True, followers=[Watched(live, "tiny", "dm", "z")]
        )
    finally:
        live.close()
    assert shown[0] == ((0,), 0, 0, False)
    assert shown[1] == ((0, 18), 17, 1, False)
    assert shown[-1][0][-1] == 30
    assert [ended for *_, ended in shown].index(True) == len(shown) - 1
    whole = distill(real, resolve(config))
    assert torch.equal(resumed.clouds.points, whole.clouds.points)


def test_silent_connections_are_few_and_closed(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes a descriptor of the run: without them it cannot write its result."""
    monkeypatch.setattr("pcdistill.viewing.browser.live._Handler.timeout", 0.5)
    where = urlsplit(live.address)
    silent = [socket.create_connection((where.hostname, where.port), timeout=10) for _ in range(40)]
    for one in silent:
        one.sendall(b"GET / HTTP/1.1\r\nHost: 127")
    for one in silent:
        with suppress(ConnectionResetError):
            assert one.recv(1) == b""  # closed
        one.close()
    assert ask(live, "/state?after=0") == (204, b"")
