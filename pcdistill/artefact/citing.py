"""What to cite: the BibTeX of exactly the work that an artefact stands on.

The entries are in `references.bib`. A part says the keys of its own where it is registered (`Registry.cites`); a data
set in the catalog, a protocol beside its recipe, and settings that are published work of their own in `SETTINGS`.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pcdistill.artefact.metadata import Metadata
from pcdistill.core.registry import Registry
from pcdistill.data.catalog import cited_for
from pcdistill.matching import objectives
from pcdistill.models import networks
from pcdistill.selection import selectors
from pcdistill.storage import storages
from pcdistill.training.recipe import CITES

REGISTRIES: Mapping[str, Registry[Any]] = {
    "objective": objectives,
    "network": networks,
    "selector": selectors,
    "storage": storages,
}


class Setting(NamedTuple):
    """A setting that is published work."""

    name: str
    cites: tuple[str, ...]
    used: Callable[[Metadata], bool]  # to make this artefact


def parts_of(metadata: Metadata) -> Iterator[tuple[str, str]]:
    """(kind, name) of everything that went into an artefact, and of the network that it is evaluated with."""
    objective, selection = metadata.objective or {}, metadata.selection
    if metadata.distilled:
        yield "objective", str(objective.get("name", metadata.arm))
    for setting in SETTINGS:
        if setting.used(metadata):
            yield "setting", setting.name
    for network in _networks(objective):
        yield "network", network
    if "method" in selection:
        yield "selector", str(selection["method"])
    if (features := str(selection.get("features") or "raw").partition(",")[0]) != "raw":
        yield "network", features
    yield "storage", metadata.storage
    yield "data set", metadata.dataset
    yield "protocol", str(metadata.protocol.get("name"))
    yield "network", str(metadata.protocol.get("network"))


def cited_by(kind: str, name: str) -> tuple[str, ...] | None:
    """Keys of the entries that a part stands on: none for what is our own, None for what is not known.

    Args:
        kind: "objective", "network", "selector", "storage", "setting", "data set" or "protocol".
        name: as it is registered, or in the catalog. A recipe that was changed, with `*`, is one of its name.
    """
    if kind in REGISTRIES:
        return REGISTRIES[kind].cites(name)
    if kind == "data set":
        return cited_for(name)
    if kind == "protocol":
        return CITES.get(name.removesuffix("*"))
    return next((setting.cites for setting in SETTINGS if setting.name == name), None)


def cite(metadata: Metadata) -> str:
    """BibTeX of pcdistill and of exactly the work that an artefact stands on, each part named in a comment."""
    entries, keys, notes = bibliography(), dict[str, None](), []
    for kind, name in dict.fromkeys(parts_of(metadata)):
        cited = cited_by(kind, name)
        # Names come from the file: what could end a comment or an entry is left out.
        label = f"{kind} {re.sub(r'[^ -~]|[@{}%]', '', name)}"
        if cited is None:
            notes.append(f"% {label}: no reference known here; cite its authors")
        else:
            notes.append(f"% {label}: {', '.join(cited) or 'of pcdistill'}")
            keys.update(dict.fromkeys(key for key in cited if key in entries))  # others are of another distribution
    version = re.sub(r"[^\w.+-]", "", metadata.versions.get("pcdistill", ""))
    return "\n".join([*notes, "", _own_entry(version, metadata.created[:4]), *(entries[key] for key in keys)]) + "\n"


def bibliography() -> dict[str, str]:
    """Key -> entry of `references.bib`."""
    text = (Path(__file__).parent / "references.bib").read_text(encoding="utf-8")
    found = re.finditer(r"^@\w+\{([^,\s]+),\n.*?^\}\n", text, flags=re.MULTILINE | re.DOTALL)
    return {entry[1]: entry[0] for entry in found}


def _own_entry(version: str, year: str) -> str:
    return (
        "@misc{pcdistill,\n"
        "  title = {pcdistill: Condensing Labelled Sets of {3D} Point Clouds},\n"
        "  author = {{pcdistill contributors}},\n"
        f"  note = {{Software{f', version {version}' if version[:1].isdigit() else ''}}},\n"
        f"  year = {{{year}}}\n"
        "}\n"
    )


def _networks(facts: object) -> Iterator[str]:
    """Names below any key `network` of an objective's settings (several in one text take turns)."""
    if isinstance(facts, Mapping):
        for key, value in facts.items():
            if key == "network" and isinstance(value, str):
                yield from (word.strip() for word in value.split(",") if word.strip())
            else:
                yield from _networks(value)
    elif isinstance(facts, list):
        for value in facts:
            yield from _networks(value)


def _positive(value: object) -> bool:
    return isinstance(value, int | float) and value > 0


def _objective(metadata: Metadata, option: str) -> object:
    return (metadata.objective or {}).get(option)


def _sharpness_aware(metadata: Metadata) -> bool:
    bank = _objective(metadata, "bank")
    return isinstance(bank, Mapping) and _positive(bank.get("sam"))


def _window(metadata: Metadata) -> bool:
    """MTT bounds the starts of segments from above; DATM from below, too, and moves the bound."""
    start = _objective(metadata, "start")
    return _positive(start[0] if isinstance(start, list) and start else 0) or _positive(_objective(metadata, "grow"))


def _taught(metadata: Metadata) -> bool:
    labels = metadata.selection.get("labels")
    return metadata.teacher is not None or (isinstance(labels, Mapping) and "teacher" in labels)


def _mixed(metadata: Metadata) -> bool:
    return any(_positive((metadata.expansion or {}).get(name)) for name in ("interpolate", "mixup"))


SETTINGS = (
    Setting("tesla gradient", ("cui2023tesla",), lambda facts: _objective(facts, "gradient") == "tesla"),
    Setting("sharpness-aware experts", ("du2023ftd", "foret2021sam"), _sharpness_aware),
    Setting("window of segments", ("guo2024datm",), _window),
    Setting("on-policy segments", ("agarwal2024gkd",), lambda facts: _positive(_objective(facts, "on_policy"))),
    Setting("averaged clouds", ("du2023ftd",), lambda facts: _positive((facts.settings or {}).get("ema"))),
    Setting("quota by gain", ("zhao2026pruner",), lambda facts: facts.selection.get("quota") == "gain"),
    Setting("labels of a teacher", ("hinton2015distilling",), _taught),
    Setting("clouds between two", ("chen2020pointmixup",), _mixed),
)
