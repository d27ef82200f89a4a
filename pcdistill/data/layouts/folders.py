"""What a folder of object files means: where its classes and splits are, and what is neither.

Nothing is read but names. Splits may be called as in any of the usual tools, lie above or below the class folders, or
be missing; classes are folders, at any depth above their files, or else the beginnings of file names.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from pcdistill.core.errors import InputError
from pcdistill.data.objects import READERS
from pcdistill.data.prepare import SPLITS, MissingSplit

WORDS = {
    **dict.fromkeys(("train", "training", "trainset", "train_set", "training_set"), "train"),
    **dict.fromkeys(("test", "testing", "testset", "test_set"), "test"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "eval"), "val"),
}
# Folders that systems, synchronisers and programs leave behind; those that begin with . or __ are not even looked at.
SYSTEM = {"$recycle.bin", "recycler", "#recycle", "@eadir", "lost+found", "system volume information", "#snapshot"}
LITTER = {"thumbs.db", "desktop.ini", "icon\r"}
# Texts that are no clouds, by what their name begins with.
PROSE = ("readme", "license", "licence", "copying", "notes", "changelog", "part_names")
DEPTH = 4  # folders below a class folder that files are looked for in
NUMBERED = re.compile(r"(?P<name>.*?[^\W\d_].*?)[\s_.\-(]*\d+\)?$")  # ball_001, night_stand-7, Stuhl 3, chair12

Files = dict[str, list[Path]]  # by class


@dataclass(frozen=True)
class Survey:
    """A folder of object files.

    Attributes:
        path: the folder.
        parts: the files of every split, by class; "all" if there are no splits. A class folder that is there but
            empty has no files.
        inside: whether splits lie inside of the class folders.
        passed_over: folders that are no classes.
        left_out: files of classes that are no objects, by suffix.
        remarks: lines on names that were taken for others.
    """

    path: Path
    parts: dict[str, Files]
    inside: bool = False
    passed_over: tuple[str, ...] = ()
    left_out: Counter[str] = field(default_factory=Counter)
    remarks: tuple[str, ...] = ()

    @property
    def split(self) -> bool:
        """Whether the folders say what is for training."""
        return "all" not in self.parts

    @property
    def class_names(self) -> list[str]:
        """All classes, sorted."""
        return sorted({name for part in SPLITS for name in self.part(part)} if self.split else self.parts["all"])

    def part(self, split: str) -> Files:
        """The files of a split, by class; "val" stands in for a test split that is missing. Empty if there is none."""
        if split == "test" and "test" not in self.parts:
            split = "val"
        return self.parts.get(split, {})

    def files(self, split: str) -> Files:
        """The files of a split, of every class.

        Raises:
            MissingSplit: there is no such split.
            InputError: there is none of a class; the name that may be meant is told.
        """
        for fault in self.faults(split):
            raise fault
        return self.part(split) if self.split else self.parts["all"]

    def faults(self, split: str) -> list[InputError]:
        """What is missing of a split: all of it, or classes."""
        found = self.part(split) if self.split else self.parts["all"]
        if not found:
            there = ", ".join(self.parts) or "nothing"
            return [MissingSplit(f"{self.path} {split}", f"no {split} part, only {there}", f"a folder '{split}'")]
        return [self._missing(name, split, found) for name in self.class_names if not found.get(name)]

    def facts(self) -> dict[str, str | int]:
        """For the provenance: what was left out, and remarks."""
        said = {
            "left_out": ", ".join(f"{count} {suffix}" for suffix, count in sorted(self.left_out.items())),
            "passed_over": ", ".join(self.passed_over),
            "remarks": "; ".join(self.remarks),
        }
        return {name: text for name, text in said.items() if text}

    def _missing(self, name: str, split: str, found: Files) -> InputError:
        place = self.path / name / split if self.inside else self.path / split / name
        if name in found:
            known = " ".join(sorted(READERS))
            return InputError(place, "no object files", f"files of {known}")
        near = [other for other in found if other.casefold() == name.casefold()] or get_close_matches(name, found, 1)
        if near and near[0] not in self.part("test" if split == "train" else "train"):
            return InputError(place, f"no such folder, but '{near[0]}'", "the same names of classes in train and test")
        others = "test" if split == "train" else "train"
        return InputError(place, f"no such folder, while {others} has one", "the same classes in train and test")


def survey(path: Path) -> Survey | None:
    """What is in a folder; None if there are no object files in a form that is known.

    Raises:
        InputError: two folders for one split or one class.
    """
    seen = _Seen()
    tops = seen.folders(path)
    parts = _split_folders(tops)
    if parts:
        beside = [folder.name for folder in tops if folder not in parts.values()]
        found = {split: seen.classes(folder) for split, folder in parts.items()}
        if any(files for part in found.values() for files in part.values()):
            return seen.survey(path, found, beside)
    inner: dict[str, dict[str, Path]] = {folder.name: _split_folders(seen.folders(folder)) for folder in tops}
    if any("train" in own or "test" in own for own in inner.values()):
        return _split_inside(path, seen, tops, inner)
    files = seen.classes(path)
    if not any(files.values()):
        return None
    empty = [name for name, own in files.items() if not own]
    return seen.survey(path, {"all": {name: own for name, own in files.items() if own}}, empty)


def _split_inside(path: Path, seen: "_Seen", tops: list[Path], inner: dict[str, dict[str, Path]]) -> Survey:
    """`<class>/train/*`, `<class>/test/*`; a folder without such ones is passed over.

    Raises:
        InputError: one folder that has the classes in its splits, as of an archive that was unpacked into a folder.
    """
    held = [own for own in inner.values() if own]
    if len(held) == 1 and all(seen.folders(place) for place in held[0].values()):
        only = next(name for name, own in inner.items() if own)
        raise InputError(path, f"one folder, '{only}', with splits and classes in it", f"its path, {path / only}")
    found: dict[str, Files] = {}
    for folder in tops:
        for split, place in inner[folder.name].items():
            found.setdefault(split, {})[seen.named(folder.name, place)] = seen.objects(place)
    return seen.survey(path, found, [name for name, own in inner.items() if not own], inside=True)


def check_text(path: Path) -> None:
    """Names are kept as text in files and seeds are made of them.

    Raises:
        InputError: a name that is none, as of an archive that was unpacked in another encoding.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise InputError(ascii(str(path)), "a name that is not UTF-8", "one that is: rename it") from None


def _split_folders(folders: Iterable[Path]) -> dict[str, Path]:
    """The folders that splits are in; none if their names are those of classes.

    A class may be called `train`: splits have class folders in them, or a split of another name beside them.

    Raises:
        InputError: two folders for one split.
    """
    found: dict[str, Path] = {}
    for folder in folders:
        split = WORDS.get(folder.name.lower().replace(" ", "_").replace("-", "_"))
        if split is not None and split in found:
            raise InputError(folder.parent, f"folders '{found[split].name}' and '{folder.name}'", f"one for {split}")
        if split is not None:
            found[split] = folder
    if len(found) > 1:
        return found
    nested = [folder for folder in found.values() if any(_holds(inner) for inner in _visible(folder))]
    alone = found and not any(_holds(folder) for folder in folders if folder not in found.values())
    return found if nested or (alone and any(_holds(folder) for folder in found.values())) else {}


def _visible(path: Path) -> list[Path]:
    """Folders in a folder, sorted, without hidden ones and links to what they lie in."""
    above = (path.resolve(), *path.resolve().parents)
    return sorted(
        entry for entry in path.iterdir()
        if entry.is_dir() and not entry.name.startswith((".", "__")) and not _leads_back(entry, above)
    )  # fmt: skip


def _leads_back(entry: Path, above: Sequence[Path]) -> bool:
    return entry.is_symlink() and entry.resolve() in above


def is_object(entry: Path) -> bool:
    """Whether an entry of a folder is a file that can be read as an object."""
    known = entry.suffix.lower() in READERS and not entry.name.startswith(".")
    prose = entry.suffix.lower() == ".txt" and entry.stem.lower().startswith(PROSE)
    return known and not prose and entry.is_file()


def _holds(path: Path, depth: int = DEPTH) -> bool:
    """Whether there is an object file in a folder, or below it."""
    if any(is_object(entry) for entry in path.iterdir()):
        return True
    return depth > 0 and any(_holds(folder, depth - 1) for folder in _visible(path) if not _of_system(folder))


def _of_system(folder: Path) -> bool:
    return folder.name.lower() in SYSTEM


class _Seen:
    """What is met on the way through a folder."""

    def __init__(self) -> None:
        self.passed_over = dict[str, None]()  # in order, each once
        self.left_out = Counter[str]()
        self.spelt: dict[str, str] = {}  # names of classes as they are composed, and as they were met first
        self.remarks = dict[str, None]()

    def folders(self, path: Path) -> list[Path]:
        """Folders in a folder without those of the system, which are remembered."""
        inside = _visible(path)
        self.passed_over |= dict.fromkeys(folder.name for folder in inside if _of_system(folder))
        return [folder for folder in inside if not _of_system(folder)]

    def classes(self, path: Path) -> Files:
        """Objects by class folder, empty lists for folders without any; without folders by beginnings of file names.

        Raises:
            InputError: two folders of one name, or files whose names do not tell their class.
        """
        found: Files = {}
        for folder in self.folders(path):
            name = self.named(folder.name, folder)
            if name in found:
                raise InputError(path, f"two folders '{name}', with composed and decomposed letters", "one")
            found[name] = self.objects(folder)
        if any(found.values()):
            return found
        return self._numbered([entry for entry in sorted(path.iterdir()) if is_object(entry)]) or found

    def _numbered(self, files: list[Path]) -> Files:
        """Files as `ball_001.npy` by what stands before the number; {} if not all of them are called so."""
        found: Files = {}
        for file in files:
            match = NUMBERED.fullmatch(file.stem)
            if match is None:
                return {}
            found.setdefault(self.named(match["name"], file), []).append(file)
        return found

    def named(self, name: str, place: Path) -> str:
        """A class's name in composed letters (NFC): a Mac writes them decomposed, other systems composed."""
        composed = unicodedata.normalize("NFC", name)
        if self.spelt.setdefault(composed, name) != name:
            self.remarks[f"'{composed}' is written with composed and with decomposed letters: taken for one class"] = (
                None
            )
        return composed

    def objects(self, path: Path, depth: int = DEPTH) -> list[Path]:
        """Object files in a folder and below it, sorted; others are counted."""
        entries = [entry for entry in path.iterdir() if not entry.name.startswith(".")]
        files = [entry for entry in entries if entry.is_file()]
        odd = [entry for entry in entries if not entry.is_file() and not entry.is_dir()]
        self.left_out.update("links to nothing" if entry.is_symlink() else "pipes or devices" for entry in odd)
        known = [entry for entry in files if is_object(entry)]
        others = [entry for entry in files if entry not in known and entry.name.lower() not in LITTER]
        self.left_out.update(entry.suffix.lower() or "without a suffix" for entry in others)
        if depth > 0:
            for folder in self.folders(path):
                known += self.objects(folder, depth - 1)
        return sorted(known)

    def survey(self, path: Path, parts: dict[str, Files], beside: list[str], *, inside: bool = False) -> Survey:
        """All that was seen; folders without a file in any part are no classes."""
        names = {name for part in parts.values() for name in part}
        empty = {name for name in names if not any(part.get(name) for part in parts.values())}
        kept = {split: {name: own for name, own in part.items() if name not in empty} for split, part in parts.items()}
        for file in (file for part in kept.values() for own in part.values() for file in own):
            check_text(file)
        over = [*self.passed_over, *beside, *sorted(empty)]
        if "val" in kept and "test" not in kept:
            self.remarks["the validation part is taken for the test part, of which there is none"] = None
        elif "val" in kept:
            over.append("the validation part")
        return Survey(
            path, {split: part for split, part in kept.items() if part}, inside,
            tuple(dict.fromkeys(over)), self.left_out, tuple(self.remarks),
        )  # fmt: skip
