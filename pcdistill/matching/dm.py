"""Distribution matching (Zhao & Bilen, WACV 2023)."""

from typing import Any

from torch import Tensor

from pcdistill.clouds import PointClouds
from pcdistill.matching.bank import BankConfig
from pcdistill.matching.base import BankObjective, class_means, objectives, step_generator


@objectives.register("dm")
class DistributionMatching(BankObjective):
    """Squared distance between class means of global features under random networks (eq. 5 of the paper).

    We differ in that the network of a step comes from a bank of random ones whose real class means were
    computed once over the whole set, where the paper draws a new network and 256 real samples each step; no
    augmentation.
    """

    name = "dm"

    @classmethod
    def default_bank(cls) -> BankConfig:
        return BankConfig(trained_steps=(0, 0))

    def __init__(self, bank: BankConfig | None = None, *, seed: int = 0) -> None:
        super().__init__(bank or self.default_bank(), seed=seed)

    def describe(self) -> dict[str, Any]:
        return {"bank": self.config.model_dump(), "seed": self.seed}

    def loss(self, decoded: PointClouds, step: int) -> Tensor:
        generator = step_generator("network", self.seed, step)
        member = self.member(generator)
        pooled = member.network.point_features(decoded.points)[-1].amax(1).relu()
        classes, means = class_means(pooled, decoded.labels)
        return (means - member.pooled_mean[classes]).square().sum(1).sum()
