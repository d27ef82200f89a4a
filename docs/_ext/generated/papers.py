"""The entries of `pcdistill/artefact/references.bib` as text."""

import re
from typing import NamedTuple

from pcdistill.artefact.citing import bibliography

MANY = 4  # authors that are named; of more the first one
OTHERS = "others"  # of more than an entry names


class Paper(NamedTuple):
    """A published work."""

    key: str
    authors: list[str]  # "Last, First"
    title: str
    venue: str
    year: str

    @property
    def short(self) -> str:
        """As it is cited: Zhao & Bilen 2023."""
        names = [author.partition(",")[0] for author in self.authors]
        known = 3 if names[-1] == OTHERS else len(names)
        who = {1: names[0], 2: " & ".join(names[:2])}.get(known, f"{names[0]} et al.")
        return f"{who} {self.year}"

    def markdown(self) -> str:
        """The whole reference."""
        names = [_initials(author) for author in self.authors]
        who = ", ".join(names) if len(names) <= MANY and names[-1] != OTHERS else f"{names[0]} et al."
        return f"{who} ({self.year}). *{self.title}*. {self.venue}."


def papers() -> dict[str, Paper]:
    """Key to paper, by author and year."""
    found = [_paper(key, entry) for key, entry in bibliography().items()]
    return {paper.key: paper for paper in sorted(found, key=lambda paper: (paper.short.lower(), paper.key))}


def _paper(key: str, entry: str) -> Paper:
    fields = dict(re.findall(r"^  (\w+) = \{(.*?)\},?$", entry, flags=re.MULTILINE | re.DOTALL))
    plain = {name: " ".join(re.sub(r"[{}]", "", value).replace("---", " – ").split()) for name, value in fields.items()}
    venue = next(plain[name] for name in ("booktitle", "journal", "publisher", "howpublished") if name in plain)
    if preprint := re.fullmatch(r"arXiv:([\d.]+)", venue):
        venue = f"[{venue}](https://arxiv.org/abs/{preprint[1]})"
    if "volume" in plain:
        venue += f" {plain['volume']}, {plain['pages'].replace('--', '–')}"
    return Paper(key, plain["author"].split(" and "), plain["title"], venue, plain["year"])


def _initials(author: str) -> str:
    last, _, first = author.partition(", ")
    return f"{last}, {' '.join(name[0] + '.' for name in first.split())}" if first else last
