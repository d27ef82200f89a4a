"""Training a network on clouds: recipes, the loop, who labels a batch, and the network that comes out."""

from pcdistill.training.augment import Augmentation
from pcdistill.training.loop import predict, train, train_networks
from pcdistill.training.recipe import EvaluationProtocol, Recipe, protocol, recipe
from pcdistill.training.trained import Trained

__all__ = [
    "Augmentation",
    "EvaluationProtocol",
    "Recipe",
    "Trained",
    "predict",
    "protocol",
    "recipe",
    "train",
    "train_networks",
]
