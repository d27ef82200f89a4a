"""Poses that are asked for reach every network that is trained: the recipe, surrogates and experts, and the loss."""

import pytest

from pcdistill.condense.plan import resolve
from pcdistill.condense.spec import DistillSpec, SelectSpec
from pcdistill.matching import objectives
from pcdistill.matching.gathering import SEMI_TRAINED
from pcdistill.training.recipe import protocol

GIVEN = {"rotate": "so3", "partial": 0.25}


@pytest.mark.parametrize("objective", objectives)
def test_everything_that_is_trained_or_matched_is_shown_so(objective: str) -> None:
    made = resolve(DistillSpec(objective=objective, clouds_per_class=1, **GIVEN))
    usual = resolve(DistillSpec(objective=objective, clouds_per_class=1))
    shown = [
        (made.protocol.recipe.augmentation, usual.protocol.recipe.augmentation),
        (made.objective.options.augmentation, usual.objective.options.augmentation),
    ]
    if objective not in ("dc", "dsa"):  # whose networks are random, or trained on the synthetic clouds
        shown.append((made.objective.options.bank.augmentation, usual.objective.options.bank.augmentation))
    for changed, plain in shown:
        assert changed == plain.model_copy(update=GIVEN)
    assert made.objective.identity() != usual.objective.identity()
    assert (made.protocol.name, usual.protocol.name) == ("tuned*", "tuned")


def test_surrogates_keep_what_they_had() -> None:
    objective = resolve(DistillSpec(clouds_per_class=1, rotate="z")).objective
    assert objective.options.bank.augmentation == SEMI_TRAINED.model_copy(update={"rotate": "z"})


def test_options_win_and_selections_have_them_in_the_recipe() -> None:
    options = {"augmentation": {"rotate": "none"}}
    objective = resolve(DistillSpec(clouds_per_class=1, rotate="z", options=options)).objective
    assert (objective.options.augmentation.rotate, objective.options.bank.augmentation.rotate) == ("none", "z")
    assert resolve(SelectSpec(clouds_per_class=1, **GIVEN)).protocol.recipe.augmentation.partial == 0.25
    assert resolve(SelectSpec(clouds_per_class=1, rotate="none")).protocol == protocol("tuned")
