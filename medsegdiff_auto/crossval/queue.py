"""What SLURM says of the jobs that were submitted."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

RUNNING = ("RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "STAGE_OUT", "SIGNALING")
WAITING = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESIZING")
SUBMITTED_FILE = "submitted.json"
UNITS = {"K": 1024, "M": 1024 ** 2, "G": 1024 ** 3, "": 1}


@dataclass(frozen=True)
class Queued:
    """A submitted job.

    Attributes:
        number: ``123_4``, its array and its place there.
        state: of SLURM, in capitals; ``GONE`` where neither queue nor accounting knows it.
        reason: why it waits, or how it ended.
        memory_gb: the largest of a step, by the accounting.
    """

    number: str
    state: str
    reason: str = ""
    memory_gb: float | None = None

    @property
    def is_running(self) -> bool:
        return self.state in RUNNING

    @property
    def is_waiting(self) -> bool:
        return self.state in WAITING and self.reason != "DependencyNeverSatisfied"

    @property
    def has_failed(self) -> bool:
        """Whether it will not run any more; one that completed has left its files, or the job is not done."""
        return not self.is_running and not self.is_waiting


def submitted(file: Path) -> dict[str, str]:
    """The number of every job that was submitted, by name; none before."""
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def ask(numbers: Mapping[str, str]) -> dict[str, Queued]:
    """What queue and accounting say of jobs, by name; empty on a machine without SLURM."""
    if not numbers or shutil.which("squeue") is None:
        return {}
    queue = of_queue(_output("squeue", "--noheader", "--array", "--format=%i|%T|%r"))
    arrays = sorted({number.split("_")[0] for number in numbers.values()})
    past = of_accounting(_output("sacct", "--noheader", "--parsable2", "--allocations", f"--jobs={','.join(arrays)}",
                                 "--format=JobID,State,MaxRSS"))
    return {name: queue.get(number) or past.get(number) or Queued(number, "GONE", "left the queue")
            for name, number in numbers.items()}


def of_queue(text: str) -> dict[str, Queued]:
    """The lines ``NUMBER|STATE|REASON`` of squeue, by number."""
    rows = [line.split("|", 2) for line in text.splitlines() if line.count("|") >= 2]
    return {number: Queued(number, state, reason) for number, state, reason in rows}


def of_accounting(text: str) -> dict[str, Queued]:
    """The lines ``NUMBER|STATE|MaxRSS`` of sacct, by number; ``CANCELLED by 0`` is CANCELLED."""
    rows = [line.split("|") for line in text.splitlines() if line.count("|") == 2]
    return {number: Queued(number, state.split()[0], state.lower(), _gigabytes(memory))
            for number, state, memory in rows if state}


def _gigabytes(text: str) -> float | None:
    match = re.fullmatch(r"([\d.]+)([KMG]?)", text)
    return float(match[1]) * UNITS[match[2]] / 1e9 if match else None


def _output(*words: str) -> str:
    """What a command says; nothing where it is absent or refuses, as sacct does without a database."""
    if shutil.which(words[0]) is None:
        return ""
    done = subprocess.run(words, capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else ""
