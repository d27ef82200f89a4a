"""Names to factories: how methods, networks, storages, selectors and data sets are found."""

import difflib
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from pcdistill.errors import InputError

T = TypeVar("T")


def nearest(name: str, known: Iterable[str]) -> str:
    """`name` with the closest known name as a hint, for one-line error messages."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"'{name}' (did you mean '{close[0]}'?)" if close else f"'{name}'"


class Registry(Generic[T]):
    """A table of named things of one kind; a clash or an unknown name is an error.

    >>> networks: Registry[type] = Registry("network")
    >>> @networks.register("tiny")
    ... class Tiny: ...
    >>> networks["tiny"] is Tiny
    True
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that files a class or function under `name`."""

        def add(entry: T) -> T:
            if name in self._entries:
                raise KeyError(f"{self.kind} '{name}' is registered twice")
            self._entries[name] = entry
            return entry

        return add

    def __getitem__(self, name: str) -> T:
        if name not in self._entries:
            raise InputError(self.kind, nearest(name, self._entries), "one of " + ", ".join(self))
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._entries))

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __len__(self) -> int:
        return len(self._entries)
