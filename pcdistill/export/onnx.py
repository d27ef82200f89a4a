"""ONNX files: written with a check against the network they were made from, rounded to int8, and read again."""

import hashlib
import json
import logging
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

from pcdistill.clouds import PartNames, PointClouds
from pcdistill.core.errors import InputError
from pcdistill.core.files import atomic
from pcdistill.core.limits import read_whole
from pcdistill.export.card import KEY, Card, card_of, read_card
from pcdistill.export.running import bound_memory, check_operators, run
from pcdistill.geometry import farthest_points
from pcdistill.models import Network, Output, Segmenter
from pcdistill.training.loop import predict
from pcdistill.training.trained import Trained, load_network

POINTS = 1024  # of an object, for networks that do not say what they were trained on
PARITY = 1e-4  # largest difference of logits that a float32 file is written with
OPSET = 18
# Inputs and outputs of networks that name objects, and of those that label points.
PORTS = [
    [("points", "tensor(float)", 3), ("logits", "tensor(float)", 2)],
    [("points", "tensor(float)", 3), ("classes", "tensor(float)", 2), ("logits", "tensor(float)", 3)],
]
CALIBRATION = 16  # clouds that are passed at once, of up to `MOST` in all
MOST = 512  # clouds that ranges of activations are taken from


class Exported(NamedTuple):
    """What was written."""

    nbytes: int
    card: Card


class OnnxNetwork(Network):
    """An ONNX model as a network that can be tested; it cannot be trained.

    One of a fixed number of points is given as many of larger clouds, well spread, and those of smaller ones again.

    Raises:
        InputError: when called, naming `place`, for a model that does not run or gives something else than logits.
    """

    def __init__(self, session: Any, place: object, classes: int) -> None:
        super().__init__()
        self.session, self.place, self.classes = session, place, classes
        self.fixed_points = _fixed_points(session)

    def forward(self, points: Tensor) -> Output:
        size, count = points.shape[1], self.fixed_points
        if count is not None and count != size:
            points = farthest_points(points, count) if count < size else points[:, torch.arange(count) % size]
        given = {"points": points.detach().numpy()}
        logits = _logits(self.session, self.place, given, (len(points), self.classes))
        return Output(logits, torch.empty(len(points), 0))


class OnnxSegmenter(Segmenter):
    """As `OnnxNetwork`, of a model that labels points.

    One of a fixed number of points is given clouds of another in parts: every so-manieth point, filled up by others.
    """

    def __init__(self, session: Any, place: object, classes: int, parts: int) -> None:
        super().__init__(classes)
        self.session, self.place, self.parts = session, place, parts
        self.fixed_points = _fixed_points(session)

    def forward(self, points: Tensor, classes: Tensor | None = None) -> Output:
        clouds, size = points.shape[:2]
        count = self.fixed_points or size
        parts = -(-size // count)
        places = torch.arange(count * parts).view(count, parts).T.flatten() % size
        seen, known = points[:, places].view(-1, count, 3), self._known(points, classes).repeat_interleave(parts, 0)
        given = {"points": seen.detach().numpy(), "classes": known.numpy()}
        logits = _logits(self.session, self.place, given, (len(seen), count, self.parts))
        found = logits.new_empty(clouds, size, self.parts)
        found[:, places] = logits.view(clouds, -1, self.parts)
        return Output(found, torch.empty(clouds, 0))


def _fixed_points(session: Any) -> int | None:
    """Points of the clouds that a model takes; None of any number."""
    size = session.get_inputs()[0].shape[1]
    return size if isinstance(size, int) else None


def _logits(session: Any, place: object, given: dict[str, Any], shape: tuple[int, ...]) -> Tensor:
    """What a model gives, checked.

    Raises:
        InputError: it does not run, or gives something else than finite logits of this shape.
    """
    try:
        options = _library("onnxruntime").RunOptions()
        (values,) = run(session, options, ["logits"], given)
    except Exception as error:  # onnxruntime raises classes of its own
        raise InputError(place, f"does not run ({_short(error)})", "a model that does") from None
    logits = torch.from_numpy(values)
    if logits.shape != shape or not logits.isfinite().all():
        reason = f"logits of shape {tuple(logits.shape)}, or that are not finite, for {shape[0]} clouds"
        raise InputError(place, reason, f"{shape[-1]} finite ones for each")
    return logits


class Logits(nn.Module):
    """Only what a device wants of a network."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, points: Tensor, classes: Tensor | None = None) -> Tensor:
        logits: Tensor = (self.network(points) if classes is None else self.network(points, classes)).logits
        return logits


def export_onnx(
    network: Network, trained: Trained, path: Path, card: Card, calibration: PointClouds | None = None
) -> Exported:
    """Write a network as ONNX, batch and, if it can be, number of points open, its card inside.

    Args:
        network: what is written: a folded PointNet, or any network as it is; one that gathers neighbours for clouds of
            as many points as it was trained on.
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
        points = trained.points or POINTS
        _write_float32(network, plain, points)
        reference = network if card.tuned else trained.network
        exported = _network(_session(plain.read_bytes(), path), card, path)
        parity = _parity(exported, reference, points, path)
        card = card.model_copy(update={"parity": parity})
        if network.gathers:
            card = card.model_copy(update={"input": card.input.replace("(batch, points,", f"(batch, {points},")})
        made = plain
        if calibration is not None:
            made, seen = Path(folder) / "int8.onnx", _spread(calibration.points)
            _write_int8(plain, made, seen)
            rounded = _network(_session(made.read_bytes(), path), card, path)
            gap = (predict(rounded, seen) - predict(reference, seen)).abs()
            card = card.model_copy(update={"precision": "int8", "difference": gap.mean().item()})
        content = _with_card(made, card)
    with atomic(path) as temporary:
        temporary.write_bytes(content)
    return Exported(len(content), card)


def load_onnx(path: Path) -> Trained:
    """A network written by `export_onnx`, ready to be tested.

    The file is not trusted: it is read whole, one that refers to another file is refused, and what it gives is checked.

    Raises:
        InputError: no such file, not an ONNX model, without a card of this package, or of other inputs and outputs.
    """
    content = _content(path)
    session, card = _opened(content, path)
    return Trained(
        _network(session, card, path).eval(), card.class_names, card.protocol, card.dataset, card.points, card.seed,
        card.taught, hashlib.sha256(content).hexdigest(), card.source_fingerprint, _part_names(card, path),
        dict(card.versions),
    )  # fmt: skip


def _part_names(card: Card, place: object) -> PartNames | None:
    """Parts that a network labels points by, of a card that is not trusted."""
    facts = card.part_names
    return None if facts is None else PartNames.of_facts(facts, len(card.class_names), f"{place}: part_names")


def _network(session: Any, card: Card, place: object) -> OnnxNetwork | OnnxSegmenter:
    """A session as the network that its card says it is."""
    names = _part_names(card, place)
    if names is None:
        return OnnxNetwork(session, place, len(card.class_names))
    return OnnxSegmenter(session, place, len(card.class_names), len(names))


def card_in(path: Path) -> Card:
    """The card of a network in a file, exported or as training writes it.

    Raises:
        InputError: as `load_onnx` and `load_network`.
    """
    if path.suffix != ".onnx":
        trained = load_network(path)
        return card_of(trained, versions=dict(trained.versions))
    return _opened(_content(path), path)[1]


NETWORK_FILES = (".safetensors", ".onnx")
"""Endings of files that `load_model` reads."""


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
        InputError: as `load_onnx`, or the model does not run.
    """
    load_onnx(path)
    script = Path(__file__).with_name("latency.py")
    # Without the script's folder in the path, whose onnx.py is not the library.
    command = [sys.executable, "-P", str(script), str(path), str(points), str(runs)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise InputError(path, f"does not run ({said[-1][:120]})", "a model that does")
    facts: dict[str, float] = json.loads(done.stdout)
    return facts


def _library(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise InputError(name, f"not installed ({error})", "pip install 'pcdistill[export]'") from None


def _content(path: Path) -> bytes:
    if not path.is_file():
        raise InputError(path, "no such file", "an exported network")
    return read_whole(path)


def _opened(content: bytes, path: Path) -> tuple[Any, Card]:
    """A file as a session of the runtime, and its card."""
    session = _session(content, path)
    try:
        card = session.get_modelmeta().custom_metadata_map.get(KEY)
        ends = [(one.name, one.type, len(one.shape)) for one in (*session.get_inputs(), *session.get_outputs())]
    except UnicodeDecodeError:
        raise InputError(path, "text that is not UTF-8", "a file written by pcdistill export") from None
    if card is not None and ends not in PORTS:
        ports = ", ".join(f"{name} {kind}" for name, kind, _ in ends)[:120]
        raise InputError(path, f"inputs and outputs {ports}", "points (batch, points, 3) and logits (batch, classes)")
    found = read_card(card, path)
    if ends != PORTS[found.part_names is not None]:
        raise InputError(path, "inputs and outputs that are not those of its card", "a file as it was written")
    return session, found


def _session(content: bytes, place: object) -> Any:
    """A model as the runtime carries it out.

    The runtime would read tensors from whatever files below the current folder a model names, and go on for as long as
    a model's loops do: such are refused before.
    """
    onnx, runtime = _library("onnx"), _library("onnxruntime")
    try:
        model = onnx.load_from_string(content)
    except Exception as error:  # protobuf's, whose place depends on its implementation
        raise InputError(place, f"not an ONNX model ({_short(error)})") from None
    if any(tensor.external_data or tensor.data_location for tensor in _tensors(model, onnx.TensorProto)):
        raise InputError(place, "weights in another file", "a file written by pcdistill export")
    check_operators(model, place)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # what is wrong is raised
    bound_memory(runtime, options)
    try:
        return runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"], enable_fallback=0)
    except Exception as error:  # onnxruntime raises classes of its own for whatever is wrong with a file
        raise InputError(place, f"not an ONNX model ({_short(error)})") from None


def _tensors(message: Any, kind: type) -> Iterator[Any]:
    """All tensors in a protobuf message, however deep (protobuf reads no more than a hundred levels)."""
    if isinstance(message, kind):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in [value] if hasattr(value, "ListFields") else value:
                yield from _tensors(part, kind)


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:120]


def _spread(points: Tensor) -> Tensor:
    """At most `MOST` clouds, evenly from all: they often stand class by class."""
    return points[torch.linspace(0, len(points) - 1, min(MOST, len(points))).round().long()]


def _write_float32(network: Network, path: Path, points: int) -> None:
    """Write a network for clouds of any number of points or, if it gathers neighbours, of so many."""
    _library("onnxscript")
    batch, count = torch.export.Dim("batch"), torch.export.Dim("points", min=network.least_points)
    size: dict[str, Any] = {"points": {0: batch} if network.gathers else {0: batch, 1: count}}
    given: tuple[Tensor, ...] = (torch.zeros(2, points if network.gathers else 64, 3),)
    if isinstance(network, Segmenter):
        size, given = {**size, "classes": {0: batch}}, (*given, torch.zeros(2, network.num_classes))
    with quiet():
        try:
            torch.onnx.export(
                Logits(network).eval(), given, path, dynamo=True, opset_version=OPSET,
                dynamic_shapes=size, input_names=list(size), output_names=["logits"],
                external_data=False, verbose=False,
            )  # fmt: skip
        except Exception as error:  # the exporter raises classes of its own
            reason = f"cannot be exported ({_short(error)})"
            raise InputError(type(network).__name__, reason, "a PointNet, as pointnet-tiny") from None


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the exporter's remarks on missing packages and its own deprecations to itself."""
    before = logging.root.manager.disable
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(before)


def _parity(exported: Network, network: Network, points: int, place: object) -> float:
    """Largest difference of logits over batches and numbers of points.

    Raises:
        InputError: above `PARITY`.
    """
    kept = network.bf16
    network.bf16 = False  # which only finds the places of maxima, but may take another of two near ones
    generator, worst = torch.Generator().manual_seed(0), 0.0
    points = max(points, least := network.least_points)
    others = [] if network.gathers else [(2, 2 * points), (1, max(least, points // 3))]
    for shape in ((1, points), (5, points), *others):
        clouds = torch.randn(*shape, 3, generator=generator) * 0.4
        known = torch.arange(shape[0]) % network.num_classes if isinstance(network, Segmenter) else None
        ours, theirs = (predict(one, clouds, classes=known) for one in (exported, network))
        worst = max(worst, (ours - theirs).abs().max().item())
    network.bf16 = kept
    if not worst <= PARITY:
        raise InputError(place, f"logits that differ by {worst:.2g} from the network's", f"at most {PARITY:g}")
    return worst


def _write_int8(plain: Path, path: Path, points: Tensor) -> None:
    """Static quantisation by onnxruntime: int8 weights per channel, int8 activations, ranges of the clouds given."""
    _library("onnx")
    quantization = _library("onnxruntime.quantization")
    prepared = plain.with_name("prepared.onnx")
    batches = iter(points.split(CALIBRATION))

    class Clouds(quantization.CalibrationDataReader):  # type: ignore[misc, name-defined]
        def get_next(self) -> dict[str, Any] | None:
            batch = next(batches, None)
            return None if batch is None else {"points": batch.detach().numpy()}

    with quiet():
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
