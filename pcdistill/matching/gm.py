"""Gradient matching on fixed networks, the real gradients computed once."""

from functools import partial
from typing import ClassVar, Literal, cast

import torch
from torch import Tensor, nn

from pcdistill.clouds import CloudSource, PointClouds, device_of, parts_of
from pcdistill.core.cache import Tensors, cached, is_cached
from pcdistill.core.progress import progress
from pcdistill.matching.bank import FORMAT as BANK_FORMAT
from pcdistill.matching.base import BankObjective, BankOptions, ObjectiveOptions, objectives
from pcdistill.matching.draws import random_clouds, step_generator
from pcdistill.matching.gathering import BankConfig, BankRequest
from pcdistill.matching.gradients import (
    Distance,
    Groups,
    Weights,
    gradient_distance,
    group_gradients,
    one_hot,
    parameters,
)
from pcdistill.matching.segments import PartMember
from pcdistill.matching.surrogates import architecture, give_fresh_head, own_facts
from pcdistill.models import seeded
from pcdistill.training.augment import Augmentation, apply

FORMAT = 2  # raise when what is computed changes, so that old caches are not read
LEAST = {"quantiles": 0, "pooled_samples": 1}  # a bank that is all networks


class GradientOptions(BankOptions):
    """Settings of `GradientMatching`.

    Attributes:
        bank: networks; each compares its gradient on `pooled_samples` real clouds of each class, `pooled_points`
            points of each.
        distance: `layer`, `cosine` or `mse`; see `gradient_distance`.
        fresh_head: networks get an untrained classifier on their trained point features. The gradient of a class then
            tells of all its clouds; a trained classifier's mostly of the few that it gets wrong.
        joint: compare the gradient of all classes together instead of class by class.
        augmentation: of the synthetic clouds, each by its own draw, as when a network is trained on them.
    """

    bank: BankConfig = BankConfig(network="pointnet-linear", quantiles=0, pooled_samples=128)
    distance: Distance = "layer"
    fresh_head: bool = True
    joint: bool = False
    augmentation: Augmentation = Augmentation(stretch=1.3, tilt=8)


@objectives.register("gm", cites=("zhao2021dc", "kim2022idc"))
class GradientMatching(BankObjective):
    """Distance between the gradients of the classification loss on synthetic and on real clouds.

        loss = mean over classes c of D( grad_w l(S_c; w), grad_w l(T_c; w) )

    (Zhao, Mopuri & Bilen, ICLR 2021, eq. 9.) The weights `w` are those of networks trained for a few batches on real
    clouds (IDC, Kim et al., ICML 2022, trains on real ones, too), fixed: the right side is computed once, over a large
    sample, and a step touches synthetic clouds only. We differ in the classifier on top, which is an untrained one
    (`fresh_head`). Of every cloud only the critical points are passed (`Network.critical`), which changes nothing but
    the time. `dc` and `dsa` follow the papers' loops.

    Of points with parts, the gradients are those of the classifier's weights alone, which are sums over points: of the
    features by what a guess is off. Parts of a class count the same in its loss.
    """

    name = "gm"
    learns_labels = True
    sees_parts = True
    Options: ClassVar[type[ObjectiveOptions]] = GradientOptions

    @property
    def minibatch(self) -> Literal["classes", "clouds"]:
        return "clouds" if self.options.joint else "classes"

    def bank_config(self) -> BankRequest:
        return BankRequest.of(self.options.bank, **LEAST)  # its own real features are not needed

    def prepared(self, real: CloudSource) -> bool:
        ready = super().prepared(real)
        return ready and (parts_of(real) is not None or is_cached("gradients", self._facts(real)))

    def prepare(self, real: CloudSource) -> None:
        config: BankConfig = self.options.bank
        super().prepare(real)
        if self.part_bank is not None:
            self.heads = [self._part_head(k, member) for k, member in enumerate(self.part_bank.members)]
            return
        if self.options.fresh_head:
            for k, member in enumerate(self.bank.members):
                name = architecture(config.network, k)
                give_fresh_head(member.network, real, name, config.points, config.seed, k)
        self.real, seconds = cached(
            "gradients", self._facts(real), lambda: self._real_gradients(real), partial(self._by_network, real)
        )
        self.seconds += seconds

    def _by_network(self, real: CloudSource, tensors: Tensors) -> list[Weights]:
        there = {name: value.to(device_of(real)) for name, value in tensors.items()}
        return [
            {name.removeprefix(f"{k}/"): value for name, value in there.items() if name.startswith(f"{k}/")}
            for k in range(self.options.bank.networks)
        ]

    def _facts(self, real: CloudSource) -> str:
        """All that the real gradients depend on."""
        which = f"{self.options.joint} {self.options.fresh_head}"
        asked = BankRequest.of(self.options.bank)
        own = own_facts(asked.network, real)
        return f"{FORMAT} {BANK_FORMAT} {asked.facts()} {which} {real.fingerprint()}{own}"

    def _real_gradients(self, real: CloudSource) -> Tensors:
        config: BankConfig = self.options.bank
        classes = len(real.class_names)
        found: Tensors = {}
        with progress("real gradients", config.networks) as report:
            for k, member in enumerate(self.bank.members):
                generator = step_generator("real gradients", config.seed, k)
                parts = []
                for label in range(classes):
                    points, labels = random_clouds(real, [label], config.pooled_samples, generator)
                    points = member.network.critical(points[:, : config.pooled_points])
                    targets = one_hot(labels, classes, points)
                    parts.append(
                        group_gradients(member.network, parameters(member.network), points, targets, Groups.of(labels))
                    )
                for name in parts[0]:
                    whole = torch.cat([part[name] for part in parts])
                    found[f"{k}/{name}"] = whole.mean(0, keepdim=True) if self.options.joint else whole
                report(k + 1, "")
        return found

    def _part_head(self, k: int, member: PartMember) -> nn.Linear:
        """What labels points: the network's own classifier, or a fresh one."""
        own = cast(nn.Linear, member.network.head)
        if not self.options.fresh_head:
            return own
        with seeded(self.options.bank.seed * 1000 + k):
            return nn.Linear(own.in_features, own.out_features).requires_grad_(False)

    def part_distance(self, member: PartMember, features: Tensor, unit: Tensor, generator: torch.Generator) -> Tensor:
        assert self.part_bank is not None
        head = self.heads[next(k for k, each in enumerate(self.part_bank.members) if each is member)]
        units, place = unit.unique(return_inverse=True)
        ours = head_gradients(head, features, place, member.units[units])
        samples = member.samples[units]
        theirs = head_gradients(
            head,
            samples.flatten(0, 1),
            torch.arange(len(units)).repeat_interleave(samples.shape[1]),
            member.units[units],
        )
        if self.options.joint:
            ours, theirs = ours.mean(0, keepdim=True), theirs.mean(0, keepdim=True)
        return gradient_distance({"head": ours}, {"head": theirs}, self.options.distance)

    def loss(self, decoded: PointClouds, step: int) -> Tensor:
        generator = step_generator("objective", self.seed, step)
        if self.part_bank is not None:
            return self._part_loss(self.part_bank.members, decoded, generator)
        chosen = int(torch.randint(len(self.real), (), generator=generator))
        network, real = self.bank.members[chosen].network, self.real[chosen]
        draw = self.options.augmentation.draw(len(decoded.points), decoded.points.shape[1], generator)
        points = network.critical(apply(decoded.points, draw))
        groups = Groups.of(decoded.hard_labels, self.options.joint)
        targets = one_hot(decoded.labels, len(self.bank.members[0].pooled), points)
        synthetic = group_gradients(network, parameters(network), points, targets, groups)
        if not self.options.joint:
            classes = decoded.hard_labels.unique()
            real = {name: value[classes] for name, value in real.items()}
        return gradient_distance(synthetic, real, self.options.distance)


def head_gradients(head: nn.Linear, features: Tensor, place: Tensor, units: Tensor) -> Tensor:
    """Gradient `(C, L, F)` of every class's loss with respect to the weights of a linear classifier of points.

    A class's loss is the mean over its parts of their points' mean cross-entropy. Differentiable in features.

    Args:
        head: of L parts.
        features: `(M, F)` of points.
        place: `(M,)`, the unit of each.
        units: `(U, 2)` class and part of every unit, ascending by class; each has a point.
    """
    classes, owner, parts_of_class = units[:, 0].unique(return_inverse=True, return_counts=True)
    off = head(features).softmax(1)
    off = off - nn.functional.one_hot(units[place, 1], off.shape[1]).to(off)
    weights = 1 / (torch.bincount(place).to(features)[place] * parts_of_class[owner[place]])
    found = features.new_zeros(len(classes), *head.weight.shape)
    for number in range(len(classes)):
        own = owner[place] == number
        found[number] = (off[own] * weights[own, None]).T @ features[own]
    return found
