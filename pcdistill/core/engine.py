"""Lists of independent jobs, carried out by processes of this machine or on a Ray cluster.

What a job makes is a file, written atomically, from which whoever asked for it sees that it is done. A job may
therefore be begun again after its process was killed: nothing is lost, and nothing is there twice.
"""

import contextlib
import importlib.util
import io
import multiprocessing
import os
import platform
import signal
import traceback
from collections.abc import Callable, Generator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch

from pcdistill.core.devices import gpus
from pcdistill.core.errors import InputError
from pcdistill.core.signals import ctrl_c_ignored

RETRIES = 3  # of a job whose process was killed on a cluster
PATIENCE = 60.0  # seconds that cancelled jobs of a cluster have to save where they are


class Job(NamedTuple):
    """A piece of work.

    Attributes:
        name: unlike all others in its list.
        work: a function of a module, which other processes import by its name.
        arguments: its own; they travel to other processes.
        after: names of jobs, earlier in the list, that must have succeeded before it begins.
        trace: file for the traceback of a defect.
    """

    name: str
    work: Callable[..., object]
    arguments: tuple[Any, ...]
    after: tuple[str, ...] = ()
    trace: Path | None = None


class Lost(str):
    """The reason of a job whose process ended without a word, as one does that the system kills: it may be done again.

    Ray has begun it again itself before it says so.
    """


class Team(NamedTuple):
    """Who shares a piece of work: the arguments of `carried_out`."""

    engine: str = "local"
    workers: int = 1

    def alone(self, device: str) -> bool:
        """Whether that is this process."""
        return self.engine == "local" and self.workers == 1 and len(gpus(device)) < 2

    def check(self, device: str) -> None:
        """Refuse, before anything is read, what `carried_out` would.

        Raises:
            InputError: Ray is not installed, or is asked for a GPU by its number.
        """
        if self.engine == "ray":
            _check_ray(device)


ALONE = Team()


class Engine(Protocol):
    """Who does the work."""

    def room(self) -> bool:
        """Whether another job may begin."""

    def begin(self, job: Job) -> None:
        """Let a job begin."""

    def ended(self) -> list[tuple[Job, str]]:
        """Jobs that have ended, at least one if any is at work, each with the reason if it failed, else ""."""

    def stop(self) -> None:
        """End what is still at work; a distillation saves where it is."""


def carried_out(
    jobs: Sequence[Job], engine: str = "local", workers: int = 1, device: str = "cpu"
) -> Generator[tuple[Job, str | None], None, None]:
    """Each job when it has ended, with the reason (one line) if it failed; in the order of the list as far as can be.

    A job that needs a failed one is not begun and fails for the same reason. What is still at work is ended when the
    generator is closed, which Ctrl-C does too.

    Args:
        jobs: those that are to be done.
        engine: `local` or `ray`.
        workers: jobs at work on one machine, each with its part of the threads that torch uses here.
        device: that they compute on. Of `cuda` there are as many workers as GPUs at least, and each sees one of them.

    Raises:
        ValueError: a name twice, or a need that is no earlier job.
        InputError: Ray is not installed, or is asked for a GPU by its number.
        OSError: there is no cluster where `RAY_ADDRESS` says.
    """
    names = [job.name for job in jobs]
    for place, job in enumerate(jobs):
        if job.name in names[:place] or not set(job.after) <= set(names[:place]):
            raise ValueError(f"job '{job.name}' is there twice or needs what is no earlier job: {job.after}")
    if engine == "ray":
        _check_ray(device)
    there = gpus(device)
    workers = max(workers, len(there))
    threads = max(1, torch.get_num_threads() // workers)
    waiting, at_work, reasons = list(jobs), 0, dict[str, str]()
    if not waiting:
        return
    team: Engine = Processes(workers, threads, there) if engine == "local" else Ray(threads, len(there) / workers)
    try:
        while waiting or at_work:
            for job in list(waiting):
                needs = [reasons.get(name) for name in job.after]  # None: not yet ended
                failed = next(filter(None, needs), None)
                if failed is not None:
                    waiting.remove(job)
                    reasons[job.name] = failed
                    yield job, failed
                elif None not in needs and team.room():
                    waiting.remove(job)
                    at_work += 1
                    team.begin(job)
            for job, reason in team.ended():
                at_work -= 1
                reasons[job.name] = reason
                yield job, reason or None
    finally:
        team.stop()


def _check_ray(device: str) -> None:
    if device.startswith("cuda:"):
        raise InputError("device", f"'{device}' with engine ray", "cuda: Ray says which")
    if importlib.util.find_spec("ray") is None:
        raise InputError("engine", "ray, which is not installed", "pip install 'pcdistill[ray]'")


class Processes:
    """A process per job: its peak memory is the job's own, and one that the system kills takes no other along.

    Of several GPUs it sees one, that which the fewest others see.
    """

    def __init__(self, workers: int, threads: int, there: Sequence[str] = ()) -> None:
        self.workers, self.threads, self.gpus = workers, threads, there
        self.context = multiprocessing.get_context("spawn")
        self.at_work = dict[Connection, tuple[Job, SpawnProcess, str]]()

    def room(self) -> bool:
        return len(self.at_work) < self.workers

    def begin(self, job: Job) -> None:
        ours, theirs = self.context.Pipe(duplex=False)
        taken = [gpu for _, _, gpu in self.at_work.values()]
        gpu = min(self.gpus, key=taken.count, default="")
        process = self.context.Process(target=_in_process, args=(theirs, job, self.threads, gpu), daemon=True)
        try:
            with ctrl_c_ignored():
                process.start()
        except OSError as error:
            ours.close()
            raise InputError("workers", f"no process for another one ({error.strerror})", "fewer --workers") from None
        finally:
            theirs.close()
        self.at_work[ours] = (job, process, gpu)

    def ended(self) -> list[tuple[Job, str]]:
        if not self.at_work:
            return []  # to wait for nothing takes for ever
        found = []
        ready = wait(list(self.at_work))
        for ours in [pipe for pipe in self.at_work if pipe in ready]:  # of another class on Windows
            job, process, _ = self.at_work[ours]
            try:
                reason = ours.recv_bytes().decode()
            except EOFError:  # ended without a word
                process.join()
                reason = Lost(f"its process ended with code {process.exitcode} (-9: out of memory?)")
            del self.at_work[ours]
            ours.close()
            process.join()
            found.append((job, reason))
        return found

    def stop(self) -> None:
        for _, process, _ in self.at_work.values():
            if process.pid is not None:
                process.terminate()  # see `_stop_on_sigterm`
        for _, process, _ in self.at_work.values():
            process.join()


class Ray:
    """Tasks of a Ray cluster: that of `RAY_ADDRESS`, one that runs on this machine, or else one for this run.

    Every task has a process of its own and starts in the folder of this one, which all machines have to share. Ray
    begins a task again whose process or machine is lost.
    """

    def __init__(self, threads: int, share: float = 0.0) -> None:
        """With so many threads, and such a share of a GPU, for every task."""
        self.ray: Any = importlib.import_module("ray")
        self.ours = not self.ray.is_initialized()
        if self.ours:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            self.ray.init(log_to_driver=False, logging_level="ERROR")
        # More than the largest machine has would wait for ever.
        largest = max(int(node["Resources"].get("CPU", 0)) for node in self.ray.nodes() if node["Alive"])
        self.threads = max(1, min(threads, largest))
        asked = {"num_cpus": self.threads, "num_gpus": share, "max_retries": RETRIES, "max_calls": 1}
        self.begun = self.ray.remote(**asked)(_on_cluster)
        self.at_work = dict[Any, Job]()

    def room(self) -> bool:
        return True  # Ray has a queue

    def begin(self, job: Job) -> None:
        own = {name: value for name, value in os.environ.items() if name.startswith("PCDISTILL_")}
        self.at_work[self.begun.remote(job, self.threads, os.getcwd(), own)] = job

    def ended(self) -> list[tuple[Job, str]]:
        if not self.at_work:
            return []
        done, _ = self.ray.wait(list(self.at_work))
        return [(self.at_work.pop(task), self._reason(task)) for task in done]

    def _reason(self, task: Any) -> str:
        try:
            return str(self.ray.get(task))
        except self.ray.exceptions.RayError as error:
            return Lost(f"{type(error).__name__} after {RETRIES} retries: {_one_line(error)[:200]}")

    def stop(self) -> None:
        for task in self.at_work:
            self.ray.cancel(task)  # does in the task what Ctrl-C does
        if self.at_work:
            self.ray.wait(list(self.at_work), num_returns=len(self.at_work), timeout=PATIENCE)
        if self.ours:
            self.ray.shutdown()


def attempt(job: Job, threads: int) -> str:
    """Do a job in this process with so many threads; the reason if that fails, else ""."""
    torch.set_num_threads(threads)
    with contextlib.redirect_stderr(io.StringIO()):  # bars of several processes would write over one another
        try:
            job.work(*job.arguments)
        except (InputError, OSError) as error:
            return _one_line(error)
        except Exception as error:  # a defect: it must not cost the other jobs, but has to be found
            where = ""
            if job.trace is not None:
                job.trace.write_text(traceback.format_exc(), encoding="utf-8")
                where = f" (traceback in {job.trace})"
            return f"{type(error).__name__}: {_one_line(error)[:200]}{where}"
    if job.trace is not None:
        job.trace.unlink(missing_ok=True)  # of an earlier attempt
    return ""


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _in_process(pipe: Connection, job: Job, threads: int, gpu: str = "") -> None:
    """What a process of this machine does: it sends the reason, or if it is told to end nothing."""
    if gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu  # before anything asks for a GPU
    _stop_on_sigterm()
    with contextlib.suppress(KeyboardInterrupt):
        pipe.send_bytes(attempt(job, threads).encode())


def _on_cluster(job: Job, threads: int, folder: str, variables: dict[str, str]) -> str:
    """What a task of a cluster does: paths mean what they mean where the command was given."""
    try:
        os.chdir(folder)
    except OSError:
        return f"{folder}: not on {platform.node()}, expected a folder that all machines share"
    os.environ.update(variables)
    return attempt(job, threads)


def _stop_on_sigterm() -> None:
    """Let SIGTERM do what Ctrl-C does, which saves a distillation's state, and Ctrl-C, which reaches all, nothing.

    By way of SIGINT, as `distill` holds that back while it changes the state.
    """
    asked: list[int] = []

    def ended(number: int, _: object) -> None:
        asked.append(number)
        signal.raise_signal(signal.SIGINT)

    def interrupted(_: int, __: object) -> None:
        if asked:
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupted)
    signal.signal(signal.SIGTERM, ended)
