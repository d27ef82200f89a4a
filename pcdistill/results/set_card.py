"""The card of an artefact: a page of Markdown that says what it is, what it cost, what it may be used for."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from pcdistill.artefact.artefact import Artefact, finesse
from pcdistill.artefact.citing import cite
from pcdistill.artefact.licence import identifier, licence_of
from pcdistill.core.errors import harmless
from pcdistill.results.arms import NEAR
from pcdistill.results.record import WHOLE, Record
from pcdistill.results.table import Table, accuracy_cell
from pcdistill.storage.budget import FLOAT32_CLOUD

OWN = "this set"


class Carded(NamedTuple):
    """What a card is made of.

    Attributes:
        name: that commands and Python open the artefact by.
        artefact: as it was read.
        sha256: of its file.
        file_bytes: of its file.
        records: of it and of others beside it.
        audit: what `pcdistill audit --output` wrote of it; None where that was not asked.
        picture: name of a file beside the card; None without.
    """

    name: str
    artefact: Artefact
    sha256: str
    file_bytes: int
    records: Sequence[Record] = ()
    audit: dict[str, Any] | None = None
    picture: str | None = None


def card(of: Carded) -> str:
    """The page, with the header that the Hugging Face Hub reads."""
    facts = of.artefact.metadata
    size = f"{of.artefact.bytes_per_class:,.0f} bytes per class"
    sections = [
        _header(of), f"# {facts.dataset}: {facts.arm}, {size}",
        *([f"![{len(facts.class_names)} classes, some clouds of each]({of.picture})"] if of.picture else []),
        _facts(of), "## Accuracy", _accuracy(of), *(["## Copies", _copies(of.audit)] if of.audit else []),
        "## Licence", _licence(of), "## Use", _use(of), "## Cite", f"```bibtex\n{cite(facts)}```",
    ]  # fmt: skip
    return "\n\n".join(section.strip("\n") for section in sections) + "\n"


def own(records: Sequence[Record], artefact: Artefact) -> list[Record]:
    """Records of this very set: of its data, method, storage and number of bytes, made with its seed alone."""
    facts = artefact.metadata
    return [
        one
        for one in records
        if (one.dataset, one.arm, one.storage) == (facts.dataset, facts.arm, facts.storage)
        and one.distill_seeds == [facts.seed] and abs(one.bytes_per_class - artefact.bytes_per_class) < 0.5
    ]  # fmt: skip


def _header(of: Carded) -> str:
    licence = identifier(licence_of(of.artefact.metadata))
    tags = "\n".join(f"- {tag}" for tag in ("point-cloud", "3d", "dataset-distillation", "pcdistill"))
    return f"---\nlicense: {licence}\ntags:\n{tags}\n---"


def _facts(of: Carded) -> str:
    facts, artefact = of.artefact.metadata, of.artefact
    clouds = f"{len(artefact.storage):,} of {len(facts.class_names)} classes"
    rows = [
        ("classes", ", ".join(facts.class_names)),
        ("clouds", f"{clouds}, decoded to {facts.points} points each, {finesse(artefact)}"),
        ("budget", f"{artefact.nbytes:,} bytes, {artefact.bytes_per_class:,.0f} per class: "
                   f"{artefact.bytes_per_class / FLOAT32_CLOUD:.3f} float32 clouds of 1024 points"),
        ("file", f"{of.file_bytes:,} bytes with names, provenance and checksum"),
        ("made from", f"{facts.dataset}, train; fingerprint `{facts.source_fingerprint}`"),
        ("made by", f"{'distilling' if facts.distilled else 'selecting'}, `{facts.arm}`, storage `{facts.storage}`, "
                    f"seed {facts.seed}; pcdistill {facts.versions.get('pcdistill', '?')}, {facts.created}"),
        ("meant for", f"protocol {facts.protocol.get('name')} v{facts.protocol.get('version')}"),
        ("SHA-256", f"`{of.sha256}`"),
    ]  # fmt: skip
    return "\n".join(f"- **{name}**: {harmless(words)}" for name, words in rows)


def _accuracy(of: Carded) -> str:
    """This set beside random clouds of as many bytes and the whole set, a network and a protocol at a time."""
    measured = own(of.records, of.artefact)
    if not measured:
        return f"Not measured here; `pcdistill evaluate {of.name}` measures it."
    rows = list[list[object]]()
    for one in measured:
        beside = [other for other in of.records if _same_test(one, other)]
        nearest = [other for other in beside if other.arm == "random" and one.arm != "random" and _near(one, other)]
        wholes = [other for other in beside if other.arm == WHOLE]
        for title, record in ((OWN, one), *(("random clouds", other) for other in nearest),
                              *(("the whole set", other) for other in wholes)):  # fmt: skip
            rows.append([
                title, accuracy_cell(record), len(record.accuracy), record.network, f"{record.bytes_per_class:,.0f}"
            ])  # fmt: skip
    first = measured[0]
    recipe = first.recipe or {}
    steps = f", {recipe['steps']} steps" if recipe.get("steps") else ""
    words = (
        f"Test accuracy in per cent, mean ± standard deviation over n networks; protocol {first.protocol}{steps}, test "
        f"clouds of {first.test_points} points. Random clouds: a set for each network."
    )
    header = ["trained on", "accuracy, %", "n", "network", "bytes per class"]
    return f"{Table(header, rows).markdown()}\n{words}"


def _same_test(one: Record, other: Record) -> bool:
    fields = ("dataset", "network", "protocol", "recipe", "test_points", "thin", "condition", "split", "train_rotation")
    return other is not one and all(getattr(one, name) == getattr(other, name) for name in fields)


def _near(one: Record, other: Record) -> bool:
    return abs(other.bytes_per_class - one.bytes_per_class) <= NEAR * one.bytes_per_class


def _copies(audit: dict[str, Any]) -> str:
    clouds = audit["clouds"]
    near, traced = (sum(bool(cloud[name]) for cloud in clouds) for name in ("near", "traced"))
    return (
        f"Of {len(clouds):,} clouds {near:,} are as near to a training cloud as copies would be, and {traced:,} can be "
        "traced to one (`pcdistill audit`). Selected clouds are copies."
    )


def _licence(of: Carded) -> str:
    licence = licence_of(of.artefact.metadata)
    return f"That of the data it was made from: {harmless(licence)}. The entries below are its attribution."


def _use(of: Carded) -> str:
    return (
        f"```python\nimport pcdistill as pcd\n\nclouds = pcd.Artefact.load(\"{of.name}\").training_clouds\n```\n\n"
        f"```console\n$ pcdistill evaluate {of.name}\n```"
    )  # fmt: skip


def measured_in(text: str) -> str | None:
    """The accuracy that a card states of its set: `88.6 ± 1.2 (pointnet-tiny, n = 3)`; None if it states none."""
    found = re.search(rf"^\| {OWN} \| (.+?) \| (\d+) \| (\S+) \|", text, flags=re.MULTILINE)
    return f"{found[1]} ({found[3]}, n = {found[2]})" if found else None
