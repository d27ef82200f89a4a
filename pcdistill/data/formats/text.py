"""What readers of text share: numbered lines, numbers of one line, and messages that name it."""

import codecs
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from pcdistill.core.errors import InputError

LONGEST = 40  # characters of a file that a message shows


def lines(content: bytes, comment: str | None = "#", start: int = 0, first: int = 1) -> Iterator[tuple[int, str]]:
    """Number and text of the lines from byte `start` on, stripped, without comments and those left empty.

    They come one at a time, so that short lines do not take a multiple of the file in memory. Any ends of lines
    (Unix, Windows, old Mac), UTF-8 with or without a byte order mark, UTF-16 with one; other bytes become U+FFFD.
    """
    raw = io.BytesIO(content)
    raw.seek(start)
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = io.TextIOWrapper(raw, encoding="utf-16" if wide else "utf-8-sig", errors="replace")
    for number, line in enumerate(text, start=first):
        kept = (line if comment is None else line.partition(comment)[0]).strip()
        if kept:
            yield number, kept


def at_line(path: Path, number: int) -> str:
    """The place of a message."""
    return f"{path} line {number}"


def shown(text: str) -> str:
    """`text` in quotes for a message: short, and without what a terminal would obey."""
    kept = "".join(letter if letter.isprintable() else "?" for letter in text[:LONGEST])
    return f"'{kept}{'...' if len(text) > LONGEST else ''}'"


def coordinates(words: Sequence[str], path: Path, number: int) -> tuple[float, float, float]:
    """x y z, the first three of the words of a line; InputError naming it."""
    if len(words) < 3:
        raise InputError(at_line(path, number), f"{shown(' '.join(words))}", "x y z")
    try:
        return float(words[0]), float(words[1]), float(words[2])
    except ValueError:
        raise InputError(at_line(path, number), f"{shown(' '.join(words))}", "numbers x y z") from None


def integers(words: Sequence[str], path: Path, number: int, expected: str) -> list[int]:
    """Words of a line as whole numbers; InputError naming it."""
    try:
        return [int(word) for word in words]
    except ValueError:
        raise InputError(at_line(path, number), shown(" ".join(words)), expected) from None
