"""From training to a device through the real command line: export, predict, show and evaluate."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pcdistill.cli import main
from pcdistill.commands.predict import Predict
from pcdistill.data import load
from pcdistill.export import Card, card_in, load_onnx, networks
from pcdistill.export import quantise as tuning
from pcdistill.export.quantise import TuneRecipe
from pcdistill.models import build
from pcdistill.training.loop import predict
from pcdistill.training.recipe import protocol
from pcdistill.training.trained import Trained, load_network, save_network
from tests.conftest import of_class

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

Run = Callable[..., str]
# A box of edges 2 around (5, 5, 5): eight corners, twelve triangles.
BOX = (
    "OFF\n8 12 0\n"
    + "".join(f"{x} {y} {z}\n" for x in (4, 6) for y in (4, 6) for z in (4, 6))
    + ("3 0 1 2\n3 1 3 2\n3 4 6 5\n3 5 6 7\n3 0 4 1\n3 1 4 5\n3 2 3 6\n3 3 7 6\n3 0 2 4\n3 2 6 4\n3 1 5 3\n3 3 5 7\n")
)


@pytest.fixture(scope="module")
def network(tiny_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trained") / "net.safetensors"
    words = ["train", tiny_file, "--points", 128, "--network", "pointnet-tiny", "--train-steps", 60, "--output", path]
    assert main([str(word) for word in words]) == 0
    return path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A command line that has to succeed; what it prints."""
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()

    def call(*words: object) -> str:
        assert main([str(word) for word in words]) == 0
        shown = capsys.readouterr()
        assert shown.err == ""
        return shown.out

    return call


def guessed(**given: Any) -> Any:
    """What `predict` says of the first file."""
    said: list[str] = []
    Predict(**given, json=True).run(said.append)
    return json.loads(said[0])["guesses"][0]


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert main([str(word) for word in words]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    return line.removeprefix("pcdistill: error: ").strip()


def test_a_network_is_exported_evaluated_shown_and_asked(
    run: Run, network: Path, tiny_file: Path, tmp_path: Path
) -> None:
    """The way of a user, in both precisions; nothing is left behind but the files that were asked for."""
    said = run("export", network, "--output", "net.onnx")
    size = Path("net.onnx").stat().st_size
    assert said.startswith(f"wrote net.onnx: {size:,} bytes, {card_in(Path('net.onnx')).parameters:,} parameters in ")
    said = run("export", network, "--output", "net8.onnx", "--int8", "--training-set", tiny_file)
    assert "parameters in int8\n" in said
    assert "rounding to int8 moves logits by " in said
    assert {path.name for path in tmp_path.iterdir()} == {"net.onnx", "net8.onnx"}
    assert card_in(Path("net8.onnx")).trained_on == {"dataset": "tiny.h5"}

    told = [json.loads(run("evaluate", path, "--test-data", tiny_file, "--json")) for path in (network, "net.onnx")]
    assert told[0]["runs"][0]["accuracy"] > 0.9
    for key in ("accuracy", "class_accuracy", "confusion", "right"):
        assert told[0]["runs"][0][key] == told[1]["runs"][0][key]
    assert told[1]["runs"][0]["ece"] == pytest.approx(told[0]["runs"][0]["ece"], abs=1e-3)
    rounded = json.loads(run("evaluate", "net8.onnx", "--test-data", tiny_file, "--json"))["runs"][0]
    assert rounded["accuracy"] > 0.8

    facts = json.loads(run("show", "net8.onnx", "--json"))
    assert (facts["precision"], facts["file_bytes"]) == ("int8", Path("net8.onnx").stat().st_size)
    assert facts["class_names"] == ["ball", "box", "ring"]
    assert "precision    int8" in run("show", "net8.onnx")
    assert "precision    float32" in run("show", network)

    ring = of_class(load(str(tiny_file), "test"), 2).points[0]
    np.save("ring.npy", 40 * ring.numpy() + 7)  # any place and size
    Path("box.off").write_text(BOX)
    for model in (network, "net.onnx", "net8.onnx"):
        first, second = run("predict", model, "box.off", "ring.npy", "--top", 1).splitlines()
        assert first.startswith("box.off    box ")
        assert second.startswith("ring.npy   ring ")
        told = json.loads(run("predict", model, "box.off", "ring.npy", "--json"))["guesses"]
        assert [guess["points"] for guess in told] == [1024, 1024]
        for guess in told:
            shares = list(guess["probabilities"].values())
            assert shares == sorted(shares, reverse=True)
            assert sum(shares) == pytest.approx(1, abs=1e-5)


def test_latency_is_printed_and_in_json(run: Run, network: Path) -> None:
    run("export", network, "--output", "net.onnx")
    told = json.loads(run("predict", "net.onnx", "--latency", "--points", 64, "--json"))
    assert told["guesses"] == []
    speed = told["latency"]
    assert set(speed) == {"points", "nbytes", "p50_ms", "p99_ms", "peak_mib", "runtime_mib"}
    assert (speed["points"], speed["nbytes"]) == (64, Path("net.onnx").stat().st_size)
    assert 0 < speed["p50_ms"] <= speed["p99_ms"]
    shown = run("predict", "net.onnx", "--latency")
    assert shown.startswith("1024 points on one thread: ")
    assert "peak memory" in shown


def test_a_fine_tuned_file_says_so(run: Run, network: Path, tiny_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranges and fine-tuning from an artefact, whose facts are on the card."""
    monkeypatch.setattr(tuning, "TuneRecipe", lambda: TuneRecipe(steps=3))
    monkeypatch.setattr("pcdistill.commands.export.TuneRecipe", lambda: TuneRecipe(steps=3))
    few = ("--clouds-per-class", 2, "--points", 64, "--bits", 8)
    run("select", "--data", tiny_file, *few, "--method", "random", "--output", "a.h5")
    said = run("export", network, "--output", "net.onnx", "--tune", "--training-set", "a.h5")
    assert ", fine-tuned under rounding\n" in said
    card = card_in(Path("net.onnx"))
    assert (card.tuned, card.precision) == (True, "int8")
    told = {"arm": "random", "dataset": "tiny.h5", "clouds_per_class": 2, "bytes_per_class": 384}
    assert card.trained_on == told


def test_ranges_are_those_of_clouds_as_the_network_saw_them(
    run: Run, network: Path, tiny_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recipe that normalises clouds: those of an artefact, three times as large, are brought back to size."""
    trained = load_network(network)
    plan = trained.protocol.model_copy(
        update={"recipe": trained.protocol.recipe.model_copy(update={"normalise": True})}
    )
    save_network(Path("net.safetensors"), trained._replace(protocol=plan))
    usual, seen = load(str(tiny_file), "train", points=128), []
    monkeypatch.setattr("pcdistill.data.reading.load", lambda *_, **__: usual.with_points(3 * usual.points))
    monkeypatch.setattr("pcdistill.export.onnx._write_int8", lambda plain, path, points: seen.append(points))
    with pytest.raises(FileNotFoundError):  # what would have been written
        run("export", "net.safetensors", "--output", "net.onnx", "--int8", "--training-set", tiny_file, "--debug")
    torch.testing.assert_close(seen[0].norm(dim=2).amax(1), torch.ones(24))


def test_up_axis_number_of_points_and_seed(run: Run, network: Path, tiny_file: Path) -> None:
    cloud = load(str(tiny_file), "test").points[0].numpy()
    np.save("z.npy", cloud)
    np.save("y.npy", np.stack([cloud[:, 0], cloud[:, 2], -cloud[:, 1]], 1))  # z up becomes y up
    run("export", network, "--output", "net.onnx")

    def probabilities(file: str, **more: object) -> dict[str, float]:
        return guessed(model="net.onnx", files=[file], **more)["probabilities"]

    upright = probabilities("z.npy")
    assert probabilities("y.npy", up_axis="y") == pytest.approx(upright, abs=1e-4)
    assert probabilities("y.npy") != pytest.approx(upright, abs=1e-4)
    assert probabilities("z.npy", points=50) != pytest.approx(probabilities("z.npy", points=50, seed=1), abs=1e-4)
    np.save("few.npy", cloud[:40])
    few = guessed(model="net.onnx", files=["few.npy"])
    assert few["points"] == 40  # all that it has


def test_a_prediction_is_that_of_the_network_on_the_cloud(run: Run, network: Path, tiny_file: Path) -> None:
    clouds = load(str(tiny_file), "test")
    np.save("ball.npy", clouds.points[1].numpy())
    trained = load_network(network)
    expected = predict(trained.network, clouds.points[1:2]).softmax(1)[0]
    found = guessed(model=network, files=["ball.npy"])["probabilities"]
    assert [found[name] for name in trained.class_names] == pytest.approx(expected.tolist(), abs=1e-3)


def test_networks_that_thin_see_as_many_points_as_in_training(run: Run, network: Path, tiny_file: Path) -> None:
    trained = load_network(network)
    thin = trained.protocol.model_copy(update={"thin": True})
    save_network(Path("thin.safetensors"), trained._replace(protocol=thin))
    np.save("ball.npy", load(str(tiny_file), "test").points[1].numpy())
    assert guessed(model="thin.safetensors", files=["ball.npy"])["points"] == 128


def test_ctrl_c_leaves_nothing(
    network: Path, tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)

    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    for name in ("_write_int8", "_write_float32", "_with_card"):
        with monkeypatch.context() as patch:
            patch.setattr(f"pcdistill.export.onnx.{name}", stopped)
            words = ("export", network, "--output", "net.onnx", "--int8", "--training-set", tiny_file)
            assert main([str(word) for word in words]) == 130
        assert not list(tmp_path.iterdir())
    assert capsys.readouterr().err.count("interrupted") == 3


def layernorm(path: Path) -> Path:
    name = "pointnet-small-layernorm"
    trained = Trained(build(name, 3, 0).eval(), ("ball", "box", "ring"), protocol("tuned", name), "tiny.h5", 64, 0)
    save_network(path, trained)
    return path


def test_a_network_without_batch_norm_is_exported_in_float32_alone(
    run: Run, tiny_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = layernorm(Path("layer.safetensors"))
    run("export", path, "--output", "layer.onnx")
    seen = load(str(tiny_file), "test").points[:3, :50]
    found = predict(load_onnx(Path("layer.onnx")).network, seen)
    torch.testing.assert_close(found, predict(load_network(path).network, seen), rtol=0, atol=1e-4)
    for more in (("--output", "a.onnx", "--int8", "--training-set", tiny_file), ("--output", "a.pte")):
        line = refused(capsys, "export", path, *more)
        assert line.startswith("network: a pointnet-small-layernorm, expected a PointNet with batch norm")
    assert not Path("a.onnx").exists()


def test_a_card_lies_beside_a_file_that_cannot_hold_it(
    run: Run, network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(networks, "export_executorch", lambda network, path, points: (7, 1e-6))
    run("export", network, "--output", tmp_path / "net.pte")
    card = Card.model_validate_json((tmp_path / "net.pte.json").read_text())
    assert card.class_names == load_network(network).class_names
    assert card.parity == 1e-6


def test_settings_that_exclude_one_another(
    network: Path, tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    onnx, pte = ("export", network, "--output", "net.onnx"), ("export", network, "--output", "net.pte")
    for words, message in (
        (("export", network, "--output", "net.tflite"), "output: net.tflite, expected a name that ends in .onnx or"),
        ((*pte, "--int8", "--training-set", tiny_file), "int8: with a .pte file, expected an .onnx file"),
        ((*onnx, "--int8"), "int8: and no --training-set, expected the set that the network was trained on"),
        ((*onnx, "--tune"), "int8: and no --training-set"),
        ((*onnx, "--training-set", tiny_file), f"training_set: {tiny_file} and no --int8, expected both or neither"),
        ((*onnx, "--int8", "--training-set", "none.h5"), "none.h5: no such file"),
        ((*onnx, "--int8", "--training-set", "shapes"), "shapes: classes airplane"),
        (("export", "none.safetensors", "--output", "net.onnx"), "none.safetensors: no such file"),
        (("export", tiny_file, "--output", "net.onnx"), "tiny.h5: not a network of this package"),
        (("predict", network), "predict: no files, expected clouds or meshes, or --latency"),
        (("predict", network, "none.off"), "none.off: no such file"),
        (("predict", network, tiny_file), "tiny.h5: suffix '.h5', expected one of .off"),
        (("predict", "none.onnx", "none.off"), "none.onnx: no such file"),
        (("predict", network, "--latency"), "latency: of"),
        (("show", "none.onnx"), "none.onnx: no such file"),
    ):
        assert message in refused(capsys, *words)
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_no_object_is_refused_before_others_are_told(
    network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("box.off").write_text(BOX)
    for name, content in (("bad.off", "OFF\nnonsense\n"), ("bad.npy", "text"), ("bad.xyz", "")):
        Path(name).write_text(content)
        assert name in refused(capsys, "predict", network, "box.off", name)
        assert capsys.readouterr().out == ""
    shutil.copy(network, "net.onnx")
    assert refused(capsys, "predict", "net.onnx", "box.off").startswith("net.onnx: not an ONNX model")
