"""Writing files so that a reader sees the old one or the whole new one, never half of it."""

import hashlib
import os
import re
import shutil
import sys
import tempfile
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path

from pcdistill.core.errors import InputError

_RESERVED = re.compile(r"(con|prn|aux|nul|(com|lpt)[0-9]) *(\.|$)", re.IGNORECASE)  # by Windows


@contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it onto `path` if the block succeeds.

    The content is flushed to disk before the rename, and the temporary file is removed when the
    block raises, so a full disk or Ctrl-C leaves no debris. Missing parent folders are created. Of a link, the file
    that it leads to is written. An `OSError` that names no other file names `path`.

    Raises:
        InputError: a device or a pipe, in whose place a file would come.
    """
    target = _target(path)
    temporary = _temporary(target)
    try:
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
    except OSError as error:
        # Of a full disk the system tells no name, else that of the temporary file.
        if error.errno is None or error.filename not in (None, str(temporary)):
            raise
        raise OSError(error.errno, error.strerror, str(target)) from error
    finally:
        temporary.unlink(missing_ok=True)


def _target(path: str | os.PathLike[str]) -> Path:
    """The file that is meant, no link; its folder is made."""
    target = Path(path)
    if target.is_symlink():
        target = target.resolve()
    if target.is_dir():
        raise IsADirectoryError(21, "Is a directory", str(path))
    if target.exists() and not target.is_file():
        raise InputError("output", f"{path}, which is a device or a pipe", "a file")
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def _temporary(target: Path) -> Path:
    """A new file beside `target`, which an `OSError` names."""
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=target.suffix)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(target)) from error
    os.close(handle)
    return Path(name)


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; rename it onto `path` if the block succeeds.

    `path` may be an empty folder, in whose place it comes, but none with something in it (`OSError`). Otherwise as
    `atomic`, but that files are not flushed to disk one by one.
    """
    target = Path(path).resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        if target.is_dir():
            target.rmdir()  # refuses one with something in it, as rename onto it would, and not every system has that
        temporary.rename(target)
    except OSError as error:
        inside = error.filename is not None and Path(error.filename).is_relative_to(temporary)
        if error.errno is None or not (error.filename is None or inside):
            raise
        raise OSError(error.errno, error.strerror, str(target)) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def alone_in(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Wait until no other process is in such a block for `folder`, which is made; no file of its own is left behind.

    Where the system has no such locks (Windows, some network drives), nothing is waited for.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    try:
        fcntl = import_module("fcntl")
        handle = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):
        yield
        return
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def visible(folder: Path, suffix: str) -> list[Path]:
    """Files below `folder` of such a suffix, in order, but hidden ones: what `atomic` leaves when it is killed is."""
    found = folder.rglob(f"*{suffix}")
    return sorted(file for file in found if not any(part.startswith(".") for part in file.relative_to(folder).parts))


def safe_name(text: str) -> str:
    """What is left of a text, which is not trusted, as the name of one file or folder on any system; it may be empty.

    What is neither a letter or digit of some script nor one of `-+. _` becomes `_`, so that no name leads out of its
    folder. None begins with a dot, a blank or `_`, or ends in a dot or a blank, but for a `_` in front of those that
    Windows reserves.
    """
    # What may stand in an identifier is a letter, a digit, or a mark, which some scripts write vowels with.
    letters = (letter if letter in "-+. " or f"_{letter}".isidentifier() else "_" for letter in text)
    safe = unicodedata.normalize("NFC", "".join(letters)).lstrip("._ ").rstrip(". ")
    return f"_{safe}" if _RESERVED.match(safe) else safe


def check_other(path: str | os.PathLike[str], *others: str | os.PathLike[str]) -> None:
    """Refuse to write to `path` where it is one of `others`, whatever they are called.

    Raises:
        InputError: naming it.
    """
    for other in others:
        same = Path(path).resolve() == Path(other).resolve()
        if same or (Path(path).exists() and Path(other).exists() and Path(path).samefile(other)):
            raise InputError("output", f"{path}, which is the source or another output", "a file of its own")


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise what `atomic` would, now, if `path` could not be written, before hours of work are spent on it."""
    _temporary(_target(path)).unlink()


def check_output(path: str | os.PathLike[str], force: bool) -> None:
    """As `check_writable`, and refuse to replace a file unless that is what is wanted.

    Raises:
        InputError: it is there.
    """
    if not force and Path(path).is_file():
        raise InputError("output", f"{path}, which is there", "a new name, or --force to replace it")
    check_writable(path)


def sha256_file(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's content as lower-case hex."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def cache_root() -> Path:
    """Folder for derived data that can be rebuilt: `PCDISTILL_CACHE`, or the user's cache folder.

    Raises:
        InputError: neither is known.
    """
    if named := os.environ.get("PCDISTILL_CACHE"):
        return Path(named)
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "pcdistill"
    try:
        home = Path.home()
    except RuntimeError:
        raise InputError("cache", "a user without a home folder", "a folder in PCDISTILL_CACHE") from None
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "pcdistill"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "pcdistill" / "Cache"
    return home / ".cache" / "pcdistill"


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
