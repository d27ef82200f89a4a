"""Names to factories: how methods, networks, storages, selectors and data sets are found."""

import difflib
import functools
import importlib
import pkgutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

from pcdistill.core.errors import InputError

T = TypeVar("T")


def nearest(name: str, known: Iterable[str]) -> str:
    """`name` with the closest known name as a hint, for one-line error messages."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"'{name}' (did you mean '{close[0]}'?)" if close else f"'{name}'"


class Registry(Generic[T]):
    """A table of named things of one kind; a clash or an unknown name is an error.

    With a `group`, the entry points of that group in installed distributions belong to it: an entry point's name is
    the registered name, its value the thing (a factory or class). They are loaded when they are asked for, so that
    one that is broken, or has the name of another, is an error for those alone who ask for it.

    >>> networks: Registry[type] = Registry("network")
    >>> @networks.register("tiny")
    ... class Tiny: ...
    >>> networks["tiny"] is Tiny
    True
    """

    def __init__(self, kind: str, group: str | None = None) -> None:
        self.kind = kind
        self.group = group
        self._entries: dict[str, T] = {}
        self._cites: dict[str, tuple[str, ...] | None] = {}
        self._loaded: dict[EntryPoint, T] = {}

    def register(self, name: str, cites: tuple[str, ...] | None = None) -> Callable[[T], T]:
        """Decorator that files a class or function under `name`.

        Args:
            name: that it is found by.
            cites: keys in `references.bib` of the published work that it stands on; empty for what is our own.
        """

        def add(entry: T) -> T:
            if name in self._entries:
                raise KeyError(f"{self.kind} '{name}' is registered twice")
            self._entries[name] = entry
            self._cites[name] = cites
            return entry

        return add

    def __getitem__(self, name: str) -> T:
        points = self._plugins().get(name, ())
        if points:
            return self._plugin(name, points)
        if name not in self._entries:
            raise InputError(self.kind, nearest(name, self), "one of " + ", ".join(self))
        return self._entries[name]

    def cites(self, name: str) -> tuple[str, ...] | None:
        """Keys of the published work that the thing of this name stands on: none for what is our own.

        None where that is not known: of a name that is not, and of a thing that does not say. One from another
        distribution says it in an attribute `cites`.
        """
        if name not in self._plugins():
            return self._cites.get(name)
        try:
            return getattr(self[name], "cites", None)
        except InputError:
            return None  # it cannot be loaded

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({*self._entries, *self._plugins()}))

    def __contains__(self, name: object) -> bool:
        return name in self._entries or name in self._plugins()

    def __len__(self) -> int:
        return len(set(self))

    def _plugins(self) -> Mapping[str, tuple[EntryPoint, ...]]:
        return {} if self.group is None else _entry_points(self.group, tuple(sys.path))

    def _plugin(self, name: str, points: tuple[EntryPoint, ...]) -> T:
        """What a name stands for: its only entry point, and nothing built in, so that no name changes its meaning."""
        point = points[0]
        if name in self._entries or len(points) > 1:
            found = f"'{name}' of {' and '.join(map(_origin, points))}"
            raise InputError(self.kind, found, "a name that nothing built in and no other distribution has")
        if point in self._loaded:
            return self._loaded[point]
        try:
            entry = point.load()
        except Exception as error:
            reason = f"cannot be loaded from {point.value} ({type(error).__name__}: {error})"
            raise InputError(self.kind, f"'{name}' of {_origin(point)} {reason}") from error
        if not callable(entry):
            raise InputError(
                self.kind, f"'{name}' of {_origin(point)} is {point.value}, {entry!r}", "a factory or class"
            )
        self._loaded[point] = entry
        return self._loaded[point]


def import_modules(package: str, folders: Iterable[str]) -> None:
    """Import all modules of a package, in the order of their names, so that what they register is known.

    Args:
        package: its name.
        folders: its `__path__`.
    """
    for name in sorted(module.name for module in pkgutil.iter_modules(folders) if not module.ispkg):
        importlib.import_module(f"{package}.{name}")


def _origin(point: EntryPoint) -> str:
    named = point.dist is not None and point.dist.name  # none without its METADATA
    return f"distribution {point.dist.name} {point.dist.version}" if point.dist and named else "an unnamed distribution"


@functools.lru_cache(maxsize=64)
def _entry_points(group: str, path: tuple[str, ...]) -> Mapping[str, tuple[EntryPoint, ...]]:
    """Entry points of a group by name; looked up once for every state of `sys.path`, as that reads many files."""
    found: dict[str, tuple[EntryPoint, ...]] = {}
    for point in entry_points(group=group):
        found[point.name] = (*found.get(point.name, ()), point)
    return found
