"""Lists of jobs: order, needs and failures on both engines, and what killing, Ctrl-C and a missing Ray do."""

import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

from pcdistill.core import engine
from pcdistill.core.devices import gpus
from pcdistill.core.engine import Job, carried_out
from pcdistill.core.errors import InputError
from pcdistill.core.files import atomic
from tests.conftest import interrupted_when

REPOSITORY = Path(__file__).parents[2]


def draw(folder: Path, number: int) -> None:
    """A result that follows from its number; every beginning leaves a line."""
    with (folder / "begun").open("a") as lines:
        lines.write(f"{number} {os.getpid()} {torch.get_num_threads()}\n")
    value = torch.randn(4, generator=torch.Generator().manual_seed(number)).tolist()
    with atomic(folder / f"{number}.txt") as temporary:
        temporary.write_text(f"{value}")


def look(folder: Path, number: int) -> None:
    """What this process may see of the GPUs; the first two jobs are at work at once: each waits for the other."""
    (folder / f"{number}.txt").write_text(os.environ.get("CUDA_VISIBLE_DEVICES", "all"))
    while number < 2 and not (folder / f"{1 - number}.txt").exists():
        time.sleep(0.01)


def wait_for_death(folder: Path, number: int) -> None:
    """As `draw`, but the first beginning never comes to an end of its own."""
    if not (folder / "pid").exists():
        with atomic(folder / "pid") as temporary:
            temporary.write_text(str(os.getpid()))
        time.sleep(100)
    draw(folder, number)


def until_told(folder: Path) -> None:
    """Work of many short steps, which keeps what it has when it is interrupted."""
    (folder / "begun").write_text("")
    try:
        for _ in range(10_000):
            time.sleep(0.01)
    except KeyboardInterrupt:
        (folder / "saved").write_text("")
        raise


def fail(kind: str) -> None:
    if kind == "input":
        raise InputError("a file", "nothing in it", "points")
    if kind == "silent":
        raise OSError
    raise ZeroDivisionError("a defect,\nof two lines")


def results(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(folder.glob("*.txt"))}


def begun(folder: Path) -> list[int]:
    return [int(line.split()[0]) for line in (folder / "begun").read_text().splitlines()]


class Here:
    """Does jobs in this process."""

    def __init__(self, workers: int, threads: int, there: Sequence[str] = ()) -> None:
        self.done: list[tuple[Job, str]] = []
        self.threads = threads

    def room(self) -> bool:
        return not self.done

    def begin(self, job: Job) -> None:
        self.done.append((job, engine.attempt(job, self.threads)))

    def ended(self) -> list[tuple[Job, str]]:
        done, self.done = self.done, []
        return done

    def stop(self) -> None:
        pass


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "Processes", Here)


def test_jobs_run_in_order_after_what_they_need(here: None, tmp_path: Path) -> None:
    jobs = [
        Job("a", draw, (tmp_path, 0)),
        Job("b", draw, (tmp_path, 1), after=("a",)),
        Job("c", draw, (tmp_path, 2)),
        Job("d", draw, (tmp_path, 3), after=("b", "c")),
    ]
    assert [(job.name, reason) for job, reason in carried_out(jobs)] == [(name, None) for name in "abcd"]
    assert begun(tmp_path) == [0, 1, 2, 3]
    assert list(carried_out([])) == []


def test_a_need_is_waited_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever has no needs goes before, as long as there is room."""

    class LastFirst(Here):
        def room(self) -> bool:
            return len(self.done) < 2

        def ended(self) -> list[tuple[Job, str]]:
            return [self.done.pop()] if self.done else []

    monkeypatch.setattr(engine, "Processes", LastFirst)
    jobs = [Job("a", draw, (tmp_path, 0)), Job("b", draw, (tmp_path, 1), after=("a",)), Job("c", draw, (tmp_path, 2))]
    assert [job.name for job, _ in carried_out(jobs)] == ["c", "a", "b"]
    assert begun(tmp_path) == [0, 2, 1]


def test_nothing_is_waited_for_where_nothing_is_at_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the last jobs are those that needed one that failed."""
    usual = engine.wait

    def wait(pipes: list[Any]) -> list[Any]:
        assert pipes, "for ever"
        return usual(pipes)

    monkeypatch.setattr(engine, "wait", wait)
    jobs = [Job("a", fail, ("silent",)), Job("b", draw, (tmp_path, 0), after=("a",))]
    assert [(job.name, reason) for job, reason in carried_out(jobs)] == [("a", "OSError"), ("b", "OSError")]


def test_what_needs_a_failed_job_fails_for_its_reason(here: None, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    jobs = [
        Job("bad", fail, ("input",)),
        Job("worse", fail, ("defect",), trace=trace),
        Job("silent", fail, ("silent",)),
        Job("needs", draw, (tmp_path, 0), after=("bad",)),
        Job("needs that", draw, (tmp_path, 1), after=("needs",)),
        Job("free", draw, (tmp_path, 2)),
    ]
    found = {job.name: reason for job, reason in carried_out(jobs)}
    reason = "a file: nothing in it, expected points"
    assert found == {
        "bad": reason,
        "worse": f"ZeroDivisionError: a defect, of two lines (traceback in {trace})",
        "silent": "OSError",
        "needs": reason,
        "needs that": reason,
        "free": None,
    }
    assert begun(tmp_path) == [2]
    assert trace.read_text().endswith("ZeroDivisionError: a defect,\nof two lines\n")
    ((_, none),) = carried_out([Job("mended", draw, (tmp_path, 3), trace=trace)])
    assert none is None
    assert not trace.exists()


@pytest.mark.parametrize(
    "jobs",
    [
        [Job("a", draw, ()), Job("a", draw, ())],
        [Job("a", draw, (), after=("b",)), Job("b", draw, ())],
        [Job("a", draw, (), after=("a",))],
    ],
    ids=["twice", "later", "itself"],
)
def test_a_list_that_could_not_end_is_refused(jobs: list[Job]) -> None:
    with pytest.raises(ValueError, match="'a' is there twice or needs what is no earlier job"):
        next(carried_out(jobs))


def test_threads_are_shared_by_the_jobs_of_a_machine(
    here: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    usual = torch.get_num_threads()
    try:
        torch.set_num_threads(6)
        list(carried_out([Job("a", draw, (tmp_path, 0))], workers=4))
        torch.set_num_threads(7)
        list(carried_out([Job("a", draw, (tmp_path, 0))], workers=3))
    finally:
        torch.set_num_threads(usual)
    assert [line.split()[2] for line in (tmp_path / "begun").read_text().splitlines()] == ["1", "2"]


def killer(folder: Path) -> threading.Thread:
    """Kills the process that has left its number in `folder`, as soon as it has."""

    def kill() -> None:
        while not (folder / "pid").exists():
            time.sleep(0.02)
        os.kill(int((folder / "pid").read_text()), signal.SIGKILL)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    return thread


def test_a_killed_process_costs_its_own_job_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes of this machine."""
    jobs = [Job("killed", wait_for_death, (tmp_path, 0)), Job("free", draw, (tmp_path, 1))]
    thread = killer(tmp_path)
    found = {job.name: reason for job, reason in carried_out(jobs, "local", 2)}
    thread.join()
    assert found == {"killed": "its process ended with code -9 (-9: out of memory?)", "free": None}
    assert list(results(tmp_path)) == ["1.txt"]
    monkeypatch.setattr(engine, "Processes", Here)
    ((job, reason),) = carried_out(jobs[:1])  # asked for again
    assert (job, reason) == (jobs[0], None)
    assert list(results(tmp_path)) == ["0.txt", "1.txt"]


@pytest.mark.slow
def test_ray_begins_the_job_of_a_killed_process_again(
    cluster: Any, here: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every result is there once, and what processes of this machine make."""
    monkeypatch.chdir(tmp_path)
    remote, local = Path("remote"), tmp_path / "local"
    local.mkdir()
    remote.mkdir()
    jobs = [
        Job("killed", wait_for_death, (remote, 0)),
        Job("bad", fail, ("input",)),
        Job("needs killed", draw, (remote, 1), after=("killed",)),
        Job("needs bad", draw, (remote, 2), after=("bad",)),
    ]
    thread = killer(remote)
    found = [(job.name, reason) for job, reason in carried_out(jobs, "ray", 1)]
    thread.join()
    reason = "a file: nothing in it, expected points"
    assert len(found) == len(jobs)
    assert dict(found) == {"killed": None, "bad": reason, "needs killed": None, "needs bad": reason}
    processes = [line.split()[1] for line in (remote / "begun").read_text().splitlines()]
    assert begun(remote) == [0, 1]
    assert len({(remote / "pid").read_text(), *processes}) == 3  # one for every beginning
    list(carried_out([Job(f"{number}", draw, (local, number)) for number in range(2)]))
    assert results(remote) == results(local)
    assert cluster.is_initialized()  # whoever began it ends it


@pytest.mark.slow
def test_leaving_cancels_the_tasks_of_ray_and_lets_them_save(cluster: Any, tmp_path: Path) -> None:
    jobs = [Job("long", until_told, (tmp_path,)), Job("next", draw, (tmp_path, 1), after=("long",))]

    with interrupted_when(tmp_path / "begun"), closing(carried_out(jobs, "ray")) as ends:
        list(ends)
    assert (tmp_path / "saved").exists()
    assert not results(tmp_path)


def test_a_folder_that_is_not_shared_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    reason = engine._on_cluster(Job("a", draw, (tmp_path, 0)), 1, "/nowhere", {})
    assert reason.startswith("/nowhere: not on ")
    assert reason.endswith(", expected a folder that all machines share")


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # an import of it fails
    with pytest.raises(InputError, match=r"ray, which is not installed, expected pip install 'pcdistill\[ray\]'"):
        next(carried_out([Job("a", draw, (tmp_path, 0))], "ray"))


def test_a_process_that_cannot_be_started_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(process: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("multiprocessing.context.SpawnProcess.start", refused)
    with pytest.raises(InputError, match=r"^workers: no process for another one \(Resource temporarily unavailable\)"):
        list(carried_out([Job("one", print, ())]))


def test_jobs_are_spread_over_the_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "gpus", lambda device: ("4", "6") if device == "cuda" else ())
    jobs = [Job(f"{number}", look, (tmp_path, number)) for number in range(2)]
    assert [reason for _, reason in carried_out(jobs, device="cuda")] == [None, None]  # as many at once as there are
    assert sorted(results(tmp_path).values()) == ["4", "6"]


def test_which_gpu_it_is_says_ray(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"device: 'cuda:1' with engine ray, expected cuda"):
        next(carried_out([Job("a", draw, (tmp_path, 0))], "ray", device="cuda:1"))


def test_gpus_are_those_that_this_process_may_see(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpus("cuda") == ("0", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert gpus("cuda") == ("3", "5")
    assert gpus("cuda:1") == gpus("cpu") == gpus("mps") == ()
