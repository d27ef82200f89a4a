"""Trained networks for devices: ONNX and ExecuTorch files, in float32 or int8, with a model card inside."""

from pcdistill.export.card import Card, card_of
from pcdistill.export.executorch import export_executorch
from pcdistill.export.folding import Folded, folded
from pcdistill.export.onnx import Exported, card_in, export_onnx, load_model, load_onnx, measure_latency
from pcdistill.export.quantise import fine_tuned

__all__ = [
    "Card",
    "Exported",
    "Folded",
    "card_in",
    "card_of",
    "export_executorch",
    "export_onnx",
    "fine_tuned",
    "folded",
    "load_model",
    "load_onnx",
    "measure_latency",
]
