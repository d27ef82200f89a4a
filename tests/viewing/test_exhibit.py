"""What there is to see: values of points against naive ones, and what is chosen and refused."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree
from torch import Tensor

from pcdistill.artefact.artefact import Artefact, exhibit_of
from pcdistill.cli import main
from pcdistill.clouds import PartNames, PointClouds
from pcdistill.commands.view import View
from pcdistill.condense import select
from pcdistill.core.errors import InputError
from pcdistill.data.procedural import shapes
from pcdistill.data.procedural.shapes import PART_NAMES
from pcdistill.models import Network, build
from pcdistill.training.recipe import protocol
from pcdistill.training.trained import Trained, save_network
from pcdistill.viewing import Exhibit, Judge, chosen, shades, standing, upright
from pcdistill.viewing.exhibit import part_hues, real_shades
from pcdistill.viewing.scene import PART_COLOURS
from tests.conftest import of_class

NAMES = ("ball", "box", "ring")


def exhibit(**changes: object) -> Exhibit:
    generator = torch.Generator().manual_seed(3)
    frames = tuple(torch.rand(6, 20, 3, generator=generator) - 0.5 for _ in range(3))
    clouds = PointClouds(frames[-1], torch.tensor([0, 0, 1, 1, 2, 2]), NAMES)
    return Exhibit(**{"title": "t", "clouds": clouds, "frames": frames, "steps": (0, 5, 10), **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def judge() -> Judge:
    network = build("pointnet-tiny", 3, 0).eval()
    return Judge(network, torch.tensor([0, 0, 1, 1, 2, 2]))


def test_height_is_within_each_cloud() -> None:
    found = shades(exhibit(), "height")
    assert found.shares.shape == (3, 6, 20)
    z = exhibit().frames[1][4, :, 2]
    torch.testing.assert_close(found.shares[1, 4], (z - z.min()) / (z.max() - z.min()))
    assert math.isnan(found.unit)


def test_moved_is_the_distance_from_the_first_guess_on_one_scale() -> None:
    made = exhibit()
    found = shades(made, "moved")
    assert not found.shares[0].any()
    away = (made.frames[2] - made.frames[0]).square().sum(-1).sqrt()
    torch.testing.assert_close(found.shares[2] * found.unit, away.clamp(max=found.unit))
    assert (found.shares == 1).float().mean() < 0.02  # few are cut off
    assert found.high == f"{found.unit:.2g}"


def test_real_is_the_distance_to_the_whole_nearest_cloud() -> None:
    generator = torch.Generator().manual_seed(4)
    real = PointClouds(torch.rand(9, 64, 3, generator=generator) - 0.5, torch.arange(3).repeat(3), NAMES)
    made = exhibit(nbytes=100).beside(real, "reals")
    assert made.real is not None
    found = shades(made, "real")
    for frame in range(3):
        for cloud, index in enumerate(made.real.nearest.index.tolist()):
            assert real.labels[index] == made.clouds.labels[cloud]
            expected = cKDTree(real.points[index].numpy()).query(made.frames[frame][cloud].numpy())[0]
            own = (found.shares[frame, cloud] * found.unit).numpy()
            np.testing.assert_allclose(own, np.minimum(expected, found.unit), atol=1e-5)
    assert made.facts["compression"].startswith(f"{9 * 64 * 3 * 4 / 100:,.0f} times: reals takes")


TABLES = st.lists(st.sets(st.integers(0, 29), min_size=1, max_size=14), min_size=1, max_size=8)


@settings(max_examples=30)
@given(TABLES)
def test_parts_of_a_class_share_a_colour_only_where_there_are_too_many(rows: list[set[int]]) -> None:
    numbers = {part: place for place, part in enumerate(sorted(set().union(*rows)))}
    of_class = [sorted(numbers[part] for part in row) for row in rows]
    hues = part_hues(PartNames(tuple(map(str, range(len(numbers)))), tuple(map(tuple, of_class)))).tolist()
    assert min(hues) >= 0
    assert max(hues) < len(PART_COLOURS)
    if len(numbers) <= len(PART_COLOURS):
        assert hues == list(range(len(numbers)))  # all differ
    for part in range(len(numbers)):
        before = {other for row in of_class if part in row for other in row if other < part}
        if hues[part] in {hues[other] for other in before}:
            assert len(before) >= len(PART_COLOURS)


def test_parts_of_the_made_shapes_differ_in_every_class() -> None:
    hues = part_hues(PART_NAMES)
    assert all(len(hues[list(own)].unique()) == len(own) for own in PART_NAMES.of_class)


def labelled(clouds: PointClouds, names: tuple[str, ...] = ("low", "high")) -> PointClouds:
    """Points below and above the middle."""
    parts = (clouds.points[..., 2] > 0).long()
    return replace(clouds, parts=parts, part_names=PartNames.shared(names, 3))


def test_parts_keep_their_colour_in_all_frames_and_real_points_have_their_own() -> None:
    made = exhibit(clouds=labelled(exhibit().clouds))
    points = torch.rand(9, 64, 3, generator=torch.Generator().manual_seed(4)) - 0.5
    real = labelled(PointClouds(points, torch.arange(3).repeat(3), NAMES))
    beside = made.beside(real, "reals").only(torch.tensor([4, 1]))
    assert beside.real is not None
    found = shades(beside, "part")
    assert found.names == (("low", 0), ("high", 1))
    assert torch.equal(found.shares, (made.frames[-1][[4, 1], :, 2] > 0).float().expand(3, 2, 20))
    twins = real_shades(beside, "part")
    assert twins is not None
    assert torch.equal(twins, (beside.real.nearest.points[..., 2] > 0).float())
    for others in (labelled(real, ("bottom", "top")), real.without_parts()):
        assert real_shades(made.beside(others, "others"), "part") is None


def test_parts_go_with_points_in_the_order_of_snapshots() -> None:
    """A file holds its points in an order of its own."""
    stored = select(shapes.generate("train", 2, 64, parts=True), clouds_per_class=1, points=32, storage="coded", bits=6)
    shuffled = torch.randperm(32, generator=torch.Generator().manual_seed(0))
    plain, moved = (
        exhibit_of(stored),
        exhibit_of(replace(stored, snapshots=[stored.clouds.points[:, shuffled].half()] * 2)),
    )
    assert torch.equal(moved.frames[-1], plain.frames[-1][:, shuffled])
    assert torch.equal(shades(moved, "part").shares[1], shades(plain, "part").shares[0][:, shuffled])


@pytest.mark.parametrize("up", ["x", "y", "z"])
def test_real_clouds_are_stood_up(up: str) -> None:
    """A real set in another frame is compared in that of the exhibit."""
    made = exhibit()
    x, y, z = made.clouds.points.unbind(-1)
    lying = torch.stack({"x": [z, y, -x], "y": [x, z, -y], "z": [x, y, z]}[up], -1)
    real = PointClouds(lying, made.clouds.labels, NAMES, {"up_axis": up})
    beside = made.beside(real, "the same").real
    assert beside is not None
    assert beside.nearest.index.tolist() == list(range(6))
    assert float(beside.nearest.distance.max()) < 1e-10


def test_critical_points_alone_give_the_same_global_feature(judge: Judge) -> None:
    made = exhibit(judge=judge)
    shares = shades(made, "critical").shares[-1]
    for cloud in range(6):
        points = made.frames[-1][cloud]
        kept = points[shares[cloud] > 0]
        assert 0 < len(kept) < len(points) + 1
        torch.testing.assert_close(judge.network.pooled(kept[None]), judge.network.pooled(points[None]))
        without = points[shares[cloud] < 1]  # the one that decides most is missing
        assert not torch.allclose(judge.network.pooled(without[None]), judge.network.pooled(points[None]))


def test_channels_that_relu_cuts_off_are_decided_by_nobody() -> None:
    class Heights(Network):
        """One channel is z, one is z - 10 and so never above zero."""

        def point_features(self, points: Tensor) -> list[Tensor]:
            return [torch.stack([points[..., 2] + 1, points[..., 2] - 10, points[..., 0] + 1], -1)]

    made = exhibit(judge=Judge(Heights(), torch.zeros(6, dtype=torch.int64)))
    shares = shades(made, "critical").shares[-1]
    for points, own in zip(made.frames[-1], shares, strict=True):
        expected = torch.zeros(20)
        expected[points[:, 2].argmax()] += 1
        expected[points[:, 0].argmax()] += 1
        torch.testing.assert_close(own, expected / expected.max())


def test_gradient_is_that_of_the_cross_entropy(judge: Judge) -> None:
    """By differences: along its own gradient a point changes the loss by its share of the largest."""
    made = exhibit(judge=judge)
    shares = shades(made, "gradient").shares[-1, 3]
    network = build("pointnet-tiny", 3, 0).double().eval()
    points = made.frames[-1][3].double()

    def loss(moved: Tensor) -> float:
        with torch.no_grad():
            logits = network.classify(network.pooled(moved[None]))
        return float(torch.nn.functional.cross_entropy(logits, judge.labels[3:4]))

    slopes = torch.zeros(20, 3, dtype=torch.float64)
    for point in range(20):
        for axis in range(3):
            step = torch.zeros_like(points)
            step[point, axis] = 1e-6
            slopes[point, axis] = (loss(points + step) - loss(points - step)) / 2e-6
    lengths = slopes.norm(dim=1)
    torch.testing.assert_close(shares.double(), lengths / lengths.max(), atol=1e-3, rtol=1e-3)


def test_a_colouring_says_what_it_needs(judge: Judge) -> None:
    still = exhibit(frames=exhibit().frames[-1:], steps=(0,))
    assert still.colourings == ["height"]
    assert exhibit(judge=judge).colourings == ["height", "moved", "critical", "gradient"]
    for colouring, hint in (
        ("part", "shapes_parts"),
        ("moved", "--snapshots"),
        ("real", "--real"),
        ("critical", "--model"),
    ):
        with pytest.raises(InputError, match=f"'{colouring}' without .*{hint}"):
            shades(still, colouring)
    with pytest.raises(InputError, match=r"'hieght' \(did you mean 'height'\?\)"):
        shades(still, "hieght")


def test_networks_that_pool_groups_have_no_critical_points() -> None:
    judge = Judge(build("pointnet2", 3, 0).eval(), torch.zeros(6, dtype=torch.int64))
    with pytest.raises(InputError, match="a PointNet"):
        shades(exhibit(judge=judge), "critical")


def test_clouds_of_some_classes() -> None:
    clouds = exhibit().clouds
    assert chosen(clouds, ("ring", "ball"), 1).tolist() == [4, 0]
    assert chosen(clouds, (), 8).tolist() == list(range(6))
    with pytest.raises(InputError, match=r"class: 'rinq' \(did you mean 'ring'\?\)"):
        chosen(clouds, ("rinq",), 1)
    empty = PointClouds(clouds.points[:2], torch.tensor([0, 0]), NAMES)
    with pytest.raises(InputError, match="no cloud of box"):
        chosen(empty, ("box",), 1)


def test_some_clouds_of_an_exhibit_keep_what_is_theirs(judge: Judge) -> None:
    real = PointClouds(torch.rand(6, 64, 3) - 0.5, torch.tensor([0, 0, 1, 1, 2, 2]), NAMES)
    whole = exhibit(judge=judge).beside(real, "reals")
    index = torch.tensor([5, 2])
    part = whole.only(index)
    for name in ("critical", "gradient"):
        torch.testing.assert_close(shades(part, name).shares, shades(whole, name).shares[:, index])
    assert part.real is not None
    assert whole.real is not None
    assert torch.equal(part.real.dense, whole.real.dense[index])
    assert torch.equal(part.real.nearest.index, whole.real.nearest.index[index])


@given(up=st.sampled_from(["x", "y", "z", "unspecified"]), seed=st.integers(0, 99))
def test_upright_turns_and_never_mirrors(up: str, seed: int) -> None:
    turn = upright(torch.eye(3), up).T  # columns: where the axes go
    assert torch.linalg.det(turn) == 1
    if up in "xyz":
        assert upright(torch.eye(3)["xyz".index(up)], up).tolist() == [0, 0, 1]
    points = torch.rand(2, 5, 3, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(upright(points, up), points @ turn.T)
    clouds = PointClouds(points, torch.tensor([0, 0]), ("a",), {"up_axis": up})
    assert torch.equal(standing(standing(clouds)).points, standing(clouds).points)


def test_an_unknown_axis_is_refused() -> None:
    with pytest.raises(InputError, match="up_axis: 'w', expected x, y or z"):
        upright(torch.eye(3), "w")


# From files


@pytest.fixture(scope="module")
def files(tiny_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    folder = tmp_path_factory.mktemp("exhibit")
    path, network = folder / "a.h5", folder / "net.safetensors"
    size = ["--clouds-per-class", "2", "--points", "32", "--bits", "6", "--storage", "coded"]
    how = ["--objective", "dm", "--members", "1", "--steps", "4", "--snapshots", "1"]
    assert main(["distill", "--data", str(tiny_file), *size, *how, "--output", str(path)]) == 0
    assert main(["train", str(path), "--network", "pointnet-nano", "--output", str(network)]) == 0
    return path, network, tiny_file


def test_an_artefact_with_all_that_there_is(files: tuple[Path, Path, Path]) -> None:
    path, network, data = files
    made = View(source=str(path), real=str(data), model=network, **{"class": ("ring",)}).exhibit()
    assert made.colourings == ["height", "moved", "real", "critical", "gradient"]
    assert (made.steps, made.bits, len(made.losses)) == ((0, 2, 4), 6, 4)
    stored = Artefact.load(path)
    ring = stored.clouds.class_names.index("ring")
    own = of_class(stored.clouds, ring).points
    # The last frame is the same set of points, in the order in which they were learned.
    assert torch.equal(made.clouds.points, made.frames[-1])
    for frame, cloud, snapshot in zip(made.frames[-1], own, stored.snapshots[-1][ring * 2 :], strict=False):
        assert sorted(frame.tolist()) == sorted(cloud.tolist())
        assert (frame - snapshot).abs().max() < 1e-3
    assert made.clouds.hard_labels.tolist() == [ring, ring]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--class", "chair"], "class: 'chair'"),
        (["--colour", "moved", "--class", "ball"], None),
        (["--colour", "critical"], "colour: 'critical' without a network, expected --model NETWORK"),
        (["--colour", "blue"], "colour: 'blue'"),
        (["--colour", "part"], "colour: 'part' without parts of its points, expected a set that has them"),
        (["--real", "nowhere"], "nowhere"),
        (["--model", "none.safetensors"], "none.safetensors: no such file"),
        (["--html", "a.html", "--records", "none.jsonl"], "none.jsonl"),
        (["--png", "a.jpg"], "png: a.jpg, expected a name that ends in .png"),
        (["--html", "a.png"], "html: a.png, expected a name that ends in .html"),
        (["--png", "a.png", "--turntable", "./a.png"], "output: a.png, which is the source or another output"),
    ],
)
def test_what_cannot_be_shown_is_told_in_one_line(
    files: tuple[Path, Path, Path], words: list[str], message: str | None, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    code = main(["view", str(files[0]), "--renderer", "builtin", *words])
    error = capsys.readouterr().err
    if message is None:
        assert (code, error) == (0, "")
        return
    assert code == 2
    assert error.startswith("pcdistill: error: ")
    assert message in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_network_of_other_classes_is_refused(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    plan = protocol("tuned", network="pointnet-nano")
    save_network(other, Trained(build("pointnet-nano", 2, 0), ("ball", "cone"), plan, "made", 16))
    with pytest.raises(InputError, match=r"other\.safetensors: a network without class 'box'"):
        View(source=str(files[0]), model=other).exhibit()


def test_a_source_is_never_written_over(
    files: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "set.png"  # an artefact by its content
    source.write_bytes(files[0].read_bytes())
    (tmp_path / "link.png").symlink_to(source)
    for path in (source, tmp_path / "link.png"):
        assert main(["view", str(source), "--png", str(path)]) == 2
        assert "which is the source" in capsys.readouterr().err
    assert source.read_bytes() == files[0].read_bytes()


def test_the_root_of_the_disk_is_no_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["view", "/proc/self"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
