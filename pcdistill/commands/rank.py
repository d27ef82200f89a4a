"""`pcdistill rank`: scores of an artefact apart from labels and recipe."""

import json
from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field

from pcdistill.artefact.artefact import set_name
from pcdistill.commands.base import Command
from pcdistill.commands.evaluate import tell_of
from pcdistill.core.errors import InputError
from pcdistill.core.options import Paths, Positional
from pcdistill.core.progress import Say, progress
from pcdistill.core.tracking import Tracked
from pcdistill.evaluation.ranking import ARMS, Compression, Ranking, compression, rank
from pcdistill.evaluation.subject import SubjectSpec, open_subject
from pcdistill.results.table import mean_per_cent
from pcdistill.teaching import read_teacher


class Rank(SubjectSpec, Tracked, Command):
    """Score an artefact apart from its labels and the recipe (DD-Ranking): trains random clouds and the whole set, too.

    Of a set with soft labels, --teacher is who labelled it.
    """

    source: Annotated[str, Positional, Field(description="artefact")]
    teacher: Annotated[
        Paths, Field(description="network (.safetensors), or several, that gave the set's soft labels")
    ] = ()
    json_: Annotated[bool, Field(alias="json", description="print one JSON object instead of text")] = False

    renamed: ClassVar[Mapping[str, str]] = {
        "data": "test_data", "seeds": "train_seeds", "steps": "train_steps", "train_rotation": "rotate",
    }  # fmt: skip

    def run(self, say: Say) -> None:
        subject = open_subject(self, real=True)
        tell_of(subject)
        made, real, protocol = subject.artefact, subject.real, subject.protocol
        if made is None:
            raise InputError(self.source, "a data set or a network", "an artefact")
        assert real is not None  # asked for
        label = None
        if self.teacher:
            if made.clouds.labels.ndim == 1:
                raise InputError("teacher", f"but labels of {self.source} are hard", "no teacher")
            teacher = read_teacher(self.teacher, protocol.recipe.temperature, self.device)
            teacher.check(real.class_names)
            label = teacher.probabilities
        with self.tracking() as tracking, progress("scoring", len(ARMS)) as report:
            ranking = rank(made, real, subject.test, protocol, range(self.train_seeds), label, report, self.device)
            tracking.result(set_name(self.source), _scores(ranking))
        ratio = compression(made, real, protocol)
        say(_as_json(ranking, ratio) if self.json_ else _as_text(ranking, ratio))


def _scores(ranking: Ranking) -> dict[str, float]:
    return {name: getattr(ranking, name) for name in ("lrs", "ars", "hlr", "ior", "recovery")}


def _as_json(ranking: Ranking, ratio: Compression) -> str:
    return json.dumps({**_scores(ranking), "compression": ratio._asdict(), "accuracies": vars(ranking)})


def _as_text(ranking: Ranking, ratio: Compression) -> str:
    rows = {
        "the set": mean_per_cent(ranking.made),
        "with hard labels": mean_per_cent(ranking.made_hard),
        "random clouds, equal bytes": mean_per_cent(ranking.random),
        "the set, unaugmented": mean_per_cent(ranking.made_plain),
        "random, unaugmented": mean_per_cent(ranking.random_plain),
        "the whole set": mean_per_cent(ranking.real_hard),
        "recovery": f"{100 * ranking.recovery:.1f} % of the whole set's accuracy",
        "label-robust score": f"{ranking.lrs:.3f} (0.269: no better than random, no worse than the whole set)",
        "augmentation-robust score": f"{ranking.ars:.3f} (0.269: no better than random)",
        "the whole set is": f"{ratio.clouds:.3g} x the clouds, {ratio.points:.3g} x the points, "
        f"{ratio.nbytes:.3g} x the bytes, {ratio.steps:.3g} x the training steps",
    }
    return "\n".join(f"{name:28} {text}" for name, text in rows.items())
