"""What readers of text share: numbered lines, numbers of one line or of many, and messages that name a line.

Rows that are as they should be are read many at once, which is several times as fast as one by one. Where a check
fails among them they are read again singly, which finds the line to name.
"""

import codecs
import io
from array import array
from collections.abc import Iterator, Sequence
from itertools import chain, repeat
from pathlib import Path

from pcdistill.core.errors import InputError

LONGEST = 40  # characters of a file that a message shows
BLOCK = 1 << 18  # characters that are split into lines at once
Row = tuple[int, str]  # number and text of a line
Rows = tuple[Sequence[int], Sequence[str]]  # of many


class Lines(Iterator[Row]):
    """Rows, one by one or many at a time."""

    def __init__(self, blocks: Iterator[Rows]) -> None:
        self._blocks = blocks
        self._numbers: Sequence[int] = ()
        self._texts: Sequence[str] = ()
        self._at = 0

    def __next__(self) -> Row:
        while self._at == len(self._texts):
            (self._numbers, self._texts), self._at = next(self._blocks), 0
        self._at += 1
        return self._numbers[self._at - 1], self._texts[self._at - 1]

    def rest(self) -> Iterator[Row]:
        """All that are left, faster than by `next`; whoever stops before the last has lost some."""
        for numbers, texts in self.many():
            yield from zip(numbers, texts, strict=True)

    def many(self, count: int | None = None) -> Iterator[Rows]:
        """The next `count` rows (None: all); fewer if there are no more."""
        while count is None or count > 0:
            if self._at == len(self._texts):
                try:
                    (self._numbers, self._texts), self._at = next(self._blocks), 0
                except StopIteration:
                    return
            end = len(self._texts) if count is None else min(len(self._texts), self._at + count)
            numbers, texts = self._numbers[self._at : end], self._texts[self._at : end]
            count = None if count is None else count - len(texts)
            self._at = end
            yield numbers, texts


def lines(content: bytes, comment: str | None = "#", start: int = 0, first: int = 1) -> Lines:
    """Number and text of the lines from byte `start` on, stripped, without comments and those left empty.

    They come by and by, so that short lines do not take a multiple of the file in memory. Any ends of lines
    (Unix, Windows, old Mac), UTF-8 with or without a byte order mark, UTF-16 with one; other bytes become U+FFFD.
    """
    raw = io.BytesIO(content)
    raw.seek(start)
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = io.TextIOWrapper(raw, encoding="utf-16" if wide else "utf-8-sig", errors="replace")
    return Lines(_blocks(text, comment, first))


def _blocks(text: io.TextIOWrapper, comment: str | None, first: int) -> Iterator[Rows]:
    while block := text.readlines(BLOCK):
        if comment is not None and any(comment in line for line in block):
            block = [line.partition(comment)[0] for line in block]
        texts, numbers = list(map(str.strip, block)), range(first, first + len(block))
        first += len(block)
        if all(texts):
            yield numbers, texts
        else:
            kept = [at for at, line in enumerate(texts) if line]
            yield [numbers[at] for at in kept], [texts[at] for at in kept]


def table(texts: Sequence[str], columns: int, separator: str | None = None) -> list[str] | None:
    """The words of many rows, row after row; None if one has not as many as `columns`."""
    # Two passes, as a list for each row would have Python's garbage collector look at all there is, time and again.
    if set(map(len, map(str.split, texts, repeat(separator)))) != {columns}:
        return None
    return (separator or " ").join(texts).split(separator)


def floats(words: Sequence[str] | None, columns: int, places: Sequence[int]) -> "array[float] | None":
    """The numbers at some places of the rows of a `table`, row after row; None of None, or if one is no number."""
    if words is None:
        return None
    try:
        if list(places) == list(range(columns)):
            return array("d", map(float, words))
        return array("d", map(float, chain.from_iterable(zip(*(words[at::columns] for at in places), strict=True))))
    except ValueError:
        return None


def whole(words: Sequence[str]) -> "array[int] | None":
    """Words as whole numbers of 64 bits; None if one is none."""
    try:
        return array("q", map(int, words))
    except (ValueError, OverflowError):
        return None


def triangles(texts: Sequence[str]) -> "array[int] | None":
    """Corners of rows "3 i j k"; None if one is not like that."""
    words = table(texts, 4)
    if words is None or set(words[::4]) != {"3"}:
        return None
    del words[::4]
    return whole(words)


def xyz(rows: Rows, path: Path, skipped: int = 0) -> "array[float]":
    """x y z of many rows, the first three of their words but `skipped` ones; InputError naming the line."""
    numbers, texts = rows
    columns = len(texts[0].split())
    if columns >= skipped + 3:
        found = floats(table(texts, columns), columns, range(skipped, skipped + 3))
        if found is not None:
            return found
    each = (coordinates(line.split()[skipped:], path, number) for number, line in zip(numbers, texts, strict=True))
    return array("d", chain.from_iterable(each))


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
