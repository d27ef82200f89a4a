"""`pcdistill distill`: condense a data set."""

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from pcdistill.artefact.artefact import set_name
from pcdistill.clouds import CloudSource
from pcdistill.commands.followers import Bar, Log, Watched
from pcdistill.commands.making import Making, summary
from pcdistill.condense import make
from pcdistill.condense.loop import Follower
from pcdistill.condense.plan import resolve
from pcdistill.condense.spec import DistillSpec
from pcdistill.core.files import check_writable
from pcdistill.core.options import Device
from pcdistill.core.progress import Say
from pcdistill.viewing import Live


class Distill(DistillSpec, Making):
    """Condense a data set into synthetic clouds.

    The state is saved beside the output on Ctrl-C and every two minutes; --resume goes on from there.
    """

    renamed: ClassVar[Mapping[str, str]] = {**DistillSpec.renamed, "watch": "live"}

    live: Annotated[
        int | None,
        Field(
            ge=0, le=65535,
            description="port of this machine at which a browser sees the run, renewed twenty times (0: a free one)",
        ),
    ] = None  # fmt: skip
    device: Device = "cpu"
    resume: Annotated[bool, Field(description="go on from the checkpoint beside the output")] = False
    log: Annotated[Path | None, Field(description="folder for log.jsonl and, where installed, TensorBoard events")] = (
        None
    )

    def run(self, say: Say) -> None:
        plan = resolve(self, self.device)
        check_writable(self.output)
        checkpoint = self.output.with_name(self.output.name + ".checkpoint")
        with self._page(say) as live, self.real(plan.protocol, self.points) as real:
            artefact = make.distill(
                real, plan, dataset=self.data, checkpoint=checkpoint, resume=self.resume,
                followers=self._followers(real, live),
            )  # fmt: skip
            artefact.save(self.output)
        checkpoint.unlink(missing_ok=True)
        facts = artefact.metadata
        say(f"wrote {self.output}: {summary(artefact)}")
        prepared = f"{facts.prepare_seconds:.0f} s for networks or experts, which are kept for next time"
        say(f"  {facts.distill_seconds:.0f} s distilling, {prepared}")

    @contextmanager
    def _page(self, say: Say) -> Iterator[Live | None]:
        """Who shows the run to a browser, if that is asked for."""
        if self.live is None:
            yield None
            return
        with closing(Live(self.live)) as live:
            say(f"watch it at {live.address}")
            yield live

    def _followers(self, real: CloudSource, live: Live | None) -> list[Follower]:
        followers: list[Follower] = [Bar()]
        if self.log is not None:
            followers.append(Log(self.log, self.resume))
        if live is not None:
            up = str(real.provenance.get("up_axis", "z"))
            followers.append(Watched(live, set_name(self.data), self.objective, up))
        return followers
