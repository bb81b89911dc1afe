"""Commands in forked processes, which need not import torch again, and the end of a process with all its own."""

import importlib
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from medsegdiff_auto.benchmarks.interruptions import become
from medsegdiff_auto.crossval import local, steps


class Forked:
    """What the runner needs of a process."""

    def __init__(self, pid: int):
        self.pid, self.returncode = pid, None

    def terminate(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)


def forked(words, output: int) -> int:
    """Runs ``medsegdiff_<words>`` in a process of a new session and returns its number."""
    pid = os.fork()
    if pid:
        return pid
    os.setsid()
    become(words, output)


def called(command: str, words) -> int:
    try:
        return importlib.import_module(f"medsegdiff_auto.cli.{command}").main(list(words))
    except SystemExit as end:
        return end.code


def started(command, slot, log, lock: int) -> Forked:
    """In the place of :func:`medsegdiff_auto.crossval.local.started`."""
    before = dict(os.environ)
    os.environ.update(slot.environment)
    pid = forked(command, log.fileno())
    os.environ.clear(), os.environ.update(before)
    return Forked(pid)


def fork_jobs(patch) -> None:
    """Jobs are forked, and the steps of a job called."""
    patch.setattr(local, "started", started)
    patch.setattr(steps, "completed", called)


def family(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in file.read_text(encoding="utf-8").split():
                found += family(int(child))
    return found


def kill(pid: int) -> None:
    """Ends a process and all below it at once, and waits for it."""
    os.kill(pid, signal.SIGSTOP)  # it starts no more
    for one in family(pid):
        with suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)
    os.waitpid(pid, 0)


def ended(pid: int, after_s: float) -> int | None:
    """Exit code of a process that ends by itself within some seconds; None where it was killed."""
    deadline = time.monotonic() + after_s
    while time.monotonic() < deadline:
        number, status = os.waitpid(pid, os.WNOHANG)
        if number:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    kill(pid)
    return None
