"""What other programs read: trained networks as ONNX and ExecuTorch files, clouds in the usual formats."""

from pcdistill.export.card import Card, card_of
from pcdistill.export.clouds import Written, check_target, height_colouring, write_clouds
from pcdistill.export.executorch import export_executorch
from pcdistill.export.folding import Folded, folded
from pcdistill.export.networks import check_network_target, write_network
from pcdistill.export.onnx import NETWORK_FILES, Exported, card_in, export_onnx, load_model, load_onnx, measure_latency
from pcdistill.export.quantise import fine_tuned

__all__ = [
    "NETWORK_FILES",
    "Card",
    "Exported",
    "Folded",
    "Written",
    "card_in",
    "card_of",
    "check_network_target",
    "check_target",
    "export_executorch",
    "export_onnx",
    "fine_tuned",
    "folded",
    "height_colouring",
    "load_model",
    "load_onnx",
    "measure_latency",
    "write_clouds",
    "write_network",
]
