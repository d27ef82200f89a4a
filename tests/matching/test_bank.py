"""The bank against a computation that holds everything in memory, its cache, and what it refuses."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pcdistill.clouds import CloudSource, PointClouds
from pcdistill.core.errors import InputError
from pcdistill.matching import Bank, BankConfig, bank, shards
from pcdistill.matching.gathering import BankRequest, Member, attention_maps
from pcdistill.matching.surrogates import frozen_network
from pcdistill.models import build, networks
from pcdistill.training.augment import Augmentation

Configure = Callable[..., BankConfig]
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def unequal(clouds: PointClouds) -> PointClouds:
    """Classes of 8, 3 and 5 clouds, in mixed order."""
    kept = torch.tensor([*range(8), *range(8, 11), *range(16, 21)])
    return clouds[kept[torch.randperm(16, generator=torch.Generator().manual_seed(0))]]


def bank_of(real: CloudSource, config: BankConfig, **asked: float) -> Bank:
    return Bank.of(real, BankRequest.of(config, **asked))


def built(real: CloudSource, config: BankConfig, **asked: float) -> Bank:
    """Past the cache."""
    return Bank(bank._build(real, BankRequest.of(config, **asked)), 0.0)


def same(one: Bank, other: Bank) -> bool:
    left, right = bank._to_tensors(one.members), bank._to_tensors(other.members)
    return left.keys() == right.keys() and all(torch.equal(value, right[name]) for name, value in left.items())


def quantiles(values: np.ndarray[Any, Any], count: int) -> np.ndarray[Any, Any]:
    """Means over equal parts of the sorted values, each of which stands `count` times."""
    return np.sort(np.repeat(values, count)).reshape(count, -1).mean(1)


def assert_equals_naive(member: Member, clouds: PointClouds, points: int, count: int) -> None:
    """All clouds at once, one channel after another, in float64."""
    network = member.network
    with torch.no_grad():
        features = [layer.double().numpy() for layer in network.point_features(clouds.points[:, :points])]
        pooled = network(clouds.points).global_feature
    assert len(member.profiles) == len(member.spreads) == len(features)
    for layer, profiles, spreads in zip(features, member.profiles, member.spreads, strict=True):
        assert profiles.shape == (3, layer.shape[2], count)
        torch.testing.assert_close(spreads.double(), torch.from_numpy(layer.var((0, 1))), **CLOSE)
        for label in range(3):
            own = layer[clouds.labels.numpy() == label]
            for channel in range(0, layer.shape[2], 7):
                expected = np.mean([quantiles(cloud[:, channel], count) for cloud in own], axis=0)
                torch.testing.assert_close(profiles[label, channel].double(), torch.from_numpy(expected), **CLOSE)
    for label in range(3):
        own_pooled = pooled[clouds.labels == label]
        torch.testing.assert_close(member.pooled_mean[label], own_pooled.mean(0), **CLOSE)
        distance = torch.cdist(member.pooled[label], own_pooled)
        assert distance.amin(1).max() < 1e-4  # every kept feature is that of a cloud of the class


@pytest.mark.parametrize("points", [64, 20])
def test_statistics_equal_a_naive_computation(points: int, tiny_clouds: PointClouds, configure: Configure) -> None:
    clouds = unequal(tiny_clouds)
    found = built(clouds, configure(points=points, quantiles=6))
    assert len(found.members) == 2
    for member in found.members:
        assert_equals_naive(member, clouds, points, 6)


@pytest.mark.parametrize("power", [1.0, 4.0])
def test_attention_equals_a_naive_computation(power: float, tiny_clouds: PointClouds, configure: Configure) -> None:
    clouds = unequal(tiny_clouds)
    member = built(clouds, configure(points=20, quantiles=6), attention=power).members[1]
    features = member.network.point_features(clouds.points[:, :20])
    assert len(member.attention) == len(features)
    for layer, found in zip(features, member.attention, strict=True):
        maps = np.sum(np.abs(layer.double().numpy()) ** power, axis=2)
        unit = [map / np.sqrt((map**2).mean()) for map in maps]
        for label in range(3):
            own = [quantiles(unit[k], 6) for k in range(16) if clouds.labels[k] == label]
            torch.testing.assert_close(found[label].double(), torch.from_numpy(np.mean(own, axis=0)), **CLOSE)


def test_attention_of_nothing_is_zero_and_has_a_finite_gradient() -> None:
    features = torch.zeros(2, 5, 3, requires_grad=True)
    maps = attention_maps(features, 2.0)
    maps.sum().backward()
    assert not maps.any()
    assert features.grad is not None
    assert features.grad.isfinite().all()


def test_maps_are_those_of_single_clouds(tiny_clouds: PointClouds, configure: Configure) -> None:
    clouds = unequal(tiny_clouds)
    few = built(clouds, configure(quantiles=6), map_samples=2).members
    assert few[0].maps.shape == (3, 2, 256, 6)
    many = built(clouds, configure(quantiles=6), map_samples=20).members
    assert many[0].maps.shape == (3, 8, 256, 6)  # the largest class; the maps of smaller ones come round again
    for member, distinct in ((few[0], (2, 2, 2)), (many[1], (8, 3, 5))):
        last = member.network.point_features(clouds.points)[-1].transpose(1, 2)
        profiles = torch.from_numpy(np.sort(last.repeat_interleave(6, 2).numpy()).reshape(16, 256, 6, -1).mean(-1))
        for label in range(3):
            own = profiles[clouds.labels == label].flatten(1)
            nearest = torch.cdist(member.maps[label].flatten(1), own, compute_mode="donot_use_mm_for_euclid_dist")
            assert nearest.amin(1).max() < 1e-3
            assert len(nearest.argmin(1).unique()) == distinct[label]
    means = [many[0].maps[0].mean(0), many[0].maps[1, :3].mean(0), many[0].maps[2, :5].mean(0)]
    torch.testing.assert_close(torch.stack(means), many[0].profiles[-1], **CLOSE)


def test_networks_keep_maps_of_different_clouds(tiny_clouds: PointClouds, configure: Configure) -> None:
    config = configure(points=1, quantiles=1, networks=8)
    chosen = set()
    for member in built(tiny_clouds, config, map_samples=1).members:
        own = member.network.point_features(tiny_clouds.points[:8, :1])[-1][:, 0]  # of one point: its own profile
        chosen.add(int((own - member.maps[0, 0, :, 0]).square().sum(1).argmin()))
    assert len(chosen) > 2


def test_single_maps_and_attention_are_kept_only_when_asked_for(tiny_clouds: PointClouds, configure: Configure) -> None:
    plain = built(tiny_clouds, configure()).members[0]
    assert plain.maps.numel() == 0
    assert plain.attention == []
    full = built(tiny_clouds, configure(), map_samples=2, attention=1.0).members[0]
    torch.testing.assert_close(full.profiles, plain.profiles)
    assert torch.equal(full.pooled, plain.pooled)  # of the same clouds as without


def test_networks_are_frozen_and_differ(tiny_clouds: PointClouds, configure: Configure) -> None:
    first, second = (member.network for member in built(tiny_clouds, configure()).members)
    for network in (first, second):
        assert not network.training
        assert not any(value.requires_grad for value in network.parameters())
    assert not torch.equal(first.state_dict()["trunk.layers.0.linear.weight"],
                           second.state_dict()["trunk.layers.0.linear.weight"])  # fmt: skip


def test_untrained_networks_are_those_of_the_registry(tiny_clouds: PointClouds) -> None:
    found = frozen_network("pointnet-small", tiny_clouds, 0, 7)
    fresh = build("pointnet-small", 3, 7)
    for (name, value), (_, expected) in zip(found.named_parameters(), fresh.named_parameters(), strict=True):
        assert torch.equal(value, expected), name


@pytest.mark.parametrize("name", list(networks))
def test_calibrated_networks_see_their_clouds_as_in_training(name: str, tiny_clouds: PointClouds) -> None:
    before = torch.get_rng_state()
    network = frozen_network(name, tiny_clouds, 0, 0)
    assert torch.equal(torch.get_rng_state(), before)
    assert {module.momentum for module in network.modules() if hasattr(module, "momentum")} == {0.1}
    with torch.no_grad():
        calibrated = network(tiny_clouds.points).global_feature
        own_statistics = network.train()(tiny_clouds.points).global_feature
    # Evaluation divides by the unbiased variance, training by the biased one: 4 % apart on 24 clouds for every norm
    # that follows a pooling, and some networks have several in a row.
    assert (calibrated - own_statistics).norm() < 0.2 * own_statistics.norm()


def test_calibration_equals_layer_by_layer_statistics(tiny_clouds: PointClouds) -> None:
    network = frozen_network("pointnet-small", tiny_clouds, 0, 0)
    hidden = tiny_clouds.points.flatten(0, 1)
    with torch.no_grad():
        for layer in network.trunk.layers:
            raw = layer.linear(hidden)
            torch.testing.assert_close(layer.norm.running_mean, raw.mean(0), **CLOSE)
            torch.testing.assert_close(layer.norm.running_var, raw.var(0), **CLOSE)
            hidden = ((raw - raw.mean(0)) / (raw.var(0, unbiased=False) + 1e-5).sqrt()).relu()
        pooled = hidden.view(24, 64, -1).amax(1)
        raw = network.head[0].linear(pooled)
    torch.testing.assert_close(network.head[0].norm.running_mean, raw.mean(0), **CLOSE)
    torch.testing.assert_close(network.head[0].norm.running_var, raw.var(0), **CLOSE)


def test_semi_training_learns_the_classes(tiny_clouds: PointClouds, configure: Configure) -> None:
    trained = built(tiny_clouds, configure(trained_steps=(2, 40))).members
    with torch.no_grad():
        right = [(member.network(tiny_clouds.points).logits.argmax(1) == tiny_clouds.labels).float().mean()
                 for member in trained]  # fmt: skip
    assert right[1] > 0.9
    assert_equals_naive(trained[1], tiny_clouds, 64, 8)


def test_same_configuration_same_bits(tiny_clouds: PointClouds, configure: Configure) -> None:
    config = configure(trained_steps=(1, 3))
    one, two = (built(tiny_clouds, config) for _ in range(2))
    assert same(one, two)
    assert not same(one, built(tiny_clouds, configure(trained_steps=(1, 3), seed=1)))


def assert_statistics_close(one: Bank, other: Bank) -> None:
    for left, right in zip(one.members, other.members, strict=True):
        torch.testing.assert_close(left.profiles, right.profiles, **CLOSE)
        torch.testing.assert_close(left.spreads, right.spreads, **CLOSE)
        torch.testing.assert_close(left.pooled_mean, right.pooled_mean, **CLOSE)


@pytest.mark.parametrize("batch", [1, 5, 100])
def test_size_of_the_pieces_does_not_matter(
    batch: int, tiny_clouds: PointClouds, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = built(tiny_clouds, configure())
    monkeypatch.setattr(shards, "BATCH", batch)
    assert_statistics_close(built(tiny_clouds, configure()), expected)


def test_order_of_the_clouds_does_not_matter(tiny_clouds: PointClouds, configure: Configure) -> None:
    """Untrained, and calibrated on all clouds."""
    expected = built(tiny_clouds, configure())
    order = torch.randperm(24, generator=torch.Generator().manual_seed(1))
    found = built(tiny_clouds[order], configure())
    assert_statistics_close(found, expected)
    for left, right in zip(found.members, expected.members, strict=True):
        assert torch.cdist(left.pooled, right.pooled).amin(1).max() < 1e-3  # the same features in another order


class Streamed:
    """A set that counts what is read of it."""

    def __init__(self, clouds: PointClouds) -> None:
        self.clouds = clouds
        self.read: list[Tensor] = []

    @property
    def labels(self) -> Tensor:
        return self.clouds.labels

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.clouds.class_names

    @property
    def points_per_cloud(self) -> int:
        return self.clouds.points_per_cloud

    def batch(self, index: Tensor) -> Tensor:
        self.read.append(index)
        return self.clouds.batch(index)

    def fingerprint(self) -> str:
        return self.clouds.fingerprint()


def test_real_set_is_read_once_in_small_pieces(
    tiny_clouds: PointClouds, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "BATCH", 4)
    source = Streamed(tiny_clouds)
    found = built(source, configure(trained_clouds=3, networks=3))
    sample, *passes = source.read
    assert len(sample) == 9  # 3 classes × 3 clouds to train and calibrate on
    assert tiny_clouds.labels[sample].bincount().tolist() == [3, 3, 3]
    assert torch.equal(torch.cat(passes), torch.arange(24))
    assert max(map(len, passes)) == 4
    assert all((index.diff() > 0).all() for index in source.read)
    assert same(found, built(tiny_clouds, configure(trained_clouds=3, networks=3)))


def test_kept_features_are_as_many_as_asked(tiny_clouds: PointClouds, configure: Configure) -> None:
    clouds = unequal(tiny_clouds)
    few = built(clouds, configure(pooled_samples=2)).members[0].pooled
    assert few.shape[:2] == (3, 2)
    many = built(clouds, configure(pooled_samples=100)).members[0].pooled
    assert many.shape[:2] == (3, 8)  # the largest class; the features of smaller ones come round again
    assert len(many[1].unique(dim=0)) == 3
    assert len(many[0].unique(dim=0)) == 8


def test_fewer_points_than_asked_for_are_all_taken(tiny_clouds: PointClouds, configure: Configure) -> None:
    short = tiny_clouds.with_points(tiny_clouds.points[:, :10])
    assert_equals_naive(built(short, configure()).members[0], short, 10, 8)


# The cache


def no_building(*_: object) -> list[Member]:
    raise AssertionError("built again")


def test_second_call_reads_the_cache(
    tiny_clouds: PointClouds, configure: Configure, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, asked = configure(trained_steps=(1, 2)), {"map_samples": 2, "attention": 2.0}
    first = bank_of(tiny_clouds, config, **asked)
    assert len(bank._to_tensors(first.members)["1/attention/2"]) == 3
    assert len(list((own_cache / "banks").iterdir())) == 1
    monkeypatch.setattr(bank, "_build", no_building)
    second = bank_of(tiny_clouds, config, **asked)
    assert same(first, second)
    assert second.seconds == first.seconds > 0
    for one, two in zip(first.members, second.members, strict=True):
        assert not two.network.training
        assert not any(value.requires_grad for value in two.network.parameters())
        torch.testing.assert_close(two.attention, one.attention, rtol=0, atol=0)
        assert torch.equal(one.maps, two.maps)
        assert torch.equal(one.network(tiny_clouds.points).logits, two.network(tiny_clouds.points).logits)


def test_other_data_or_configuration_is_another_bank(
    tiny_clouds: PointClouds, configure: Configure, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank_of(tiny_clouds, configure())
    fields = {"networks": 1, "network": "pointnet-layernorm", "points": 32, "pooled_points": 32, "quantiles": 4,
              "trained_steps": (1, 1), "trained_clouds": 4, "pooled_samples": 4, "seed": 1,
              "augmentation": Augmentation(rotate="z")}  # fmt: skip
    asked = {"map_samples": 4, "attention": 1.0, "moments": True}
    assert fields.keys() | asked.keys() == BankRequest.model_fields.keys()
    monkeypatch.setattr(bank, "_build", no_building)
    for name, value in fields.items():
        with pytest.raises(AssertionError, match="built again"):
            bank_of(tiny_clouds, configure(**{name: value}))
    for name, number in asked.items():
        with pytest.raises(AssertionError, match="built again"):
            bank_of(tiny_clouds, configure(), **{name: number})
    with pytest.raises(AssertionError, match="built again"):
        bank_of(tiny_clouds.with_points(-tiny_clouds.points), configure())
    assert len(list((own_cache / "banks").iterdir())) == 1


def test_cache_that_cannot_be_written_is_done_without(
    tiny_clouds: PointClouds, configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("PCDISTILL_CACHE", str(tmp_path / "file"))
    assert same(built(tiny_clouds, configure()), bank_of(tiny_clouds, configure()))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def babble(path: Path) -> None:
    path.write_bytes(b"\xff" * 5000)


def lose_a_tensor(path: Path) -> None:
    save_file(
        {name: value.clone() for name, value in load_file(path).items() if name != "0/pooled"}, path, {"seconds": "1"}
    )


def lose_the_metadata(path: Path) -> None:
    save_file({name: value.clone() for name, value in load_file(path).items()}, path)


def other_shape(path: Path) -> None:
    tensors = {name: value.clone() for name, value in load_file(path).items()}
    tensors["1/network/trunk.layers.0.linear.weight"] = torch.zeros(2, 2)
    save_file(tensors, path, {"seconds": "1"})


@pytest.mark.parametrize("damage", [truncate, empty, babble, lose_a_tensor, lose_the_metadata, other_shape])
def test_damaged_cache_is_built_again(
    damage: Callable[[Path], None], tiny_clouds: PointClouds, configure: Configure, own_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    first = bank_of(tiny_clouds, configure())
    (path,) = (own_cache / "banks").iterdir()
    damage(path)
    assert same(bank_of(tiny_clouds, configure()), first)
    monkeypatch.setattr(bank, "_build", no_building)
    assert same(bank_of(tiny_clouds, configure()), first)


# What it refuses


def test_soft_labels_are_refused(tiny_clouds: PointClouds, configure: Configure) -> None:
    soft = PointClouds(tiny_clouds.points, nn.functional.one_hot(tiny_clouds.labels).float(), tiny_clouds.class_names)
    with pytest.raises(InputError, match=r"^real set: labels of shape \(24, 3\), expected one class index per cloud$"):
        bank_of(soft, configure())


def test_empty_class_is_refused(tiny_clouds: PointClouds, configure: Configure) -> None:
    with pytest.raises(InputError, match=r"^real set: class 'box' is empty, expected at least one cloud$"):
        bank_of(tiny_clouds[tiny_clouds.labels != 1], configure())


def test_single_cloud_is_refused(tiny_clouds: PointClouds, configure: Configure) -> None:
    one = PointClouds(tiny_clouds.points[:1], torch.tensor([0]), ("ball",))
    with pytest.raises(InputError, match=r"^real set: 1 cloud, expected at least 2$"):
        bank_of(one, configure())


def test_single_class_is_fine(tiny_clouds: PointClouds, configure: Configure) -> None:
    one = PointClouds(tiny_clouds.points[:5], torch.zeros(5, dtype=torch.int64), ("ball",))
    assert bank_of(one, configure()).members[0].pooled_mean.shape[0] == 1
