"""Files of a few lines, what is read of them, and the line that refuses them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pcdistill.core.errors import InputError
from pcdistill.data.formats import Mesh, parse

Read = Callable[[str, str | bytes], np.ndarray | Mesh]
Refusal = Callable[[str, str | bytes], str]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """What is read of a file of this name and content."""

    def parsed(name: str, content: str | bytes) -> np.ndarray | Mesh:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return parse(path)

    return parsed


@pytest.fixture
def refusal(tmp_path: Path, read: Read) -> Refusal:
    """The message that refuses a file, from the file's name on: one line, without Python's names of errors."""

    def message(name: str, content: str | bytes) -> str:
        with pytest.raises(InputError) as caught:
            read(name, content)
        text = str(caught.value)
        assert text.startswith(str(tmp_path / name))
        assert "\n" not in text
        assert "Error" not in text
        return text.removeprefix(f"{tmp_path}/")

    return message
