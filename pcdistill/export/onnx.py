"""ONNX files: written with a check against the network they were made from, rounded to int8, and read again."""

import json
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pcdistill.clouds import PointClouds
from pcdistill.errors import InputError
from pcdistill.export.card import KEY, Card, card_of, read_card
from pcdistill.files import atomic
from pcdistill.models import Network, Output
from pcdistill.trained import Trained, load_network
from pcdistill.training import predict

PARITY = 1e-4  # largest difference of logits that a float32 file is written with
OPSET = 18
CALIBRATION = 16  # clouds that are passed at once, of up to `MOST` in all
MOST = 512


class Exported(NamedTuple):
    """What was written."""

    nbytes: int
    card: Card


class OnnxNetwork(Network):
    """An ONNX model as a network that can be tested; it cannot be trained."""

    def __init__(self, session: Any) -> None:
        super().__init__()
        self.session = session

    def forward(self, points: Tensor) -> Output:
        (logits,) = self.session.run(["logits"], {"points": points.detach().numpy()})
        return Output(torch.from_numpy(logits), torch.empty(len(points), 0))


class _Logits(nn.Module):
    """Only what a device wants of a network."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, points: Tensor) -> Tensor:
        logits: Tensor = self.network(points).logits
        return logits


def export_onnx(
    network: Network, trained: Trained, path: Path, card: Card, calibration: PointClouds | None = None
) -> Exported:
    """Write a network as ONNX, batch and number of points open, its card inside.

    Args:
        network: what is written: a folded PointNet, or any network as it is.
        trained: what it was made from; the float32 file has to give its logits, unless it was fine-tuned since.
        path: file to write.
        card: what is known of it.
        calibration: clouds that it was trained on, from which ranges of activations are taken: writes int8.

    Raises:
        InputError: without the extra `export`, for a network that cannot be exported, or where logits differ by more
            than `PARITY`.
    """
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "plain.onnx"
        _write_float32(network, plain)
        reference = network if card.tuned else trained.network
        parity = _parity(plain, reference, trained.points or 128, path)
        card = card.model_copy(update={"parity": parity})
        made = plain
        if calibration is not None:
            made = Path(folder) / "int8.onnx"
            _write_int8(plain, made, calibration)
            seen = calibration.points[:MOST]
            gap = (predict(OnnxNetwork(_session(made.read_bytes(), path)), seen) - predict(reference, seen)).abs()
            card = card.model_copy(update={"precision": "int8", "difference": gap.mean().item()})
        content = _with_card(made, card)
    with atomic(path) as temporary:
        temporary.write_bytes(content)
    return Exported(len(content), card)


def load_onnx(path: Path) -> Trained:
    """A network written by `export_onnx`, ready to be tested.

    The file is not trusted: it is read whole, so that it can refer to no other file.

    Raises:
        InputError: no such file, not an ONNX model, or without a card of this package.
    """
    if not path.is_file():
        raise InputError(path, "no such file", "an exported network")
    session = _session(path.read_bytes(), path)
    card = read_card(session.get_modelmeta().custom_metadata_map.get(KEY), path)
    ends = [(one.name, len(one.shape)) for one in (*session.get_inputs(), *session.get_outputs())]
    if ends != [("points", 3), ("logits", 2)]:
        raise InputError(path, f"inputs and outputs {ends}", "points (batch, points, 3) and logits (batch, classes)")
    network = OnnxNetwork(session).eval()
    return Trained(network, card.class_names, card.protocol, card.dataset, card.points, card.seed, card.taught)


def card_in(path: Path) -> Card:
    """The card of a network in a file, exported or as training writes it.

    Raises:
        InputError: as `load_onnx` and `load_network`.
    """
    if path.suffix != ".onnx":
        return card_of(load_network(path))
    if not path.is_file():
        raise InputError(path, "no such file", "an exported network")
    return read_card(_session(path.read_bytes(), path).get_modelmeta().custom_metadata_map.get(KEY), path)


def load_model(path: Path) -> Trained:
    """A network of either kind: ONNX, or the weights that training writes.

    Raises:
        InputError: as `load_onnx` and `load_network`.
    """
    return load_onnx(path) if path.suffix == ".onnx" else load_network(path)


def measure_latency(path: Path, points: int, runs: int = 200) -> dict[str, float]:
    """Milliseconds of one cloud at one thread, `p50_ms` and `p99_ms`, and `peak_mib` of a process of its own.

    `runtime_mib` is what the Python process with its runtime takes before the model is read.

    Raises:
        InputError: the model does not run.
    """
    _library("onnxruntime")
    script = Path(__file__).with_name("latency.py")
    command = [sys.executable, "-I", str(script), str(path), str(points), str(runs)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(path, f"does not run ({done.stderr.strip().splitlines()[-1][:120]})", "a model that does")
    facts: dict[str, float] = json.loads(done.stdout)
    return facts


def _library(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise InputError(name, f"not installed ({error})", "pip install 'pcdistill[export]'") from None


def _session(content: bytes, place: object) -> Any:
    runtime = _library("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    try:
        return runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises classes of its own for whatever is wrong with a file
        raise InputError(place, f"not an ONNX model ({' '.join(str(error).split())[:120]})") from None


def _write_float32(network: Network, path: Path) -> None:
    _library("onnxscript")
    size = {0: torch.export.Dim("batch"), 1: torch.export.Dim("points")}
    with _quiet():
        try:
            torch.onnx.export(
                _Logits(network).eval(), (torch.randn(2, 64, 3),), path, dynamo=True, opset_version=OPSET,
                dynamic_shapes={"points": size}, input_names=["points"], output_names=["logits"],
                external_data=False, verbose=False,
            )  # fmt: skip
        except Exception as error:  # the exporter raises classes of its own
            found = f"cannot be exported with any number of points ({' '.join(str(error).split())[:100]})"
            raise InputError(type(network).__name__, found, "a PointNet, as pointnet-tiny") from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's remarks on missing packages and its own deprecations to itself."""
    import logging

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


def _parity(path: Path, network: Network, points: int, place: object) -> float:
    """Largest difference of logits over batches and numbers of points.

    Raises:
        InputError: above `PARITY`.
    """
    exported, kept = OnnxNetwork(_session(path.read_bytes(), place)), network.bf16
    network.bf16 = False  # which only finds the places of maxima, but may take another of two near ones
    generator, worst = torch.Generator().manual_seed(0), 0.0
    for shape in ((1, points), (5, points), (2, 2 * points), (1, max(1, points // 3))):
        clouds = torch.randn(*shape, 3, generator=generator) * 0.4
        worst = max(worst, (predict(exported, clouds) - predict(network, clouds)).abs().max().item())
    network.bf16 = kept
    if not worst <= PARITY:
        raise InputError(place, f"logits that differ by {worst:.2g} from the network's", f"at most {PARITY:g}")
    return worst


def _write_int8(plain: Path, path: Path, calibration: PointClouds) -> None:
    """Static quantisation by onnxruntime: int8 weights per channel, int8 activations, ranges of the clouds given."""
    _library("onnx")
    quantization = _library("onnxruntime.quantization")
    prepared = plain.with_name("prepared.onnx")
    batches = iter(calibration.points[:MOST].split(CALIBRATION))

    class Clouds(quantization.CalibrationDataReader):  # type: ignore[misc, name-defined]
        def get_next(self) -> dict[str, Any] | None:
            batch = next(batches, None)
            return None if batch is None else {"points": batch.detach().numpy()}

    with _quiet():
        quantization.shape_inference.quant_pre_process(str(plain), str(prepared))
        quantization.quantize_static(
            str(prepared), str(path), Clouds(), quant_format=quantization.QuantFormat.QDQ, per_channel=True,
            activation_type=quantization.QuantType.QInt8, weight_type=quantization.QuantType.QInt8,
        )  # fmt: skip


def _with_card(path: Path, card: Card) -> bytes:
    onnx = _library("onnx")
    model = onnx.load(str(path), load_external_data=False)
    del model.metadata_props[:]
    for node in (*model.graph.node, *model.graph.value_info):
        del node.metadata_props[:]  # where in this package's source a node comes from, folders included
    model.doc_string = ""
    onnx.helper.set_model_props(model, {KEY: json.dumps(card.model_dump(mode="json"))})
    model.producer_name, model.producer_version = "pcdistill", card.versions["pcdistill"]
    content: bytes = model.SerializeToString(deterministic=True)
    return content
