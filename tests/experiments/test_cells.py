"""The cells of a grid: which there are, what their keys depend on, and the commands that measure them."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from pcdistill.commands.compare import Compare
from pcdistill.commands.flags import read
from pcdistill.condense.plan import objective_of
from pcdistill.condense.spec import DistillSpec
from pcdistill.core.errors import InputError
from pcdistill.experiments.cells import CellTask, Digests, cells, command, task_of
from pcdistill.experiments.spec import GridSpec

DIGESTS = Digests("real", "test", None)


def spec_of(**values: Any) -> GridSpec:
    given = {"data": ["shapes"], "output": "g", "methods": ["krr"], "budgets": ["1x8@8"], "distill_seeds": 1}
    return GridSpec.checked(given | values)


def task(digests: Digests = DIGESTS, number: int = 0, **values: Any) -> CellTask:
    spec = spec_of(**values)
    return task_of(cells(spec)[number], spec, digests)


POOL = {"pool": {"method": "krr", "settings": {"steps": 7}}}
TAUGHT = {"supervision": {"online": {}, "stored": {"by": "stored"}, "file": {"by": "file"}}}


def test_everything_against_everything_and_the_whole_set_once() -> None:
    found = cells(
        spec_of(methods=["random", "whole"], budgets=["1x8@8", "9B"], distill_seeds=2, networks=["dgcnn", "pointnet"])
    )
    assert list(map(str, found)) == [
        *(f"shapes random {size} seed {seed} on {network}" for size in ("1x8@8", "9B") for seed in (0, 1)
          for network in ("dgcnn", "pointnet")),
        "shapes whole seed 0 on dgcnn", "shapes whole seed 0 on pointnet",
    ]  # fmt: skip


def test_grids_have_what_stands_outside_and_what_they_say_themselves() -> None:
    spec = spec_of(
        facts={"variant": "{arm} {bytes}", "part": "a"}, train_seeds=7, arms=POOL, methods=["random"],
        grids=[{"methods": ["pool"], "facts": {"part": "{arm} {labels} {budget} {data}"}}, {"train_seeds": 2}],
    )  # fmt: skip
    first, second = cells(spec)
    assert (first.arm, first.product.train_seeds, second.arm, second.product.train_seeds) == ("pool", 7, "random", 2)
    assert first.record_facts() == {"variant": "pool 24", "part": "pool hard 1x8@8 shapes"}
    assert second.record_facts() == {"variant": "random 24", "part": "a"}


def test_arms_have_their_own_budgets_storages_are_an_axis_and_words_choose() -> None:
    arms = {"half": {"method": "krr", "budgets": ["50B@8x6"]}, "two": {"method": "krr", "beside": "half"}}
    spec = spec_of(methods=["half", "two", "preset:gm"], arms=arms, storages=["points", "coded"])
    assert [" ".join(cell.words()) for cell in cells(spec)] == [
        "shapes half 50B@8x6 points", "shapes half 50B@8x6 coded", "shapes two 1x8@8 points", "shapes two 1x8@8 coded",
        "shapes preset:gm 1x8@8 points", "shapes preset:gm 1x8@8 coded",
    ]  # fmt: skip
    only = spec.model_copy(update={"only": ("gm coded", "half points tuned pointnet")})
    assert [cell.arm for cell in cells(only)] == ["half", "preset:gm"]
    with pytest.raises(InputError, match="no cell of 'gm 9B', expected words of one as in 'shapes half 50B@8x6 points"):
        cells(spec.model_copy(update={"only": ("gm 9B",)}))


def test_a_key_changes_with_all_that_the_result_follows_from() -> None:
    different = [
        task(), task(methods=["dm"]), task(methods=["preset:krr"]), task(methods=["random"]), task(budgets=["1x8@7"]),
        task(budgets=["9B@8x7"]), task(number=1, distill_seeds=2), task(Digests("other", "test", None)),
        task(Digests("real", "other", None)), task(steps=5), task(networks=["pointnet-small"]), task(train_steps=5),
        task(train_seeds=4), task(protocol="published"), task(thin=True), task(rotate="z"),
        task(conditions=["z"]), task(storages=["coded"]), task(methods=["pool"], arms=POOL),
        task(labels=["online"], **TAUGHT), task(labels=["stored"], **TAUGHT), task(labels=["file"], **TAUGHT),
        task(labels=["online"], **TAUGHT, teacher={"steps": 9}), task(methods=["whole"]),
        task(methods=["whole"], whole_points=8),
    ]  # fmt: skip
    assert len({one.key for one in different}) == len(different)
    same = [
        task(), task(workers=3), task(output="elsewhere"), task(methods=["krr", "dm"]), task(root="somewhere"),
        task(facts={"part": "x"}), task(benchmark="b"), task(sets="there"), task(records="r.jsonl"),
        task(grids=[{"train_seeds": 3}]),
    ]  # fmt: skip
    assert len({one.settings["set"]["data"] for one in same}) == len({one.key for one in same}) == 1
    assert task(methods=["random"], steps=5).key == task(methods=["random"]).key  # a selection has no outer loop
    assert task().key.startswith("shapes-krr-1x8@8-seed-0-on-pointnet-")


def test_the_key_of_a_set_is_a_matter_of_making_alone() -> None:
    def key(**values: Any) -> str:
        made = task(**values).made
        assert made is not None
        return made.key

    for values in (
        {"networks": ["pointnet-small"]}, {"train_seeds": 4}, {"train_steps": 9}, {"thin": True},
        {"labels": ["online"], **TAUGHT}, {"methods": ["same"], "arms": {"same": {"method": "krr"}}},
    ):  # fmt: skip
        assert key(**values) == key()
    for values in (
        {"steps": 5}, {"budgets": ["1x8@7"]}, {"methods": ["dm"]}, {"labels": ["stored"], **TAUGHT},
        {"methods": ["later"], "arms": {"later": {"method": "krr", "first_seed": 1}}},
    ):  # fmt: skip
        assert key(**values) != key()
    assert key().startswith("shapes-krr-1x8@8-seed-0-")


def test_sets_are_made_after_those_that_they_complement() -> None:
    arms = {
        "half": {"method": "krr", "budgets": ["50B@8x6"]},
        "other": {"method": "krr", "first_seed": 100, "budgets": ["60B@8x6"], "beside": "half", "focus": "half"},
    }
    spec = spec_of(methods=["half", "other"], arms=arms, distill_seeds=2)
    half, _, other = (task_of(cell, spec, DIGESTS) for cell in (cells(spec)[place] for place in (1, 2, 3)))
    assert other.made is not None
    assert other.made.focus is not None
    assert other.beside is not None
    assert half.made is not None
    assert other.beside.key == other.made.focus.key == half.made.key
    assert (other.beside.given.seed, other.made.given.seed) == (1, 101)
    assert other.made.bank is None  # weighted clouds have networks of their own
    assert half.made.bank is not None
    assert cells(spec)[3].number == 1


def test_settings_are_json_that_survives_a_file() -> None:
    settings = task(methods=["preset:krr"]).settings
    assert json.loads(json.dumps(settings)) == settings
    assert settings["set"]["spec"]["steps"] == 800
    assert settings["set"]["objective"] == objective_of(DistillSpec(clouds_per_class=1, preset="krr")).describe()


def test_the_command_of_a_record_measures_it_and_names_no_folders(tmp_path: Path) -> None:
    arms = {"half": {"method": "krr"}, "other": {"method": "krr", "settings": {"options": {"ridge": 0.5}},
                                                 "focus": "half", "first_seed": 3}}  # fmt: skip
    spec = spec_of(
        output=tmp_path / "out", root=tmp_path, workers=2, arms=arms, facts={"part": "x"}, distill_seeds=2,
        supervision={"mix": {"policy": {"kind": "mix"}, "soft_loss": "mse"}, "static": {"by": "stored"}},
        teacher={"steps": 9}, thin=True, train_steps=5, networks=["dgcnn", "pointnet"], budgets=["9B@8x6", "0.1ppc"],
        storages=["coded"], methods=["random", "other"], labels=["mix", "hard"],
    )  # fmt: skip
    for cell in cells(spec):
        words = shlex.split(command(cell, spec))
        assert words[:2] == ["pcdistill", "compare"]
        assert str(tmp_path) not in " ".join(words)
        again = read("compare", Compare, words[2:])
        assert isinstance(again, GridSpec)
        found = [task_of(one, again, DIGESTS).key for one in cells(again)]
        assert task_of(cell, spec, DIGESTS).key in found
        assert len(found) == 2  # both seeds, and nothing else
    plain = spec_of()
    assert command(cells(plain)[0], plain) == (
        "pcdistill compare --data shapes --methods krr --budgets 1x8@8 --distill-seeds 1 --output g"
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"methods": ["medoit"]}, "'medoit' (did you mean 'medoid'?)"),
        ({"methods": ["preset:none"]}, "'preset:none' (did you mean 'preset:"),
        ({"methods": ["random", "random"]}, "'random' twice"),
        ({"budgets": ["1x8@8", "1×8@8"]}, "'1x8@8' twice"),
        ({"budgets": ["8@8"]}, "as in 4x128@8"),
        ({"budgets": []}, "'budgets' is missing"),
        ({"methods": []}, "'methods' is missing"),
        ({"data": []}, "'data' is missing"),
        ({"networks": ["pointnet-smal"]}, "pointnet-smal"),
        ({"networks": ["pointnet", "pointnet"]}, "'pointnet' twice, expected each once"),
        ({"storages": ["code"]}, "did you mean 'coded'"),
        ({"protocol": "tunned"}, "tunned"),
        ({"labels": ["online"]}, "online"),
        ({"labels": ["s"], "methods": ["whole"], "supervision": {"s": {"by": "stored"}}}, "by = stored for the whole"),
        ({"supervision": {"s": {"by": "stored", "policy": {"kind": "mix"}}}}, "by = online"),
        ({"supervision": {"s": {"polcy": {}}}}, "supervision s: unknown option 'polcy' (did you mean 'policy'?)"),
        ({"arms": {"a": {"method": "krr", "setings": {}}}}, "arm a: unknown option 'setings'"),
        ({"arms": {"a": {"method": "krr", "focus": "b"}}, "methods": ["a"]}, "arm a: 'b', expected another arm"),
        ({"methods": ["a"], "arms": {"a": {"method": "krr", "settings": {"stepps": 3}}}}, "arm a: unknown option"),
        ({"teacher": {"network": "pointnet", "step": 3}}, "teacher: unknown option 'step'"),
        ({"grids": [{"metods": ["krr"]}]}, "grids, number 1: unknown option 'metods'"),
        ({"conditions": ["data:shapes"]}, "another data set"),
        ({"conditions": ["z"], "protocol": "sweep"}, "sweep"),
        ({"network": "pointnet"}, "'network' is called 'networks' now"),
        ({"facts": {"part": "{nobody}"}}, "'nobody'"),
        ({"facts": {"parts": "{arm}"}}, "facts: 'parts' (did you mean 'part'?), expected a field of records"),
    ],
)
def test_a_wrong_grid_is_refused_in_a_line(values: dict[str, Any], message: str) -> None:
    def looked_at() -> None:
        spec = spec_of(**values)
        for cell in cells(spec):
            cell.record_facts()
            task_of(cell, spec, DIGESTS)

    with pytest.raises(InputError) as refused:
        looked_at()
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
