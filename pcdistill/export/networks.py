"""Trained networks for devices: folded, fine-tuned under rounding and written in the format that a file's name says."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import JsonValue

from pcdistill.clouds import PointClouds
from pcdistill.core.errors import InputError
from pcdistill.core.files import atomic
from pcdistill.export.card import card_of
from pcdistill.export.executorch import LARGEST, export_executorch
from pcdistill.export.folding import can_be_folded, folded
from pcdistill.export.onnx import POINTS, Exported, export_onnx
from pcdistill.export.quantise import fine_tuned
from pcdistill.training.loop import OnStep
from pcdistill.training.trained import Trained

SUFFIXES = (".onnx", ".pte")


def write_network(
    trained: Trained,
    path: Path,
    *,
    calibration: PointClouds | None = None,
    trained_on: Mapping[str, JsonValue] | None = None,
    tune: bool = False,
    seed: int = 0,
    on_step: OnStep | None = None,
) -> Exported:
    """Write a network as ONNX (.onnx), or as ExecuTorch (.pte) with its card in a file beside it.

    Args:
        trained: the network.
        path: file to write.
        calibration: clouds that it was trained on, as it saw them: rounds weights and activations to int8 (.onnx).
        trained_on: what the card says of them.
        tune: fine-tune the network under that rounding first.
        seed: of the fine-tuning.
        on_step: as in `training.loop.train`, of the fine-tuning.

    Raises:
        InputError: another ending, without the extra `export`, or a network that cannot be exported so.
    """
    check_network_target(path, rounds=calibration is not None)
    if not can_be_folded(trained.network):
        if calibration is not None or path.suffix == ".pte":
            able = "a PointNet with batch norm, as pointnet-tiny, for int8 and .pte"
            raise InputError("network", f"a {trained.protocol.network}", able)
        return export_onnx(trained.network, trained, path, card_of(trained))
    network = folded(trained.network)
    if path.suffix == ".pte":
        nbytes, parity = export_executorch(network, path, min(trained.points or POINTS, LARGEST))
        card = card_of(trained, parity=parity)
        with atomic(path.with_name(path.name + ".json")) as temporary:  # the file has no room for it
            temporary.write_text(card.model_dump_json() + "\n", encoding="utf-8")
        return Exported(nbytes, card)
    if calibration is None:
        return export_onnx(network, trained, path, card_of(trained))
    if tune:
        network = fine_tuned(network, trained, calibration, trained.protocol.recipe, seed, on_step)
    card = card_of(trained, trained_on=dict(trained_on or {}), tuned=tune)
    return export_onnx(network, trained, path, card, calibration)


def check_network_target(path: Path, rounds: bool) -> None:
    """Refuse a place that `write_network` refuses, before there is a network.

    Raises:
        InputError: saying what is wrong with it.
    """
    if path.suffix not in SUFFIXES:
        raise InputError("output", str(path), "a name that ends in .onnx or .pte, for a network")
    if path.suffix == ".pte" and rounds:
        raise InputError("int8", "with a .pte file", "an .onnx file")
