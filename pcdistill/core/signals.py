"""Signals to a command: SIGTERM is Ctrl-C from somebody else; while a command starts, both end it at once."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

Handler = Callable[[int, FrameType | None], object] | int | None
BOTH = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def terminable() -> Iterator[list[int]]:
    """SIGTERM, which schedulers and `kill` send, raises KeyboardInterrupt in here, as Ctrl-C does.

    What runs long saves its state then and ends its workers. By way of SIGINT, as the loop of a distillation holds that
    back while it changes the state. Yields a list with an item for every SIGTERM that came.
    """
    asked: list[int] = []
    if not _main() or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield asked  # a worker has handlers of its own, and whoever ignores SIGTERM means that
        return
    usual = signal.getsignal(signal.SIGINT)

    def terminated(number: int, _: object) -> None:
        asked.append(number)
        signal.raise_signal(signal.SIGINT)

    def interrupted(number: int, frame: FrameType | None) -> None:
        if asked:
            raise KeyboardInterrupt
        if callable(usual):  # it may be ignored: what a shell does to commands in the background
            usual(number, frame)

    with _handled({signal.SIGTERM: terminated, signal.SIGINT: interrupted}):
        yield asked


@contextmanager
def leaving_at_once() -> Iterator[None]:
    """Ctrl-C and SIGTERM end the process in here with one line, for a block that has nothing to save or clean up.

    Libraries that are imported take KeyboardInterrupt for the lack of an optional part and go on.
    """
    if not _main() or signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        yield
        return

    def leave(number: int, _: object) -> None:
        os.write(2, b"pcdistill: interrupted\n")
        os._exit(128 + number)

    with _handled(dict.fromkeys(BOTH, leave)):
        yield


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back until the block is done: what is saved after half an update cannot be resumed."""
    if not _main():
        yield
        return
    held: list[int] = []
    with _handled({signal.SIGINT: lambda number, _: held.append(number)}):
        yield
    if held:
        signal.raise_signal(signal.SIGINT)


@contextmanager
def ctrl_c_ignored() -> Iterator[None]:
    """Processes started in here ignore Ctrl-C, which a terminal sends to all: the first one ends the others."""
    if not _main():
        yield
        return
    with _handled({signal.SIGINT: signal.SIG_IGN}):
        yield


@contextmanager
def _handled(handlers: dict[signal.Signals, Handler]) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _main() -> bool:
    """Only the main thread gets signals, and may say what they do."""
    return threading.current_thread() is threading.main_thread()
