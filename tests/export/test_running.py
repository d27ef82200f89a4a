"""ONNX files that never end are refused, and what runs is ended by Ctrl-C."""

import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from pcdistill.core.errors import InputError
from pcdistill.export import load_model
from pcdistill.export.onnx import OnnxNetwork, _session
from pcdistill.export.running import check_operators, run

onnx = pytest.importorskip("onnx")


def model(*nodes: Any) -> Any:
    return onnx.helper.make_model(onnx.helper.make_graph(list(nodes), "graph", [], []))


def looping() -> Any:
    body = onnx.helper.make_graph([], "body", [], [])
    return onnx.helper.make_node("Loop", ["most", "condition"], ["out"], body=body)


def test_a_loop_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "loop.onnx"
    path.write_bytes(model(looping()).SerializeToString())
    with pytest.raises(InputError, match=r"loop\.onnx: operator 'Loop', expected those that pcdistill export writes"):
        load_model(path)


@pytest.mark.parametrize(
    ("node", "found"),
    [
        (onnx.helper.make_node("Relu", ["a"], ["b"], domain="elsewhere"), r"operator 'elsewhere\.Relu'"),
        (onnx.helper.make_node("Relu", ["a"], ["b"], body=onnx.helper.make_graph([], "g", [], [])), "operator 'Relu'"),
        (onnx.helper.make_node("SequenceMap", ["a"], ["b"]), "operator 'SequenceMap'"),
    ],
)
def test_operators_that_are_not_written_are_refused(node: Any, found: str) -> None:
    check_operators(model(onnx.helper.make_node("Relu", ["a"], ["b"])), "file")
    with pytest.raises(InputError, match=found):
        check_operators(model(node), "file")


def scan(scanned: str, *nodes: Any) -> Any:
    body = onnx.helper.make_graph(list(nodes), "body", [], [])
    return onnx.helper.make_node("Scan", ["state", scanned], ["out"], body=body, num_scan_inputs=1)


def test_a_scan_goes_over_a_constant_of_the_file() -> None:
    relu = onnx.helper.make_node("Relu", ["a"], ["b"])
    turns = onnx.numpy_helper.from_array(np.arange(3), "turns")

    def checked(node: Any) -> None:
        held = model(onnx.helper.make_node("Range", ["a", "b", "c"], ["made"]), node)
        held.graph.initializer.append(turns)
        check_operators(held, "file")

    checked(scan("turns", relu))
    for node in (scan("made", relu), scan("state", relu), scan("turns", scan("turns", relu)), scan("turns", looping())):
        with pytest.raises(InputError, match=r"operator '(Scan|Loop)'"):
            checked(node)
    bare = onnx.helper.make_node("Scan", [], ["out"], body=onnx.helper.make_graph([], "body", [], []))
    with pytest.raises(InputError, match="operator 'Scan'"):
        checked(bare)


def test_functions_of_its_own_are_refused() -> None:
    own = model()
    own.functions.add().name = "own"
    with pytest.raises(InputError, match="functions of its own"):
        check_operators(own, "file")


class Session:
    """Runs until it is asked to stop."""

    def __init__(self) -> None:
        self.ended = threading.Event()

    def run(self, wanted: list[str], given: dict[str, Any], options: Any) -> list[Any]:
        while not options.terminate:
            time.sleep(0.01)
        self.ended.set()
        return [1]


@pytest.mark.parametrize("name", ["ConstantOfShape", "Expand"])
def test_a_tensor_of_any_size_is_refused_when_it_is_asked_for(name: str) -> None:
    """Ten gigabytes by an operator that networks need."""
    given = ["shape"] if name == "ConstantOfShape" else ["points", "shape"]
    size = onnx.numpy_helper.from_array(np.array([10**10 // 4, 1, 1]), "shape")
    floats = onnx.TensorProto.FLOAT
    ports = [onnx.helper.make_tensor_value_info(port, floats, ["b", "n", 3]) for port in ("points", "logits")]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(name, given, ["large"]), onnx.helper.make_node("ReduceMax", ["large"], ["most"]),
         onnx.helper.make_node("Add", ["points", "most"], ["logits"])],
        "graph", ports[:1], ports[1:], [size],
    )  # fmt: skip
    made = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    network = OnnxNetwork(_session(made.SerializeToString(), "a.onnx"), "a.onnx", 3)
    with pytest.raises(InputError, match=r"a\.onnx: does not run .*, expected a model that does"):
        network(torch.zeros(2, 8, 3))


def test_ctrl_c_ends_it() -> None:
    session, options = Session(), SimpleNamespace(terminate=False)
    main = threading.main_thread().ident or 0
    threading.Timer(0.1, signal.pthread_kill, (main, signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        run(session, options, ["logits"], {})
    assert session.ended.wait(5)


def test_what_it_gives_and_raises_comes_back() -> None:
    assert run(Session(), SimpleNamespace(terminate=True), ["logits"], {}) == [1]
    with pytest.raises(AttributeError):
        run(Session(), None, ["logits"], {})
