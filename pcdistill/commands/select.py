"""`pcdistill select`: choose real clouds."""

from pcdistill.commands.making import Making, summary
from pcdistill.condense import make
from pcdistill.condense.plan import resolve
from pcdistill.condense.spec import SelectSpec
from pcdistill.core.files import check_output
from pcdistill.core.options import Device, DryRun
from pcdistill.core.progress import Say


class Select(SelectSpec, Making):
    """Choose real clouds (a coreset) and store them at the same budget as a synthetic set."""

    device: Device = "cpu"
    dry_run: DryRun = False

    def run(self, say: Say) -> None:
        plan = resolve(self, self.device)
        if self.dry_run:
            self.foresee(plan, self.points, say)
            return
        check_output(self.output, self.force)
        with self.real(plan.protocol, self.points) as real:
            artefact = make.select(real, plan, dataset=self.data)
        artefact.save(self.output)
        say(f"wrote {self.output}: {summary(artefact)}")
