"""ONNX files that never end are refused, and what runs is ended by Ctrl-C."""

import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pcdistill.core.errors import InputError
from pcdistill.export import load_model
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
