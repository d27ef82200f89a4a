"""Recipes chosen on held-out clouds: what is held out, what is tried, what wins, and who gets to use it."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from pcdistill.artefact.artefact import Artefact
from pcdistill.cli import main
from pcdistill.clouds import PointClouds
from pcdistill.commands.evaluate import Evaluate
from pcdistill.commands.select import Select
from pcdistill.commands.train import Train
from pcdistill.core.errors import InputError
from pcdistill.data import last_split, load, validation_split
from pcdistill.evaluation import chosen, evaluate, planned_steps, split
from pcdistill.experiments import grid as compare
from pcdistill.experiments.spec import GridSpec
from pcdistill.results.measure import measure, summed_up
from pcdistill.results.record import read_records
from pcdistill.training.loop import train_networks
from pcdistill.training.recipe import GRIDS, EvaluationProtocol, Grid, Recipe, protocol, recipe

PLAN = EvaluationProtocol(
    name="brief", network="pointnet-small", test_points=16, grid=Grid(lr=(3e-2, 1e-6), length=(2.0, 0.5)),
    recipe=Recipe(name="brief", steps=6, batch=8),
)  # fmt: skip


@pytest.fixture
def few(tiny_clouds: PointClouds) -> PointClouds:
    """Clouds of 16 points, to be quick."""
    return tiny_clouds.with_points(tiny_clouds.points[:, :16])


def test_the_named_sweep_is_a_protocol_with_a_grid_that_survives_json() -> None:
    found = protocol("sweep")
    assert found.grid is not None
    assert found.recipe == recipe("tuned").model_copy(
        update={"name": "sweep", "version": 1}
    )  # `tuned` is one of the recipes it chooses from
    assert found.recipe.lr in found.grid.lr
    assert 1 in found.grid.length
    assert EvaluationProtocol.model_validate(json.loads(found.model_dump_json())) == found
    assert protocol("tuned").grid is None


def test_the_last_clouds_are_held_out(few: PointClouds) -> None:
    made, validation = split(few, PLAN)
    assert validation is not None
    assert (made.class_counts.tolist(), validation.class_counts.tolist()) == ([6] * 3, [2] * 3)
    assert made.fingerprint() == last_split(few, 0.2)[0].fingerprint()
    assert split(few, protocol("tuned")) == (few, None)


def test_the_best_on_validation_wins_and_every_recipe_is_tried(few: PointClouds) -> None:
    clouds, validation = split(few, PLAN)
    assert validation is not None
    found = chosen(PLAN, clouds, validation, [0, 1])
    assert [(trial.lr, trial.steps) for trial in found.trials] == [(1e-6, 3), (3e-2, 3), (1e-6, 12), (3e-2, 12)]
    by_hand = Recipe(name="brief*", steps=12, batch=8, lr=3e-2)
    plan = EvaluationProtocol(name="brief", network="pointnet-small", test_points=16, recipe=by_hand)
    assert found.trials[3].accuracy == tuple(evaluate(clouds, validation, plan, seeds=[0, 1]).accuracies)
    best = max(trial.mean for trial in found.trials)
    recipe = found.protocol.recipe
    first = next(trial for trial in found.trials if trial.mean == best)
    assert (recipe.lr, recipe.steps) == (first.lr, first.steps)
    assert best > found.trials[0].mean  # at 1e-6 nothing is learned
    assert found.protocol.grid is None
    assert found.steps == 2 * (3 + 3 + 12 + 12)


def test_of_equals_the_shortest_and_slowest_wins(few: PointClouds) -> None:
    plan = PLAN.model_copy(update={"grid": Grid(lr=(2e-8, 1e-8), length=(2.0, 1.0))})
    recipe = chosen(plan, few, few, [0]).protocol.recipe
    assert (recipe.lr, recipe.steps) == (1e-8, 6)


def test_a_recipe_that_diverges_is_no_choice(few: PointClouds) -> None:
    wild = Recipe(name="wild", steps=6, batch=8, optimizer="sgd")
    plan = PLAN.model_copy(update={"recipe": wild, "grid": Grid(lr=(1e-3, 1e30))})
    found = chosen(plan, few, few, [0])
    assert found.protocol.recipe.lr == 1e-3
    assert found.trials[1].accuracy == (0.0,)
    with pytest.raises(InputError, match="expected a finite one"):
        chosen(plan.model_copy(update={"grid": Grid(lr=(1e30,))}), few, few, [0])


def test_evaluation_chooses_without_the_test_set_and_says_what(few: PointClouds) -> None:
    clouds, validation = split(few, PLAN)
    shuffled = few.with_points(few.points.flip(0))  # a test set on which other recipes might be best
    steps: list[int] = []
    found = evaluate(
        clouds, few, PLAN, seeds=[5, 6], on_progress=lambda done, _: steps.append(done), validation=validation
    )
    other = evaluate(clouds, shuffled, PLAN, seeds=[5, 6], validation=validation)
    assert found.choice is not None
    assert found.choice == other.choice == chosen(PLAN, clouds, validation, [5])
    assert found.runs == evaluate(clouds, few, found.choice.protocol, seeds=[5, 6]).runs
    # Progress goes on from trial to trial, of one network each, to the two that are trained at once.
    tried = sum(trial.steps for trial in found.choice.trials)
    assert steps[:tried] == list(range(1, tried + 1))
    assert steps[tried:] == list(range(tried + 2, steps[-1] + 1, 2))
    assert len(steps) <= planned_steps(PLAN, len(clouds), 2) == 30 + 2 * 12
    assert planned_steps(found.choice.protocol, len(clouds), 2) == 2 * (found.choice.protocol.recipe.steps or 0)


def test_recipes_are_tried_where_networks_are_trained(few: PointClouds, monkeypatch: pytest.MonkeyPatch) -> None:
    devices: list[str] = []
    real = train_networks

    def watched(*given: Any) -> Any:
        devices.append(given[5])
        return real(*given)

    for name in ("scores", "evaluate"):
        monkeypatch.setattr(import_module(f"pcdistill.evaluation.{name}"), "train_networks", watched)
    clouds, validation = split(few, PLAN)
    found = evaluate(clouds, few, PLAN, seeds=[0], validation=validation, device="cpu:0")
    assert found.choice is not None
    assert devices == ["cpu:0"] * (len(found.choice.trials) + 1)


def test_a_grid_needs_validation_clouds_of_the_same_classes(few: PointClouds) -> None:
    with pytest.raises(InputError, match="protocol brief: no validation clouds, expected some"):
        evaluate(few, few, PLAN, seeds=[0])
    renamed = PointClouds(few.points, few.labels, ("box", "ball", "ring"))
    with pytest.raises(InputError, match="classes box, ball, ring"):
        evaluate(few, few, PLAN, seeds=[0], validation=renamed)


def test_records_say_what_was_chosen_for_every_seed(few: PointClouds) -> None:
    clouds, validation = split(few, PLAN)
    runs = [measure(clouds, few, PLAN, seed, 1, validation=validation) for seed in (0, 1)]
    record = summed_up("some", "tiny", PLAN, runs, "", "")
    assert PLAN.grid is not None
    assert record.grid == PLAN.grid.model_dump(mode="json")
    assert record.recipe == PLAN.recipe.model_dump(mode="json")
    for seed, kept in enumerate(record.sweep or []):
        assert kept == chosen(PLAN, clouds, validation, [100 * seed]).facts()
        assert (kept["lr"], kept["steps"]) in {(trial["lr"], trial["steps"]) for trial in kept["tried"]}
    plain = measure(clouds, few, PLAN.model_copy(update={"grid": None}), 0, 1)
    record = summed_up("some", "tiny", PLAN.model_copy(update={"grid": None}), [plain], "", "")
    assert not {"grid", "sweep"} & record.model_dump().keys()
    assert (record.test_points, record.thin, record.class_names) == (16, False, ["ball", "box", "ring"])
    assert record.test_set == few.fingerprint()[:16]


@pytest.fixture
def quick(short_recipes: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(GRIDS, "sweep", Grid(lr=(1e-3, 1e-2)))


def test_a_set_for_a_sweep_is_made_of_what_is_not_held_out(
    tiny_file: Path, tmp_path: Path, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    path, data = tmp_path / "a.h5", str(tiny_file)
    kept, validation = last_split(load(data, "train"), 0.2)
    given: dict[str, Any] = {"data": data, "clouds_per_class": 6, "points": 16, "bits": 32, "method": "random"}
    Select(output=path, protocol="sweep", **given).run([].append)
    made = Artefact.load(path)
    assert made.metadata.source_fingerprint == kept.fingerprint()
    plan = protocol("sweep", network="pointnet-small")
    found = evaluate(made.clouds, load(data, "test"), plan, seeds=[0], validation=validation)
    whole = evaluate(kept, load(data, "test"), plan, seeds=[0], validation=validation)
    for source, expected in ((path, found), (tiny_file, whole)):
        said: list[str] = []
        given = {"test_data": data, "protocol": "sweep", "network": "pointnet-small", "train_seeds": 1, "json": True}
        Evaluate(source=str(source), **given).run(said.append)
        (run,) = json.loads(said[0])["runs"]
        known = {key: value for key, value in vars(expected.runs[0]).items() if value is not None}
        assert run == json.loads(json.dumps(known))

    words = ["evaluate", str(path), "--test-data", data, "--network", "pointnet-small", "--train-seeds", "1"]
    capsys.readouterr()
    assert main(words) == 0
    assert found.choice is not None
    lr = found.choice.protocol.recipe.lr
    assert f"recipe             lr {lr:g}, 3 steps: best of 2 on held-out" in capsys.readouterr().out
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sweep"] == json.loads(json.dumps(found.choice.facts()))
    with pytest.raises(InputError, match="protocol: sweep, which chooses among recipes, expected one with a recipe"):
        Train(source=str(path), output=tmp_path / "net.safetensors").run([].append)


def test_a_set_made_of_held_out_clouds_is_refused(tiny_file: Path, tmp_path: Path, quick: None) -> None:
    path, data = tmp_path / "a.h5", str(tiny_file)
    given: dict[str, Any] = {"data": data, "clouds_per_class": 1, "points": 16, "method": "random"}
    Select(output=path, **given).run([].append)
    made = Artefact.load(path)
    config = Evaluate(source=str(path), test_data=data, protocol="sweep", train_seeds=1)
    with pytest.raises(
        InputError, match=r"a\.h5: made of clouds that protocol sweep chooses a recipe on .*all of train"
    ):
        config.run([].append)
    # Of a part of the training set, but another: its held-out clouds are not those of the whole.
    part = split(validation_split(load(data, "train"), 0.4, 0)[0], protocol("sweep"))[0]
    facts = made.metadata.model_copy(update={"source": dict(part.provenance)})
    Artefact(made.storage, facts).save(path)
    with pytest.raises(InputError, match=r"made of clouds .*0\.4 held out, seed 0; train side of train, 0\.2 held out"):
        config.run([].append)
    with pytest.raises(InputError, match="protocol: sweep, which holds clouds out, with --stream"):
        Select(output=path, force=True, protocol="sweep", stream=True, **given).run([].append)


def test_a_comparison_under_a_sweep(
    tiny_file: Path, tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def here(left: Any, engine: str, workers: int, device: str) -> Any:
        for job in left:
            job.work(*job.arguments)
            yield job, None

    monkeypatch.setattr(compare, "carried_out", here)
    spec = GridSpec(
        data=(str(tiny_file),), output=tmp_path / "grid", methods=("random", "whole"), budgets=("6x16@8",),
        protocol="sweep", networks=("pointnet-small",), train_steps=6, train_seeds=1, distill_seeds=1,
    )  # fmt: skip
    records = compare.run_grid(spec)
    assert records == read_records(tmp_path / "grid" / "records.jsonl")
    assert [record.arm for record in records] == ["random", "whole"]
    kept, validation = last_split(load(tiny_file, "train", points=1024), 0.2)
    assert validation is not None
    swept = protocol("sweep", "pointnet-small").changed(steps=6)
    assert records[0].protocol == records[1].protocol == f"sweep* v{swept.recipe.version}"
    whole = evaluate(kept, load(tiny_file, "test", points=1024), swept, seeds=[0], validation=validation)
    assert records[1].accuracy == whole.accuracies
    assert records[1].sweep == [json.loads(json.dumps(whole.choice and whole.choice.facts()))]
    (made,) = (tmp_path / "grid").rglob("*.h5")
    assert Artefact.load(made).metadata.source_fingerprint == kept.fingerprint()
    assert torch.equal(Artefact.load(made).clouds.labels, torch.arange(3).repeat_interleave(6))
    with pytest.raises(InputError, match="but class 'ball' has 6 clouds"):
        compare.run_grid(spec.model_copy(update={"budgets": ("7x16@8",)}))
