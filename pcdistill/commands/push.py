"""`pcdistill push`: publish an artefact on the Hugging Face Hub."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

from pydantic import Field

from pcdistill.artefact.artefact import Artefact
from pcdistill.artefact.licence import forbidden, licence_of
from pcdistill.artefact.places import FILE, hub, located, reason, repository
from pcdistill.commands.base import Command
from pcdistill.commands.card import Card
from pcdistill.core.errors import InputError
from pcdistill.core.options import Positional
from pcdistill.core.progress import Say


class Push(Command):
    """Publish an artefact, its card and its picture as a repository of data on the Hugging Face Hub.

    It takes the extra `hub`, and a token with the right to write (`hf auth login`, or `HF_TOKEN`). Artefacts made of
    data whose licence does not allow to pass them on are refused.
    """

    source: Annotated[Path, Positional, Field(description="artefact")]
    target: Annotated[str, Positional, Field(description="hf:USER/NAME")]
    records: Annotated[tuple[Path, ...], Field(description="records (.jsonl) whose accuracies the card states")] = ()
    audit: Annotated[Path | None, Field(description="what `pcdistill audit --output` wrote of it (.json)")] = None
    private: Annotated[bool, Field(description="seen by its owner only, where it is new")] = False
    allowed: Annotated[
        bool, Field(description="the owners of the data allow it, though their licence in the catalog does not")
    ] = False

    def run(self, say: Say) -> None:
        name, file = repository(self.target), located(self.source)
        facts = Artefact.load(self.source).metadata
        if forbidden(facts) and not self.allowed:
            reason_ = f"made of {facts.dataset}, whose licence does not allow it ({licence_of(facts)})"
            raise InputError(self.source, reason_, "--allowed where its owners do")
        library = hub()
        with TemporaryDirectory() as folder:
            page = Card(
                source=str(self.source), output=Path(folder, "README.md"), name=self.target, records=self.records,
                audit=self.audit,
            )  # fmt: skip
            page.run(lambda _: None)
            Path(folder, FILE).write_bytes(file.read_bytes())
            try:
                library.create_repo(name, repo_type="dataset", private=self.private or None, exist_ok=True)
                library.upload_folder(
                    repo_id=name, repo_type="dataset", folder_path=folder, commit_message=f"pcdistill push {FILE}"
                )
            except (OSError, ValueError, library.errors.HTTPError) as error:
                raise InputError(self.target, reason(error), "a repository that this token may write") from None
        say(f"published {self.target}: {FILE}, README.md and README.png")
