"""The page of a run that is still going on, for a browser on the same machine."""

import json
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from pcdistill.core.errors import InputError
from pcdistill.viewing.browser.page import content, filled
from pcdistill.viewing.exhibit import Exhibit

HOST = "127.0.0.1"
EVERY = 1.0  # seconds between a page's questions
MOST = 16  # connections at a time
PATIENCE = 5.0  # seconds that a connection may be silent


class Live:
    """A server of one page, on loopback only, which shows what `show` was given last.

    It answers `GET /` and `GET /state?after=VERSION` from memory: nothing can be changed through it, and no file of the
    disk is reached. Requests that name another host than loopback are refused, so that no other site's page gets at it
    by a name of its own (DNS rebinding).

    Args:
        port: to listen on; 0 for a free one.

    Raises:
        InputError: the port is taken or not allowed.
    """

    def __init__(self, port: int) -> None:
        try:
            self._server = _Server((HOST, port), _Handler)
        except OSError as error:
            raise InputError("watch", f"port {port}: {error.strerror}", "a free one, or 0 for any") from None
        self._server.live = self
        self.address = f"http://{HOST}:{self._server.server_address[1]}/"
        self.version = 0
        self._make: Callable[[], tuple[dict[str, Any], str]] | None = None
        self._made: tuple[dict[str, Any], str] | None = None
        self._lock = threading.Lock()
        self._packing = threading.Lock()  # one page at a time is made, and the run does not wait for it
        self._asked = -float("inf")  # when a page last did
        self._known = 0  # the newest version that a page has
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)
        self._thread.start()

    def show(self, exhibit: Exhibit, ended: bool = False) -> None:
        """Show this from now on; `ended` tells that nothing else will come. Costs nothing unless somebody looks."""
        with self._lock:
            self.version += 1
            facts = {"version": self.version, "every": EVERY, "ended": ended}

            def make() -> tuple[dict[str, Any], str]:
                meta, data = content(exhibit)
                return {**meta, "live": facts}, data

            self._make, self._made = make, None

    def state(self, after: int) -> tuple[dict[str, Any], str] | None:
        """What is shown, if it is newer than version `after`."""
        with self._lock:
            self._asked, self._known = time.monotonic(), max(self._known, min(after, self.version))
            if self._make is None or self.version <= after:
                return None
        with self._packing:
            with self._lock:
                make, made = self._make, self._made
            if made is None:
                made = make()
                with self._lock:
                    if make is self._make:  # else the run went on meanwhile, and the next question gets that
                        self._made = made
            return made

    def close(self) -> None:
        """Stop; before that, give a page that is open the time to fetch what was shown last."""
        limit = time.monotonic() + 4 * EVERY
        while time.monotonic() < limit and self._known < self.version and self._asked > time.monotonic() - 3 * EVERY:
            time.sleep(0.05)
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    live: Live

    def __init__(self, *arguments: Any) -> None:
        self.free = threading.BoundedSemaphore(MOST)
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        """In a thread of its own, as long as there are not too many: each takes one of the run's descriptors."""
        if not self.free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread could be started
            self.free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that hangs up is nothing to be told of."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = "pcdistill"
    sys_version = ""
    timeout = PATIENCE

    def do_GET(self) -> None:
        name, _, port = self.headers.get("Host", "").partition(":")
        if name not in (HOST, "localhost") or (port or "80") != str(self.server.server_address[1]):
            self.send_error(HTTPStatus.FORBIDDEN)
            return
        place = urlsplit(self.path)
        if place.path == "/":
            self._page()
        elif place.path == "/state":
            self._state(parse_qs(place.query).get("after", ["0"])[0])
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def _page(self) -> None:
        shown = self.server.live.state(0)
        if shown is None:
            self._answer("text/html", b'<meta http-equiv="refresh" content="1"><p>The run begins.</p>')
        else:
            self._answer("text/html", filled(*shown, connect="'self'").encode())

    def _state(self, after: str) -> None:
        if not (after.isascii() and after.isdigit()):
            self.send_error(HTTPStatus.BAD_REQUEST)
            return
        shown = self.server.live.state(int(after[:9]))
        if shown is None:
            self.send_response(HTTPStatus.NO_CONTENT)
            self.end_headers()
        else:
            self._answer("application/json", json.dumps({"meta": shown[0], "data": shown[1]}).encode())

    def _answer(self, kind: str, body: bytes) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing: the terminal shows the run."""
