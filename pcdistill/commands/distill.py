"""`pcdistill distill`: condense a data set."""

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Annotated, ClassVar

from pydantic import Field

from pcdistill.artefact.artefact import set_name
from pcdistill.clouds import CloudSource
from pcdistill.commands.base import warn
from pcdistill.commands.followers import Bar, Watched
from pcdistill.commands.making import Making, prepared, summary
from pcdistill.condense import make
from pcdistill.condense.loop import Follower
from pcdistill.condense.outcome import Outcome
from pcdistill.condense.plan import resolve
from pcdistill.condense.spec import DistillSpec
from pcdistill.condense.told import Told, facts_of
from pcdistill.core.engine import Team
from pcdistill.core.errors import Diverged
from pcdistill.core.files import check_output, check_writable
from pcdistill.core.options import Device, DryRun, Engine, Workers
from pcdistill.core.progress import Say
from pcdistill.core.tracking import Tracked, Tracking
from pcdistill.viewing import Live


class Distill(DistillSpec, Tracked, Making):
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
    workers: Workers = 1
    engine: Engine = "local"
    dry_run: DryRun = False
    resume: Annotated[bool, Field(description="go on from the checkpoint beside the output")] = False
    force: Annotated[
        bool, Field(description="replace an output that is there, and take a set whose loss has not fallen")
    ] = False

    def run(self, say: Say) -> None:
        plan, outcome = resolve(self, self.device, Team(self.engine, self.workers)), Outcome()
        if self.dry_run:
            self.foresee(plan, self.points, say)
            return
        checkpoint = self.output.with_name(self.output.name + ".checkpoint")
        check_output(self.output, self.force or (self.resume and checkpoint.exists()))
        check_writable(checkpoint)
        with (
            self.tracking(self.resume) as tracking, self._page(say) as live,
            self.real(plan.protocol, self.points) as real,
        ):  # fmt: skip
            artefact = make.distill(
                real, plan, dataset=self.data, checkpoint=checkpoint, resume=self.resume,
                followers=[outcome, *self._followers(real, live, tracking)],
            )  # fmt: skip
            artefact.save(self.output)
            tracking.result(self.output.name, facts_of(artefact))
        checkpoint.unlink(missing_ok=True)
        say(f"wrote {self.output}: {summary(artefact)}")
        needed = f"networks or experts ({prepared(artefact, outcome.kept)})"
        say(f"  {artefact.metadata.distill_seconds:.0f} s distilling, {needed}")
        if outcome.worse and not self.force:
            raise Diverged(self.output, f"written, but {outcome.worse}", "a fall (lower --lr, or --force to take it)")
        if outcome.worse:
            warn(f"{self.output}: {outcome.worse}")

    @contextmanager
    def _page(self, say: Say) -> Iterator[Live | None]:
        """Who shows the run to a browser, if that is asked for."""
        if self.live is None:
            yield None
            return
        with closing(Live(self.live)) as live:
            say(f"watch it at {live.address}")
            yield live

    def _followers(self, real: CloudSource, live: Live | None, tracking: Tracking) -> list[Follower]:
        followers: list[Follower] = [Bar()]
        up = str(real.provenance.get("up_axis", "z"))
        if tracking:
            followers.append(Told(tracking, up))
        if live is not None:
            followers.append(Watched(live, set_name(self.data), self.objective, up))
        return followers
