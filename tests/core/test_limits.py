"""What a file may make its reader do: large claims of small files, and files without an end."""

from pathlib import Path

import pytest

from pcdistill.core.errors import InputError
from pcdistill.core.limits import FREE, MOST_FILE, PER_BYTE, check_room, read_whole
from pcdistill.core.options import Options, nested, read_toml
from pcdistill.export import load_model
from pcdistill.training.trained import load_network


def test_room_grows_with_the_file() -> None:
    check_room(FREE, 0, "file")
    check_room(FREE + 10 * PER_BYTE, 10, "file")
    with pytest.raises(InputError, match=rf"^file: {FREE + 1} bytes when read, of 0 in the file, expected at most"):
        check_room(FREE + 1, 0, "file")
    with pytest.raises(InputError, match="at most"):
        check_room(FREE + 2, 10, "file", per_byte=0)


@pytest.mark.parametrize("read", [read_whole, load_network, load_model])
def test_a_hole_of_gigabytes_is_not_read(read: object, tmp_path: Path) -> None:
    path = tmp_path / "giant.onnx"
    with path.open("wb") as file:
        file.truncate(50 << 30)
    with pytest.raises(InputError, match=rf"giant\.onnx: a file of {50 << 30} bytes, expected at most {MOST_FILE}"):
        read(path)  # type: ignore[operator]


@pytest.mark.parametrize("text", ["a = " + "[" * 5000, "a = " + "1" * 5000, "a = '\0'", "a = \udc80"])
def test_settings_that_no_parser_takes(text: str, tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(InputError, match=r"a\.toml: not TOML \(") as said:
        read_toml(path, Options)
    assert len(str(said.value)) < 400
    if text.isascii():
        assert nested([text.replace(" ", "")])["a"] == text.partition("= ")[2]
