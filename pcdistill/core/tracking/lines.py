"""JSON lines: what every run with a folder leaves there."""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from pcdistill.core.tracking.base import Facts, Tracker, trackers


@trackers.register("lines", cites=())
class Lines(Tracker):
    """`log.jsonl`, a line a step: `{"step": 1, "loss": 0.5}`; `results.jsonl`, a line a result: `{"name": ...}`.

    Pictures are in the folder already. A run that does not go on replaces a file when it has a line for it.
    """

    def __init__(self, folder: Path, settings: Facts, goes_on: bool) -> None:
        super().__init__(folder, settings, goes_on)
        self.files: dict[str, TextIO] = {}

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        self._write("log.jsonl", {"step": step, **values})

    def result(self, name: str, facts: Facts) -> None:
        self._write("results.jsonl", {"name": name, **facts})

    def close(self, finished: bool) -> None:
        for file in self.files.values():
            with suppress(OSError):  # of lines that could not be written, which was said
                file.close()

    def _write(self, name: str, line: dict[str, Any]) -> None:
        path = self.folder / name
        if name not in self.files:
            self.files[name] = path.open("a" if self.goes_on else "w", encoding="utf-8")
        try:
            self.files[name].write(json.dumps(line) + "\n")
            self.files[name].flush()
        except OSError as error:  # of a full disk the system tells no name
            raise OSError(error.errno, error.strerror, str(path)) from error
