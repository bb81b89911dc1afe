"""Jobs side by side on this machine, each with its own cores or its own GPU."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import IO

from medsegdiff_auto.crossval.jobs import Job
from medsegdiff_auto.crossval.processes import held, is_held, program
from medsegdiff_auto.crossval.request import Request
from medsegdiff_auto.crossval.states import lock_file, log_file, record_end
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.training.termination import ENDED_EARLY, EXIT_CODE, TerminationRequest

SECONDS_BETWEEN_LOOKS = 0.2


@dataclass(frozen=True)
class Slot:
    """What one process gets of the machine.

    Attributes:
        cores: that it may use; none where the system cannot bind processes.
        gpu: number of its GPU, as CUDA_VISIBLE_DEVICES has it; None for the CPU.
    """

    cores: tuple[int, ...]
    gpu: str | None = None

    @property
    def environment(self) -> dict[str, str]:
        """Variables of the process: one thread per core, or its GPU."""
        threads = {"OMP_NUM_THREADS": str(len(self.cores))} if self.cores else {}
        return threads | ({} if self.gpu is None else {"CUDA_VISIBLE_DEVICES": self.gpu})

    def bind(self) -> None:
        """Binds the process that calls it to the cores."""
        if self.cores and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, self.cores)


def slots_of(number: int, cores: Sequence[int], gpus: Sequence[str] | None) -> list[Slot]:
    """Parts of the machine for so many jobs, as equal as can be.

    Args:
        gpus: that are visible; None for jobs on the CPU.

    Raises:
        UserError: there are fewer cores or GPUs than jobs.
    """
    for what, there in (("cores", cores), ("GPUs", gpus)):
        if there is not None and number > len(there):
            raise UserError(f"There are fewer {what} than jobs side by side.",
                            found=f"--local {number} on {len(there)} {what}", expected=f"at most {len(there)}",
                            fix=f"give --local {max(1, len(there))} or less")
    bounds = [round(part * len(cores) / number) for part in range(number + 1)]
    return [Slot(tuple(cores[low:high]), None if gpus is None else gpus[part])
            for part, (low, high) in enumerate(pairwise(bounds))]


@dataclass
class Running:
    """A process of a job."""

    job: Job
    slot: Slot
    process: subprocess.Popen
    log: IO[bytes]
    begun: float = field(default_factory=time.monotonic)


def run_side_by_side(request: Request, jobs: Mapping[str, Job], slots: Sequence[Slot]) -> list[str]:
    """Runs all jobs that are not done, those that others need first; returns the names of those that failed.

    A job that fails does not stop those that do not need it. One that a process of an earlier start still works on is
    waited for. SIGTERM and Ctrl-C are passed on as SIGTERM, and the processes end with what they have.

    Raises:
        SystemExit: SIGTERM came; the code is that of a pause.
    """
    side = SideBySide(request, jobs, list(slots))
    with TerminationRequest(side.terminate) as termination:
        try:
            while side.go_on(termination.asked):
                time.sleep(SECONDS_BETWEEN_LOOKS)
        except KeyboardInterrupt:
            side.terminate()
            while side.go_on(is_ending=True):
                time.sleep(SECONDS_BETWEEN_LOOKS)
            raise
    if termination.asked:
        raise SystemExit(EXIT_CODE)
    return sorted(side.failed)


def started(command: Sequence[str], slot: Slot, log: IO[bytes], lock: int) -> subprocess.Popen:
    """The process of a command, in a session of its own: a terminal's Ctrl-C is ours, and it ends with a checkpoint.

    Args:
        lock: a descriptor that it keeps open.
    """
    return subprocess.Popen(program(command[0], command[1:]), stdout=log, stderr=subprocess.STDOUT,
                            stdin=subprocess.DEVNULL, env={**os.environ, **slot.environment}, pass_fds=(lock,),
                            preexec_fn=slot.bind, start_new_session=True)


class SideBySide:
    """The jobs of one start: what is done, what runs, what failed."""

    def __init__(self, request: Request, jobs: Mapping[str, Job], free: list[Slot]):
        self.request, self.jobs, self.free = request, jobs, free
        self.running: dict[str, Running] = {}
        self.done: set[str] = set()
        self.failed: set[str] = set()

    def terminate(self) -> None:
        """Asks all processes to end."""
        for one in self.running.values():
            one.process.terminate()

    def go_on(self, is_ending: bool) -> bool:
        """Takes notice of what has ended and starts what can begin; whether there is more to wait for."""
        for name in list(self.running):
            self._look_at(name)
        if is_ending:
            return bool(self.running)
        waits = False
        for name, job in self.jobs.items():
            if name in self.done or name in self.failed or name in self.running:
                continue
            if not all(need in self.done or need not in self.jobs for need in job.needs):
                continue
            if is_held(lock_file(self.request, job)):
                waits = True
            elif job.is_done():
                self.done.add(name)
                waits = True  # others may begin
            elif self.free:
                self._start(job)
        return waits or bool(self.running)

    def _start(self, job: Job) -> None:
        lock = held(lock_file(self.request, job))
        if lock is None:
            return
        slot = self.free.pop(0)
        log = log_file(self.request, job).open("ab")
        log.write(f"\n$ medsegdiff_{' '.join(job.command)}\n".encode())
        log.flush()
        process = started(job.command, slot, log, lock)
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(process.pid).encode(), 0)
        os.close(lock)  # the process has it
        self.running[job.name] = Running(job, slot, process, log)
        print(f"{job.name}: started, {log.name}", flush=True)

    def _look_at(self, name: str) -> None:
        one = self.running[name]
        number, status, usage = os.wait4(one.process.pid, os.WNOHANG)
        if not number:
            return
        code = one.process.returncode = os.waitstatus_to_exitcode(status)
        del self.running[name]
        self.free.append(one.slot)
        one.log.close()
        seconds = time.monotonic() - one.begun
        record_end(self.request, one.job, code, seconds, usage.ru_maxrss * 1024 / 1e9)
        is_done = code == 0 and one.job.is_done()
        if is_done:
            self.done.add(name)
        elif code not in ENDED_EARLY:  # those are started again
            self.failed.add(name)
        words = "done" if is_done else "paused" if code in ENDED_EARLY else (
            f"failed with exit code {code}, see {one.log.name}" if code else
            f"ended without its files, see {one.log.name}")
        print(f"{name}: {words}, {seconds:.0f} s", flush=True)


def visible_gpus() -> list[str]:
    """Numbers of the GPUs that CUDA shows, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return named or [str(number) for number in range(torch.cuda.device_count())]


def usable_cores() -> list[int]:
    """Numbers of the cores of this process."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


