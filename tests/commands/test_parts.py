"""Sets with parts through the command line: labels of files, exports that are read again, and the audit's shares."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from pcdistill.cli import main
from pcdistill.clouds import PointClouds
from pcdistill.condense import select
from pcdistill.data import load
from pcdistill.data.formats import labels_of, parse
from pcdistill.data.procedural import shapes
from pcdistill.evaluation.labelling import label_points
from pcdistill.evaluation.part_scores import part_shares
from pcdistill.export import write_clouds
from pcdistill.export.clouds import labelled_ply
from pcdistill.models import build
from pcdistill.training.recipe import protocol
from pcdistill.training.trained import Trained, save_network


@pytest.fixture(scope="module")
def real() -> PointClouds:
    return shapes.generate("train", 4, 64, parts=True)


@pytest.fixture(scope="module")
def trained(real: PointClouds) -> Trained:
    """A network that was not trained, which labels points nevertheless."""
    network = build("pointnet-tiny-seg", 10, 0, len(shapes.PART_NAMES)).eval()
    plan = protocol("tuned", test_points=64).using("pointnet-tiny-seg")
    return Trained(network, real.class_names, plan, "shapes_parts", 64, 0, part_names=real.part_names)


@pytest.mark.parametrize("count", [1, 40, 64, 65, 200])
def test_every_point_is_labelled_whatever_their_number(trained: Trained, count: int) -> None:
    cloud = torch.rand(count, 3, generator=torch.Generator().manual_seed(count)) - 0.5
    found = label_points(trained, cloud, 64, None, 0)
    assert found.shape == (count,)
    assert torch.equal(found, label_points(trained, cloud, 64, None, 0))
    chair = trained.class_names.index("chair")
    own = label_points(trained, cloud, 64, chair, 0)
    assert set(own.tolist()) <= set(shapes.PART_NAMES.of_class[chair])
    if count <= 64:  # one cloud, which is all the network sees
        with torch.no_grad():
            assert torch.equal(found, trained.network(cloud[None]).logits[0].argmax(1))


def test_predict_writes_points_as_they_were_with_labels(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_network(tmp_path / "net.safetensors", trained)
    points = np.random.default_rng(0).normal(size=(150, 3)) * 30 + 5e5
    np.save(tmp_path / "scan.npy", points)
    words = ["predict", str(tmp_path / "net.safetensors"), str(tmp_path / "scan.npy")]
    assert main([*words, "--class", "chair", "--output", str(tmp_path / "out")]) == 0
    written = tmp_path / "out" / "scan.ply"
    np.testing.assert_array_equal(parse(written), points)
    labels = labels_of(written, 150)
    counts = {name: int((labels == number).sum()) for number, name in enumerate(shapes.PART_NAMES.names)}
    assert b"comment label 0 body" in written.read_bytes()
    capsys.readouterr()
    assert main([*words, "--class", "chair", "--json"]) == 0
    (said,) = json.loads(capsys.readouterr().out)["parts"]
    assert said["points"] == 150
    assert said["shares"] == {
        name: count / 150 for name, count in sorted(counts.items(), key=lambda one: -one[1]) if count
    }
    for more, message in (
        (["--class", "chiar"], "class: 'chiar' (did you mean 'chair'?)"),
        ([str(tmp_path / "scan.npy"), "--output", str(tmp_path / "out")], "two files for"),
    ):
        assert main([*words, *more]) == 2
        assert message in capsys.readouterr().err


def test_other_networks_write_no_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = Trained(build("pointnet-tiny", 2, 0).eval(), ("a", "b"), protocol("tuned").using("pointnet-tiny"), "x", 64)
    save_network(tmp_path / "net.safetensors", plain)
    np.save(tmp_path / "scan.npy", np.eye(9, 3))
    assert main(["predict", str(tmp_path / "net.safetensors"), str(tmp_path / "scan.npy"), "--output", "out"]) == 2
    assert "which names objects, expected a network that labels points" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["ply", "xyz"])
def test_exported_folders_are_read_again_with_their_parts(tmp_path: Path, kind: str) -> None:
    points = torch.randn(6, 20, 3, generator=torch.Generator().manual_seed(0))
    made = PointClouds.from_arrays(
        points, [0, 1] * 3, ["a", "b"], None, parts=(points[..., 0] > 0).long(), part_names=["left", "right"]
    )
    write_clouds(made, tmp_path / "set" / "train", np.full(made.points.shape, 9, np.uint8), kind)
    (tmp_path / "set" / "train" / "part_names.txt").rename(tmp_path / "set" / "part_names.txt")
    again, order = load(tmp_path / "set"), made.labels.argsort(stable=True)
    assert again.part_names == made.part_names
    assert torch.equal(again.parts, made.parts[order])
    torch.testing.assert_close(again.points, made.points[order], atol=1e-5, rtol=0)


def test_other_exports_hold_parts(real: PointClouds, tmp_path: Path) -> None:
    write_clouds(real, tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as file:
        np.testing.assert_array_equal(file["parts"], real.parts)
        assert tuple(file["part_names"]) == real.part_names.names
    few = labelled_ply(np.eye(3, dtype=np.float32), np.array([2, 0, 1]), shapes.PART_NAMES)
    (tmp_path / "few.ply").write_bytes(few)
    assert labels_of(tmp_path / "few.ply", 3).tolist() == [2, 0, 1]


def test_audits_compare_shares_of_parts(real: PointClouds, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shares = part_shares(real)
    assert shares.sum(1).tolist() == pytest.approx([1] * 10)
    lamps = real.parts[real.labels == 5]
    shade = shapes.PART_NAMES.names.index("shade")
    assert shares[5, shade] == pytest.approx((lamps == shade).double().mean().item())
    from pcdistill.commands.audit import Audited, _part_facts, _part_lines

    made = select(real, clouds_per_class=1, points=32)
    audited = Audited(made, "shapes_parts", True, None, (part_shares(made.clouds), shares))
    facts = _part_facts(audited)["parts"]
    assert facts["lamp"]["shade"]["training"] == pytest.approx(float(shares[5, shade]))
    assert sum(each["made"] for each in facts["chair"].values()) == pytest.approx(1)
    (line,) = _part_lines(audited)
    assert line.startswith("Of the points of a class ")
