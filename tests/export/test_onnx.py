"""ONNX files: they say what the network says, in float32 and int8, and are read without trust."""

import contextlib
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import example, given, settings

from pcdistill.clouds import PartNames
from pcdistill.core.environment import versions
from pcdistill.core.errors import InputError
from pcdistill.export import (
    card_in,
    card_of,
    export_onnx,
    folded,
    load_model,
    load_onnx,
    measure_latency,
    write_network,
)
from pcdistill.export import onnx as exporting
from pcdistill.export.card import KEY
from pcdistill.geometry import farthest_points
from pcdistill.models import build, networks
from pcdistill.models.dgcnn import DGCNN
from pcdistill.models.pointnet import PointNet
from pcdistill.training.loop import predict
from pcdistill.training.recipe import protocol
from pcdistill.training.trained import Trained
from tests.export.conftest import Made, points_of, stirred

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

REPOSITORY = Path(__file__).parents[2]


def as_trained(network: Any, name: str, classes: int = 3) -> Trained:
    return Trained(network, tuple(map(str, range(classes))), protocol("tuned", name), "some", 16, 0)


@settings(max_examples=25)
@given(clouds=st.integers(1, 9), points=st.integers(1, 300))
def test_the_file_gives_the_networks_logits_at_any_size(made: Made, clouds: int, points: int) -> None:
    seen = points_of(clouds, points)
    made.trained.network.bf16 = False
    expected = predict(made.trained.network, seen)
    torch.testing.assert_close(predict(load_onnx(made.float32).network, seen), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("file", ["float32", "int8"])
def test_order_of_points_does_not_matter_to_a_file(made: Made, file: str) -> None:
    network, seen = load_onnx(getattr(made, file)).network, points_of(3, 40)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(predict(network, seen[:, order]), predict(network, seen), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["pointnet", "pointnet-linear"])
def test_tnets_and_norms_of_the_pooled_feature_are_exported(name: str, tmp_path: Path) -> None:
    network = stirred(build(name, 3, 0))
    assert isinstance(network, PointNet)
    with torch.no_grad():  # stirred logits are large, parity is absolute
        network.head[-1].weight *= 0.1
    trained = as_trained(network, name)
    done = export_onnx(folded(network), trained, tmp_path / "net.onnx", card_of(trained))
    assert done.card.parity is not None
    assert done.card.parity <= exporting.PARITY
    seen = points_of(2, 33)
    torch.testing.assert_close(
        predict(load_onnx(tmp_path / "net.onnx").network, seen), predict(network, seen), rtol=0, atol=1e-4
    )


def test_a_network_that_is_not_folded_is_exported_as_it_is(tmp_path: Path) -> None:
    trained = as_trained(build("pointnet-small-layernorm", 3, 0).eval(), "pointnet-small-layernorm")
    export_onnx(trained.network, trained, tmp_path / "net.onnx", card_of(trained))
    seen = points_of(2, 50)
    found = predict(load_onnx(tmp_path / "net.onnx").network, seen)
    torch.testing.assert_close(found, predict(trained.network, seen), rtol=0, atol=1e-4)


def test_a_file_that_differs_is_not_written(made: Made, tmp_path: Path) -> None:
    other = made.trained._replace(network=build("pointnet-tiny", 3, 9).eval())
    with pytest.raises(InputError, match=r"logits that differ by .* from the network's, expected at most 0.0001"):
        export_onnx(folded(made.trained.network), other, tmp_path / "net.onnx", card_of(other))  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_the_same_network_is_the_same_file_without_folders_in_it(made: Made, tmp_path: Path) -> None:
    network = folded(made.trained.network)  # type: ignore[arg-type]
    export_onnx(network, made.trained, tmp_path / "a.onnx", card_of(made.trained))
    content = (tmp_path / "a.onnx").read_bytes()
    assert content == made.float32.read_bytes()
    for path in (made.float32, made.int8):
        for word in (str(REPOSITORY), "pcdistill/", 'File "', os.sep + "tmp"):
            assert word.encode() not in path.read_bytes()


def test_int8_is_smaller_and_near(made: Made) -> None:
    """Within a few steps of a 255th of the range of logits; sizes as of one byte a weight."""
    card = card_in(made.int8)
    assert card.precision == "int8"
    assert made.int8.stat().st_size < 0.5 * made.float32.stat().st_size
    exact = predict(load_onnx(made.float32).network, made.clouds.points)
    rounded = predict(load_onnx(made.int8).network, made.clouds.points)
    gap = (rounded - exact).abs().mean()
    assert 0 < gap < 0.03 * (exact.max() - exact.min())
    assert card.difference == pytest.approx(gap.item(), rel=0.05)
    assert (rounded.argmax(1) == exact.argmax(1)).float().mean() > 0.9


def test_weights_of_an_int8_file_are_bytes(made: Made) -> None:
    kinds = {
        tuple(tensor.dims): tensor.data_type
        for tensor in onnx.load(made.int8).graph.initializer
        if len(tensor.dims) > 1
    }
    assert set(kinds.values()) == {onnx.TensorProto.INT8}
    assert len(kinds) == 5


def test_ranges_are_those_of_all_classes(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clouds stand class by class; few of them are looked at."""
    monkeypatch.setattr(exporting, "MOST", 6)
    numbered = torch.arange(24.0)[:, None, None].expand(24, 4, 3)
    assert exporting._spread(numbered)[:, 0, 0].tolist() == [0, 5, 9, 14, 18, 23]
    assert len(exporting._spread(numbered[:4])) == 4


def test_a_card_comes_back_from_every_file(made: Made) -> None:
    for path in (made.weights, made.float32, made.int8):
        card = card_in(path)
        assert (card.class_names, card.dataset, card.seed) == (("ball", "box", "ring"), "tiny.h5", 0)
        trained = load_model(path)
        assert dict(trained.versions) == card.versions == versions()
        same = {"network": made.trained.network, "digest": made.trained.digest}
        assert trained._replace(**same) == made.trained
        assert not trained.network.training


# Files that are not trusted


def resaved(made: Made, path: Path, change: Any) -> Path:
    model = onnx.load(made.float32)
    change(model)
    path.write_bytes(model.SerializeToString())
    return path


def test_weights_in_another_file_are_refused(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The runtime would read them: the current folder holds the file."""
    monkeypatch.chdir(tmp_path)
    onnx.save(onnx.load(made.float32), "net.onnx", save_as_external_data=True, location="w.bin", size_threshold=1024)
    assert (tmp_path / "w.bin").is_file()
    runtime = pytest.importorskip("onnxruntime")
    runtime.InferenceSession(Path("net.onnx").read_bytes(), providers=["CPUExecutionProvider"])
    for read in (load_onnx, card_in, lambda path: measure_latency(path, 8, 1)):
        with pytest.raises(InputError, match=r"^net\.onnx: weights in another file"):
            read(Path("net.onnx"))


def test_weights_in_another_file_are_found_in_nodes_and_branches(made: Made, tmp_path: Path) -> None:
    hidden = onnx.TensorProto(name="w", data_type=1, dims=[2], data_location=onnx.TensorProto.EXTERNAL)
    hidden.external_data.add(key="location", value="w.bin")
    node = onnx.helper.make_node("Constant", [], ["c"], value=hidden)
    branch = onnx.helper.make_graph([node], "branch", [], [])

    def inside(model: Any) -> None:
        model.graph.node.append(onnx.helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch))

    with pytest.raises(InputError, match="weights in another file"):
        load_onnx(resaved(made, tmp_path / "net.onnx", inside))


def test_a_foreign_model_has_no_card(made: Made, tmp_path: Path) -> None:
    path = resaved(made, tmp_path / "net.onnx", lambda model: model.metadata_props.clear())
    for read in (load_onnx, card_in):
        with pytest.raises(InputError, match=r"net\.onnx: no model card, expected a file written by pcdistill export"):
            read(path)


@pytest.mark.parametrize("content", [b"", b"\0", b"ONNX", b"\xff" * 999, b"\x80\x04N."])
def test_what_is_not_onnx(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"net\.onnx: not an ONNX model"):
        load_onnx(path)
    with pytest.raises(InputError, match=r"none\.onnx: no such file"):
        card_in(tmp_path / "none.onnx")


@settings(max_examples=40)
@example(where=1.0, what=128, cut=False)  # a card that is not UTF-8
@given(where=st.floats(0, 1), what=st.integers(1, 255), cut=st.booleans())
def test_a_damaged_file_is_read_or_one_line(
    made: Made, tmp_path_factory: pytest.TempPathFactory, where: float, what: int, cut: bool
) -> None:
    """Graph and card, not the weights, which stand in the middle."""
    content = bytearray(made.int8.read_bytes())
    place = int(where * (len(content) - 1))
    content[place] ^= what
    path = tmp_path_factory.mktemp("damaged") / "net.onnx"
    path.write_bytes(content[:place] if cut else content)
    with contextlib.suppress(InputError):  # nothing else may be raised
        predict(load_onnx(path).network, points_of(2, 8))


def renamed(model: Any) -> None:
    for node in model.graph.node:
        node.input[:] = ["cloud" if name == "points" else name for name in node.input]
    model.graph.input[0].name = "cloud"


def test_other_inputs_are_refused(made: Made, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"inputs and outputs cloud tensor\(float\), logits"):
        load_onnx(resaved(made, tmp_path / "net.onnx", renamed))


def carded(made: Made, **facts: Any) -> Any:
    """Change the card inside."""

    def change(model: Any) -> None:
        card = json.loads(model.metadata_props[0].value)
        onnx.helper.set_model_props(model, {KEY: json.dumps({**card, **facts})})

    return change


def test_a_card_of_other_classes_is_noticed(made: Made, tmp_path: Path) -> None:
    path = resaved(made, tmp_path / "net.onnx", carded(made, class_names=["a", "b"]))
    with pytest.raises(InputError, match=r"net\.onnx: logits of shape \(4, 3\).*, expected 2 finite ones for each"):
        predict(load_onnx(path).network, points_of(4, 8))
    path = resaved(made, path, carded(made, class_names=[]))
    with pytest.raises(InputError, match=r"net\.onnx: model card: class_names"):
        load_onnx(path)


def test_logits_that_are_no_numbers_are_refused(made: Made, tmp_path: Path) -> None:
    def broken(model: Any) -> None:
        for tensor in model.graph.initializer:
            if tensor.data_type == onnx.TensorProto.FLOAT:
                tensor.raw_data = b"\xff" * len(tensor.raw_data)

    with pytest.raises(InputError, match="not finite"):
        predict(load_onnx(resaved(made, tmp_path / "net.onnx", broken)).network, points_of(4, 8))


def test_a_model_that_does_not_run_is_one_line(made: Made) -> None:
    with pytest.raises(InputError, match=r"net\.onnx: does not run \("):
        load_onnx(made.float32).network(torch.zeros(2, 8, 2))


def test_without_the_extra_there_is_a_hint(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r"^onnxruntime: not installed .*pip install 'pcdistill\[export\]'"):
        load_onnx(made.float32)


def test_quiet_leaves_logging_as_it_was() -> None:
    logging.disable(logging.INFO)
    try:
        with exporting.quiet():
            assert logging.root.manager.disable == logging.WARNING
        assert logging.root.manager.disable == logging.INFO
    finally:
        logging.disable(logging.NOTSET)


# Time and memory


def test_time_and_memory_are_measured_in_a_process_of_its_own(made: Made) -> None:
    facts = measure_latency(made.float32, 32, 20)
    assert set(facts) == {"p50_ms", "p99_ms", "peak_mib", "runtime_mib"}
    assert 0 < facts["p50_ms"] <= facts["p99_ms"] < 1000
    assert 10 < facts["runtime_mib"] <= facts["peak_mib"] < 200  # of this process, with torch in it, it would be more


@pytest.mark.parametrize(("stderr", "message"), [("a\nworse\n", r"\(worse\)"), ("", r"\(exit code -9\)")])
def test_a_process_that_fails_is_one_line(
    made: Made, stderr: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = SimpleNamespace(returncode=-9, stdout="", stderr=stderr)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(InputError, match=rf"net\.onnx: does not run {message}"):
        measure_latency(made.float32, 32, 20)


def test_networks_that_gather_neighbours_are_refused_as_pte_before_any_work(tmp_path: Path) -> None:
    for name in GATHERING:
        with pytest.raises(InputError, match=r"network: a .*, expected a PointNet"):
            write_network(as_trained(build(name, 3, 0), name), tmp_path / "net.pte")
    assert not list(tmp_path.iterdir())


GATHERING = [name for name in networks if build(name, 3, 0).gathers]


def test_which_networks_gather_neighbours() -> None:
    assert {"pointnet2", "pointnext-s", "pointconv", "pointmlp-elite", "point-transformer"} <= set(GATHERING)
    assert not any(name.startswith(("pointnet-", "dgcnn")) for name in GATHERING)


@pytest.mark.slow
@pytest.mark.parametrize("name", GATHERING)
def test_networks_that_gather_neighbours_are_exported_for_as_many_points_as_they_saw(name: str, tmp_path: Path) -> None:
    network, path = build(name, 3, 0).eval(), tmp_path / "net.onnx"
    with torch.no_grad():  # logits of fresh networks hardly differ
        [value for value in network.head.parameters() if value.ndim == 2][-1].mul_(1000)
    written = write_network(as_trained(network, name)._replace(points=24), path)
    assert "points (batch, 24, 3)" in written.card.input
    exported = load_onnx(path).network
    assert exported.fixed_points == 24
    clouds = torch.randn(3, 40, 3, generator=torch.Generator().manual_seed(1)) * 0.4
    expected = predict(network, clouds[:, :24])
    assert (spread := float(expected.std(0).max())) > 1e-3
    assert torch.allclose(predict(exported, clouds[:, :24]), expected, atol=spread / 100)
    thin = farthest_points(clouds, 24)  # of more points these, of fewer the same again
    assert torch.allclose(predict(exported, clouds), predict(network, thin), atol=spread / 100)
    again = torch.cat([clouds[:, :14], clouds[:, :10]], 1)
    assert torch.allclose(predict(exported, clouds[:, :14]), predict(network, again), atol=spread / 100)


@pytest.mark.slow
def test_pointnet2_for_parts_is_exported_and_labels_clouds_of_any_number_of_points(tmp_path: Path) -> None:
    network = build("pointnet2-seg", 2, 0, 5).eval()
    with torch.no_grad():
        network.head.weight.mul_(100)
    names = PartNames(("a", "b", "c", "d", "e"), ((0, 1), (2, 3, 4)))
    path = tmp_path / "net.onnx"
    trained = as_trained(network, "pointnet2-seg", 2)._replace(part_names=names, points=24)
    assert write_network(trained, path).card.parity < 1e-4
    exported = load_onnx(path).network
    clouds = torch.randn(3, 48, 3, generator=torch.Generator().manual_seed(1)) * 0.4
    known = torch.tensor([0, 1, 1])
    labelled = predict(exported, clouds, classes=known)
    assert (spread := float(labelled.std((0, 1)).max())) > 1e-3
    for first in (0, 1):  # every other point is a cloud of its own
        half = predict(network, clouds[:, first::2], classes=known)
        assert torch.allclose(labelled[:, first::2], half, atol=spread / 100)
    few = torch.cat([clouds[:, :20], clouds[:, :4]], 1)
    assert torch.allclose(predict(exported, clouds[:, :20]), predict(network, few)[:, :20], atol=spread / 100)


def test_edges_are_exported_for_any_number_of_points(tmp_path: Path) -> None:
    network = DGCNN(3, neighbours=5, widths=(8, 20, 8), embedding=16, head=(8,)).eval()
    path = tmp_path / "net.onnx"
    assert write_network(as_trained(network, "dgcnn"), path).card.parity < 1e-5
    exported = load_onnx(path).network
    clouds = torch.randn(3, 33, 3, generator=torch.Generator().manual_seed(1))
    for points in (3, 5, 6, 33):
        some = clouds[:, :points]
        assert torch.allclose(predict(exported, some), predict(network, some), atol=1e-5)


def test_dgcnn_for_parts_is_exported(tmp_path: Path) -> None:
    network = build("dgcnn-seg", 2, 0, 5).eval()
    trained = as_trained(network, "dgcnn-seg", 2)._replace(
        part_names=PartNames(("a", "b", "c", "d", "e"), ((0, 1), (2, 3, 4)))
    )
    exported = write_network(trained, tmp_path / "net.onnx")
    assert exported.card.parity < 1e-5
