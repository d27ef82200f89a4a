"""What to cite: which published work every registered part stands on, and the BibTeX of an artefact's parts.

The entries are in `references.bib`. A part that is this package's own is listed in `OWN`; a test holds every
registered part to one of the two.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from pcdistill.geometry import MODELNET_C, POINTCLOUD_C
from pcdistill.storage import Metadata

OBJECTIVES: Mapping[str, tuple[str, ...]] = {
    "krr": ("nguyen2021kip", "zhou2022frepo"),
    "quantile": ("yim2025sadm",),  # ours, a generalisation of its sorted features
    "dm": ("zhao2023dm",),
    "idm": ("zhao2023idm",),
    "m3d": ("zhang2024m3d",),
    "cafe": ("wang2022cafe",),
    "datadam": ("sajedi2023datadam",),
    "sadm": ("yim2025sadm",),
    "gm": ("zhao2021dc", "kim2022idc"),
    "dc": ("zhao2021dc",),
    "dsa": ("zhao2021dsa",),
    "tm": ("cazenavette2022mtt",),
}
# Settings that are published work of their own; `_settings` finds those in use.
SETTINGS: Mapping[str, tuple[str, ...]] = {
    "tesla gradient": ("cui2023tesla",),
    "sharpness-aware experts": ("du2023ftd", "foret2021sam"),
    "window of segments": ("guo2024datm",),
    "on-policy segments": ("agarwal2024gkd",),
    "averaged clouds": ("du2023ftd",),
    "labels of a teacher": ("hinton2015distilling",),
    "clouds between two": ("chen2020pointmixup",),
}
SELECTORS: Mapping[str, tuple[str, ...]] = {
    "herding": ("welling2009herding",),
    "kcenter": ("sener2018coreset", "gonzalez1985kcenter"),
    "medoid": ("kaufman1990pam", "schubert2019fasterpam"),
}
STORAGES: Mapping[str, tuple[str, ...]] = {
    "coded": ("devillers2000geometric", "bamler2022constriction"),
    "rotated": ("yim2025sadm",),
    "morphed": ("kim2026morphing",),
    "implicit": ("bo2025dd3d", "sitzmann2020siren"),
    "basis": ("cootes1995asm",),
    "mixture": ("dempster1977em",),  # what it starts from
}
# By the parts of a network's name.
NETWORKS: Mapping[str, tuple[str, ...]] = {
    "pointnet": ("qi2017pointnet",),
    "pointnet2": ("qi2017pointnet2",),
    "pointnext": ("qian2022pointnext",),
    "pointmlp": ("ma2022pointmlp",),
    "dgcnn": ("wang2019dgcnn",),
    "pointconv": ("wu2019pointconv",),
    "transformer": ("zhao2021pointtransformer",),
    "layernorm": ("ba2016layernorm",),
    "instancenorm": ("ulyanov2016instancenorm",),
    "groupnorm": ("wu2018groupnorm",),
}
DATA: Mapping[str, tuple[str, ...]] = {
    "modelnet": ("wu2015modelnet",),
    "scanobjectnn": ("uy2019scanobjectnn",),
    "shapenet": ("chang2015shapenet", "yu2022pointbert"),
    "psb": ("chen2009segmentation", "giorgi2007shrec"),
}
# Of views that networks are tested on, which are no part of an artefact; some kinds have a source of their own.
CORRUPTIONS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(MODELNET_C, ("sun2022modelnetc",)),
    **dict.fromkeys(POINTCLOUD_C, ("ren2022pointcloudc",)),
    **dict.fromkeys(("occlusion", "lidar"), ("sun2022modelnetc", "katz2007visibility")),
    "distortion": ("sun2022modelnetc", "sederberg1986ffd"),
}
# Of the measures of `pcdistill audit`, which are no part of an artefact either.
MEASURES: Mapping[str, tuple[str, ...]] = {
    "chamfer": ("fan2017psg",),
    "coverage": ("achlioptas2018generative",),
    "mmd": ("achlioptas2018generative",),
    "authentic": ("alaa2022faithful",),
    "near": ("meehan2020copying",),
    "traced": ("meehan2020copying",),
    "uneven": ("clark1954neighbor",),
}
PROTOCOLS: Mapping[str, tuple[str, ...]] = {
    "published": ("yim2025sadm",),
    "sweep": ("li2025ddranking",),  # a learning rate for every arm; there of test accuracies
}
OWN: Mapping[str, frozenset[str]] = {
    "objective": frozenset(),
    "setting": frozenset(),
    "selector": frozenset({"random"}),
    "storage": frozenset({"points", "symmetric"}),
    "network": frozenset(),
    "data set": frozenset({"shapes"}),
    "corruption": frozenset(),
    "measure": frozenset(),
    "protocol": frozenset({"tuned", "tuned*"}),
}


def keys_of(kind: str, name: str) -> tuple[str, ...] | None:
    """Keys of the entries that a part stands on: none for what is our own, None for what is not known.

    Args:
        kind: "objective", "setting", "selector", "storage", "network", "data set",
            "corruption", "measure" or "protocol".
        name: registered or catalog name. Variants (`sadm-paper`, `modelnet40`, `psb19`, `scanobjectnn:OBJ_BG`)
            are found by what they are variants of, networks by every part of their name.
    """
    if name in OWN[kind]:
        return ()
    if kind == "network":
        parts = [NETWORKS[part] for part in name.split("-") if part in NETWORKS]
        return tuple(key for part in parts for key in part) if parts else None
    if kind == "data set":
        family = re.match(r"[a-z]*", name.lower())
        return DATA.get(family[0] if family else "")
    tables = {
        "objective": OBJECTIVES,
        "setting": SETTINGS,
        "selector": SELECTORS,
        "storage": STORAGES,
        "protocol": PROTOCOLS,
        "corruption": CORRUPTIONS,
        "measure": MEASURES,
    }
    table = tables[kind]
    return table.get(name) or table.get(re.split(r"[-*]", name)[0])


def parts_of(metadata: Metadata) -> Iterator[tuple[str, str]]:
    """(kind, name) of everything that went into an artefact, and of the network that it is evaluated with."""
    objective, selection = metadata.objective or {}, metadata.selection
    if metadata.distilled:
        yield "objective", str(objective.get("name", metadata.arm))
    for setting in _settings(metadata):
        yield "setting", setting
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


def cite(metadata: Metadata) -> str:
    """BibTeX of pcdistill and of exactly the work that an artefact stands on, each part named in a comment."""
    entries, keys, notes = bibliography(), dict[str, None](), []
    for kind, name in dict.fromkeys(parts_of(metadata)):
        found = keys_of(kind, name)
        # Names come from the file: what could end a comment or an entry is left out.
        label = f"{kind} {re.sub(r'[^ -~]|[@{}%]', '', name)}"
        if found is None:
            notes.append(f"% {label}: no reference known here; cite its authors")
        else:
            notes.append(f"% {label}: {', '.join(found) or 'of pcdistill'}")
            keys.update(dict.fromkeys(found))
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


def _settings(metadata: Metadata) -> list[str]:
    """Those of `SETTINGS` that an artefact was made with."""
    facts, labels = metadata.objective or {}, metadata.selection.get("labels")
    bank, start = facts.get("bank"), facts.get("start")
    first = start[0] if isinstance(start, list) and start else 0
    used = {
        "tesla gradient": facts.get("gradient") == "tesla",
        "sharpness-aware experts": isinstance(bank, Mapping) and _positive(bank.get("sam")),
        # MTT bounds the starts of segments from above; DATM from below, too, and moves the bound.
        "window of segments": _positive(first) or _positive(facts.get("grow")),
        "on-policy segments": _positive(facts.get("on_policy")),
        "averaged clouds": _positive((metadata.settings or {}).get("ema")),
        "labels of a teacher": isinstance(labels, Mapping) and "teacher" in labels,
        "clouds between two": any(_positive((metadata.expansion or {}).get(name)) for name in ("interpolate", "mixup")),
    }
    return [name for name, is_used in used.items() if is_used]


def _positive(value: object) -> bool:
    return isinstance(value, int | float) and value > 0
