"""The one exception that means "the input is at fault", shown to users as a single line."""

import re
from typing import ClassVar

OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
LONGEST = 2000  # characters of a message


class InputError(ValueError):
    """Bad input: a file, field, name or budget that cannot be used.

    The message is one line that names the place, what was found and what was expected. The command
    line prints it and exits with `code`; everything else that escapes is a defect of the program.
    """

    code: ClassVar[int] = 2

    def __init__(self, place: object, found: str, expected: str | None = None) -> None:
        text = f"{place}: {found}" if expected is None else f"{place}: {found}, expected {expected}"
        super().__init__(shortened(harmless(" ".join(text.split()))))


class Diverged(InputError):
    """A run that made things worse: its loss rose, never fell, or is no number any more."""

    code = 1


def harmless(text: str) -> str:
    """A text with what a terminal would obey, or cannot show, as the escape that Python writes for it.

    Names come from files. Line breaks and tabs stay; control characters, marks that turn the direction of writing, and
    halves of characters, as names that are no UTF-8 have, do not.
    """
    return OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def shortened(text: str, most: int = LONGEST) -> str:
    """A text of at most about so many characters: its begin and its end."""
    return text if len(text) <= most else f"{text[: most // 2]} ... {text[-most // 2 :]}"
