"""Names of devices: what there is not is refused in one line, and `auto` takes what works."""

import pytest
import torch

from pcdistill.commands.distill import Distill
from pcdistill.commands.evaluate import Evaluate
from pcdistill.core import devices
from pcdistill.core.environment import hardware
from pcdistill.core.errors import InputError

NONE = not torch.cuda.is_available() and not torch.backends.mps.is_available()


@pytest.mark.skipif(not NONE, reason="there is an accelerator here")
@pytest.mark.parametrize("name", ["cuda", "cuda:7", "mps", "meta", "gpu0", "", "cpu:0x", "cuda:-1"])
def test_a_device_that_is_not_there_is_one_line(name: str) -> None:
    with pytest.raises(InputError, match=r"^device: '.*' \(.*\), expected auto, cpu") as refused:
        devices.resolved(name)
    assert "\n" not in str(refused.value)


def test_auto_takes_the_first_that_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_fault", lambda name: None if name == "mps" else "not here")
    assert devices.resolved("auto") == "mps"
    monkeypatch.setattr(devices, "_fault", lambda name: "not here")
    assert devices.resolved("auto") == "cpu"


@pytest.mark.skipif(not NONE, reason="there is an accelerator here")
def test_a_command_refuses_before_it_reads_anything() -> None:
    given = {"data": "nowhere", "output": "x.h5", "clouds_per_class": 1}
    with pytest.raises(InputError, match="device: 'cuda:3'"):
        Distill.checked({**given, "device": "cuda:3"}, "distill")
    assert Distill.checked({**given, "device": "auto"}, "distill").device == "cpu"
    with pytest.raises(InputError, match="device: 'mps'"):
        Evaluate.checked({"source": "nowhere", "device": "mps"}, "evaluate")


def test_records_say_on_what_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"model of {device}")
    assert hardware("cuda:1") == f"model of cuda:1 on {hardware()}"
    assert hardware("mps") == f"mps on {hardware()}"
