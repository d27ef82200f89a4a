"""The one exception that means "the input is at fault", shown to users as a single line."""


class InputError(ValueError):
    """Bad input: a file, field, name or budget that cannot be used.

    The message is one line that names the place, what was found and what was expected. The command
    line prints it and exits with code 2; everything else that escapes is a defect of the program.
    """

    def __init__(self, place: object, found: str, expected: str | None = None) -> None:
        text = f"{place}: {found}" if expected is None else f"{place}: {found}, expected {expected}"
        super().__init__(" ".join(text.split()))
