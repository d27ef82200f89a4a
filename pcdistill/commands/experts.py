"""`pcdistill experts`: record what trajectory matching follows."""

from collections.abc import Mapping
from contextlib import closing
from typing import Annotated, Any, ClassVar

from pydantic import Field

from pcdistill.clouds import placed
from pcdistill.commands.base import Command, tell
from pcdistill.condense.plan import objective_of
from pcdistill.condense.spec import DistillSpec
from pcdistill.core.engine import Job, carried_out
from pcdistill.core.errors import InputError
from pcdistill.core.files import cache_root
from pcdistill.core.options import Device, Engine, Reading, Seed, Workers
from pcdistill.core.progress import Say, progress
from pcdistill.core.tracking import Tracked
from pcdistill.data.reading import read
from pcdistill.matching.experts import ExpertConfig, estimate, missing_experts, record_expert, record_experts


class Experts(Reading, Tracked, Command):
    """Record the expert trajectories of `tm` in the cache, where `distill` with the same settings finds them.

    Every expert is a job of its own and kept as soon as it is done: the same command goes on after an interruption.
    """

    renamed: ClassVar[Mapping[str, str]] = {"networks": "members"}

    data: Annotated[str, Field(description="catalog name, HDF5 file or folder")]
    preset: Annotated[str | None, Field(description="named settings, of which the experts' count")] = None
    options: Annotated[
        dict[str, Any], Field(description="of the objective tm: bank.steps=200 bank.interval=5 bank.bits=16")
    ] = Field(default_factory=dict)
    members: Annotated[int | None, Field(ge=1, description="experts (default: as the objective likes)")] = None
    surrogate: Annotated[str | None, Field(description="network (default: as the objective likes)")] = None
    seed: Seed = 0
    device: Device = "cpu"
    workers: Workers = 1
    engine: Engine = "local"

    def config(self) -> ExpertConfig:
        """Of the experts: what the objective's options say.

        Raises:
            InputError: unknown names or impossible settings.
        """
        given = self.model_dump(include={"preset", "options", "members", "surrogate", "seed"}, exclude_none=True)
        spec = DistillSpec.checked({**given, "objective": "tm"}, "pcdistill experts")
        config: ExpertConfig = objective_of(spec).options.bank
        return config

    def run(self, say: Say) -> None:
        config = self.config()
        loaded = read(self, self.data)
        tell(loaded)
        real = placed(loaded, self.device)
        cost = estimate(real, config)
        say(
            f"{config.networks} experts of {config.steps} steps, {config.networks - cost.missing} recorded before: "
            f"about {cost.seconds:.0f} s of work and {cost.megabytes:.0f} MB in {cache_root() / 'experts'}"
        )
        missing = missing_experts(real, config)
        jobs = [Job(f"expert {k}", _expert, (self, config, k)) for k in missing]
        failures = []
        with (
            self.tracking() as tracking,
            progress("recording experts", len(jobs)) as report,
            closing(carried_out(jobs, self.engine, self.workers, self.device)) as ends,
        ):
            for number, (job, reason) in enumerate(ends, 1):
                report(number, job.name)
                tracking.result(job.name, {"done": reason is None})
                if reason is not None:
                    failures.append(f"{job.name}: {reason}")
        if failures:
            raise InputError("experts", f"{len(failures)} of {len(jobs)} failed, as {failures[0]}")
        say(f"recorded in {record_experts(real, config)[1]:.0f} s")


def _expert(asked: Experts, config: ExpertConfig, k: int) -> None:
    record_expert(placed(read(asked, asked.data), asked.device), config, k)
