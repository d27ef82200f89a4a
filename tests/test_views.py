"""Labels of views: a teacher's judgement of every cloud that an expansion makes, stored with the set."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pcdistill.cli import main
from pcdistill.clouds import PointClouds
from pcdistill.config import SelectConfig
from pcdistill.data import load
from pcdistill.errors import InputError
from pcdistill.evaluation import records
from pcdistill.evaluation.ranking import random_twin
from pcdistill.expansion import Expansion, by_cloud, expand, in_order
from pcdistill.geometry import random_rotations
from pcdistill.jobs import run_select
from pcdistill.models import build
from pcdistill.storage import Artefact, Budget, CodedPoints, StoredPoints
from pcdistill.teaching import Online, read_teacher
from pcdistill.trained import Trained, save_network
from pcdistill.training import Protocol, protocol

SHARP = 0.02  # temperature at which a network that was never trained has opinions


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that is unsure of everything, in a file."""
    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    network = build("pointnet-tiny", 3, 4).eval()
    names = ("ball", "box", "ring")
    save_network(path, Trained(network, names, protocol("tuned", "pointnet-tiny", 64), "tiny", 64, 0))
    return path


def words(tiny_file: Path, teacher: Path, output: Path, *more: object) -> list[str]:
    given = ["select", "--data", tiny_file, "--output", output, "--points", 16, "--bits", 6, "--labels", "views",
             "--teacher", teacher, "--temperature", SHARP, *more]  # fmt: skip
    return [str(word) for word in given]


def test_views_are_stretched_shifted_and_tilted_copies(tiny_clouds: PointClouds) -> None:
    found = expand(tiny_clouds, Expansion(views=3, seed=2))
    assert len(found) == 4 * len(tiny_clouds)
    ordered = by_cloud(found.points, tiny_clouds.labels, 4)
    assert torch.equal(ordered[:, 0], tiny_clouds.points)
    for cloud, views in zip(tiny_clouds.points[::5], ordered[::5, 1:], strict=True):
        for view in views:  # an affine image, and not the same one again
            design = torch.cat([cloud, torch.ones(len(cloud), 1)], 1)
            solved = torch.linalg.lstsq(design, view).solution
            assert (design @ solved - view).abs().max() < 1e-4
            assert 0.2 < torch.linalg.det(solved[:3]) < 5
            assert not torch.allclose(view, cloud, atol=0.01)
    assert len({tuple(view.flatten()[:3].tolist()) for view in ordered.flatten(0, 1)}) == 4 * len(tiny_clouds)
    plain, more = (by_cloud(expand(tiny_clouds, made).points, tiny_clouds.labels, times) for made, times in (
        (Expansion(jitter=1, seed=2), 2), (Expansion(jitter=1, views=1, seed=2), 4)))  # fmt: skip
    assert torch.equal(plain, more[:, :2])  # which leaves other draws alone


def test_rows_are_sorted_by_cloud_and_back() -> None:
    classes = torch.tensor([0, 0, 1, 2, 2, 2])
    clouds = PointClouds(torch.arange(6.0)[:, None, None].expand(6, 1, 3) / 10, classes, ("a", "b", "c"))
    expanded = expand(clouds, Expansion(mirror=True, jitter=2))
    rows = by_cloud(expanded.points, classes, 6)
    assert (rows[:, :, 0, 1] * 10).round().int().tolist() == [[cloud] * 6 for cloud in range(6)]
    assert torch.equal(in_order(rows, classes), expanded.points)
    assert torch.equal(in_order(classes[:, None].repeat(1, 6), classes), expanded.labels)


def test_labels_are_those_of_the_clouds_that_are_trained_on(tiny_file: Path, teacher: Path, tmp_path: Path) -> None:
    output = tmp_path / "views.h5"
    more = ("--expand", "mirror=true", "jitter=1", "views=2", "--bytes-per-class", 300, "--seed", 3)
    assert main(words(tiny_file, teacher, output, *more)) == 0
    made = Artefact.load(output)
    assert made.metadata.layout["soft_labels"] == 2
    assert made.metadata.layout["label_views"] == 12
    assert made.bytes_per_class <= 300
    clouds = made.training_clouds
    assert len(clouds) == 12 * len(made.clouds)
    told = read_teacher([teacher], SHARP).probabilities(clouds.points)
    # Levels are in steps of the root of a probability.
    assert (clouds.labels.sqrt() - told.sqrt()).abs().max() < 0.06
    # Turned by one cloud, labels do not fit: the test can tell.
    assert (clouds.labels.sqrt() - told.roll(1, 0).sqrt()).abs().max() > 0.06
    assert torch.equal(made.clouds.labels, by_cloud(clouds.labels, made.storage.labels, 12)[:, 0])
    plan = protocol("tuned")
    assert made.taught(plan).recipe.temperature == SHARP
    assert Artefact.load(output).to_bytes() == output.read_bytes()


def test_they_are_counted(tiny_file: Path, teacher: Path, tmp_path: Path) -> None:
    """More views, more bytes; and in the same bytes fewer clouds."""
    sizes, fits = [], []
    for views in (1, 20):
        given: dict[str, Any] = {
            "data": str(tiny_file), "points": 16, "bits": 6, "labels": "views", "teacher": [teacher],
            "temperature": SHARP, "expand": {"views": views}, "storage": "coded",
        }  # fmt: skip
        fixed = run_select(SelectConfig(**given, output=tmp_path / "a.h5", clouds_per_class=6))
        sizes.append(fixed.storage.nbytes)
        filled = run_select(SelectConfig(**given, output=tmp_path / "b.h5", bytes_per_class=120))
        fits.append(len(filled.storage))
        assert filled.storage.nbytes <= 3 * 120
    assert sizes[1] > sizes[0]
    assert fits[1] < fits[0]


def test_distilled_sets_keep_within_their_bytes(tiny_file: Path, teacher: Path, tmp_path: Path) -> None:
    output = tmp_path / "views.h5"
    given = words(tiny_file, teacher, output, "--expand", "views=2", "--bytes-per-class", "150", "--networks", "1",
                  "--steps", "3", "--init", "random")  # fmt: skip
    assert main(["distill", *given[1:]]) == 0
    made = Artefact.load(output)
    assert made.bytes_per_class <= 150
    told = read_teacher([teacher], SHARP).probabilities(made.training_clouds.points)
    assert (made.training_clouds.labels.sqrt() - told.sqrt()).abs().max() < 0.06


def soft(*shape: int) -> Tensor:
    return torch.rand(*shape, 3, generator=torch.Generator().manual_seed(0)).softmax(-1)


def test_storages_refuse_what_they_cannot_keep() -> None:
    clouds = PointClouds(torch.rand(6, 8, 3) / 2, torch.arange(3).repeat_interleave(2), ("a", "b", "c"))
    budget = Budget(2, 8, 6)
    with pytest.raises(InputError, match=r"of 4 views in storage points"):
        StoredPoints.from_clouds(clouds, budget).soften(soft(6, 4))
    coded = CodedPoints.from_clouds(clouds, budget)
    with pytest.raises(InputError, match=r"of 4 views"):
        coded.soften(soft(6, 4), learn=True)
    with pytest.raises(InputError, match=r"shape \(5, 4, 3\)"):
        coded.soften(soft(5, 4))
    coded.soften(soft(6, 4))
    kept = coded.kept(torch.tensor([0, 2, 5]))
    found, whole = kept.view_labels(), coded.view_labels()
    assert found is not None
    assert whole is not None
    assert torch.equal(found, whole[[0, 2, 5]])
    arrays, layout = coded.arrays(), coded.layout()
    again = CodedPoints.from_arrays(arrays, layout, ("a", "b", "c")).view_labels()
    assert again is not None
    assert torch.equal(again, whole)
    for bad in (0, 1, 65, True, "4", 5):
        with pytest.raises(InputError, match="label"):
            CodedPoints.from_arrays(arrays, {**layout, "label_views": bad}, ("a", "b", "c"))  # type: ignore[dict-item]


def test_an_artefact_has_as_many_labels_as_views(tiny_file: Path, teacher: Path, tmp_path: Path) -> None:
    given = SelectConfig(
        data=str(tiny_file), output=tmp_path / "a.h5", points=16, bits=6, clouds_per_class=2, labels="views",
        teacher=[teacher], expand={"views": 2}, storage="coded",
    )  # fmt: skip
    made = run_select(given)
    facts = made.metadata
    for wrong in (None, {"views": 1}, {"views": 2, "jitter": 1}, {"interpolate": 2}):
        with pytest.raises(InputError, match=r"metadata 'expansion'.*expected 3 single ones"):
            Artefact(made.storage, facts.model_copy(update={"expansion": wrong}))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--expand", "views=0"], "views without any"),
        (["--expand", "views=1", "mixup=1"], "views without any"),
        (["--expand", "views=64"], "views"),
        (["--expand", "views=1", "--storage", "points"], "storage points"),
    ],
)
def test_bad_views(
    more: list[str], said: str, tiny_file: Path, teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "views.h5"
    assert main(words(tiny_file, teacher, output, "--clouds-per-class", 2, *more)) == 2
    said_there = capsys.readouterr().err
    assert said in said_there
    assert "Traceback" not in said_there
    assert not output.exists()
    without = ["select", "--data", str(tiny_file), "--output", str(output), "--clouds-per-class", "2", "--labels",
               "views", "--expand", "views=1"]  # fmt: skip
    assert main(without) == 2
    assert "--teacher" in capsys.readouterr().err


def test_turned_clouds_are_told_apart(teacher: Path, tiny_file: Path) -> None:
    """The teacher's labels differ between views, or nothing above says much."""
    clouds = load(str(tiny_file), "train").points[:6, :64]
    turned = clouds @ random_rotations(6, torch.Generator().manual_seed(0))
    known = read_teacher([teacher], SHARP)
    assert (known.probabilities(clouds) - known.probabilities(turned)).abs().max() > 0.01


def test_a_random_twin_has_labels_of_views_too(tiny_file: Path, teacher: Path, tmp_path: Path) -> None:
    """In as many bytes, and each view with the label that the teacher gives it."""
    made = run_select(SelectConfig(
        data=str(tiny_file), output=tmp_path / "a.h5", points=16, bits=6, bytes_per_class=200, labels="views",
        teacher=[teacher], temperature=SHARP, expand={"views": 4},
    ))  # fmt: skip
    known = read_teacher([teacher], SHARP)
    twin = random_twin(made, load(str(tiny_file), "train", points=64), 0, known.probabilities)
    told = known.probabilities(twin.points)
    assert (twin.labels.sqrt() - told.sqrt()).abs().max() < 0.06
    assert len(twin) % 5 == 0


def test_stored_and_new_labels_are_of_one_temperature(
    tiny_file: Path, teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.h5"
    more = ("--clouds-per-class", 2, "--storage", "coded", "--expand", "views=1")
    assert main(words(tiny_file, teacher, path, *more)) == 0
    train = ["train", str(path), "--output", str(tmp_path / "net.safetensors"), "--student", "nano", "--steps", "2"]
    train += ["--teacher", str(teacher), "--policy", "kind=mix"]
    assert main([*train, "--temperature", "1"]) == 2
    assert "temperature: 1 with --policy, expected 0.02, that of the set's labels" in capsys.readouterr().err
    assert main(train) == 0


def test_a_teacher_beside_the_student_has_the_temperature_of_its_plan(
    tiny_file: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stored labels set the temperature for those alone who are trained on them."""
    made = run_select(SelectConfig(
        data=str(tiny_file), output=tmp_path / "a.h5", points=16, bits=6, clouds_per_class=2, labels="views",
        teacher=[teacher], temperature=SHARP, expand={"views": 1}, storage="coded",
    ))  # fmt: skip
    seen: list[float] = []

    def evaluated(clouds: PointClouds, test: PointClouds, plan: Protocol, *more: Any, **named: Any) -> Any:
        seen.append(plan.recipe.temperature)
        return usual(clouds, test, plan, *more, **named)

    usual = records.evaluate
    monkeypatch.setattr(records, "evaluate", evaluated)
    plan = protocol("tuned", "pointnet-nano", 64).changed(steps=1)
    test = load(str(tiny_file), "test", points=64)
    for lesson in (None, Online(read_teacher([teacher], 1.0))):
        records.measure(made, test, plan, 0, 1, lesson=lesson)
    assert seen == [SHARP, 1.0]
