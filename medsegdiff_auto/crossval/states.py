"""Where every job stands, by what lies in the folders and, on a cluster, in the queue.

    comparison/jobs/NAME.log    what its process said
                    NAME.json   how its last process ended: exit_code, seconds, memory_gb (its largest, where known)
                    NAME.lock   held while its process lives on this machine; the number of the process

    waiting   for the jobs that it needs, or for its turn
    running   a process works on it, here or on a node
    paused    begun, and to be started again; nothing is lost
    failed    its last process ended with an error
    done      its files say so
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from medsegdiff_auto.crossval.jobs import TRAIN, Job
from medsegdiff_auto.crossval.processes import holder, is_held, resident_gb
from medsegdiff_auto.crossval.queue import Queued
from medsegdiff_auto.crossval.request import Request
from medsegdiff_auto.training.run import CHECKPOINTS_TO_CONTINUE
from medsegdiff_auto.training.termination import ENDED_EARLY
from medsegdiff_auto.writing import write_json

WAITING, RUNNING, PAUSED, FAILED, DONE = "waiting", "running", "paused", "failed", "done"
PROGRESS = re.compile(r"^(?:epoch|case) (\d+/\d+)\b(?:.*\| (\S+) left)?")
LAST_BYTES = 20_000


@dataclass(frozen=True)
class State:
    """A row of ``--status``; what is not known is empty.

    Attributes:
        progress: epochs of the training, or cases, that are over: ``12/30``.
        left: time, as the process itself expects it.
        memory_gb: of a running process and its own; else the largest of the last one.
    """

    name: str
    state: str
    progress: str = ""
    left: str = ""
    memory_gb: float | None = None
    message: str = ""


def jobs_folder(request: Request) -> Path:
    """Logs and records of the jobs."""
    return request.comparison / "jobs"


def log_file(request: Request, job: Job) -> Path:
    """What the processes of a job said."""
    return jobs_folder(request) / f"{job.file_name}.log"


def lock_file(request: Request, job: Job) -> Path:
    """Held while a process of this machine works on the job."""
    return jobs_folder(request) / f"{job.file_name}.lock"


def record_file(request: Request, job: Job) -> Path:
    """How the last process of a job ended."""
    return jobs_folder(request) / f"{job.file_name}.json"


def record_end(request: Request, job: Job, exit_code: int, seconds: float, memory_gb: float | None) -> None:
    """Writes how a process of a job ended."""
    write_json({"exit_code": exit_code, "seconds": round(seconds, 1), "memory_gb": memory_gb},
               record_file(request, job))


def last_end(request: Request, job: Job) -> dict:
    """How the last process of a job ended; empty where none did, or where its node went down while it wrote."""
    try:
        return json.loads(record_file(request, job).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def states_of(request: Request, jobs: Mapping[str, Job], queue: Mapping[str, Queued] | None = None) -> dict[str, State]:
    """The state of every job.

    Args:
        queue: what a cluster says of the jobs that were submitted, by name.
    """
    return {name: state_of(request, job, jobs, (queue or {}).get(name)) for name, job in jobs.items()}


def state_of(request: Request, job: Job, jobs: Mapping[str, Job], queued: Queued | None = None) -> State:
    """The state of a job."""
    said, end = Said.of(log_file(request, job)), last_end(request, job)
    if job.is_done():
        return State(job.name, DONE, said.progress, "", end.get("memory_gb"), said.last)
    lock = lock_file(request, job)
    if is_held(lock) or (queued is not None and queued.is_running):
        process = holder(lock) if is_held(lock) else None
        memory = resident_gb(process) if process is not None else queued.memory_gb if queued is not None else None
        return State(job.name, RUNNING, said.progress, said.left, memory, said.last)
    code = end.get("exit_code")
    begun = code in ENDED_EARLY or has_begun(request, job)
    if queued is not None and queued.is_waiting:
        return State(job.name, PAUSED if begun else WAITING, said.progress, said.left, end.get("memory_gb"),
                     queued.reason)
    if queued is not None and queued.has_failed and code in (None, 0, *ENDED_EARLY):
        return State(job.name, FAILED, said.progress, "", queued.memory_gb, f"{queued.reason}: {said.last}")
    if code not in (None, 0, *ENDED_EARLY):
        return State(job.name, FAILED, said.progress, "", end.get("memory_gb"), f"exit code {code}: {said.error}")
    if begun:
        return State(job.name, PAUSED, said.progress, said.left, end.get("memory_gb"), said.last)
    missing = [name for name in job.needs if name in jobs and not jobs[name].is_done()]
    return State(job.name, WAITING, message=f"for {missing[0]}" if missing else "")


def has_begun(request: Request, job: Job) -> bool:
    """Whether a training has a checkpoint to go on from."""
    kind, *rest = job.name.split("/")
    if kind != TRAIN:
        return False
    method, configuration, fold = rest
    folder = request.checkpoint(method, configuration, int(fold.removeprefix("fold_"))).parent
    return any((folder / name).is_file() for name in CHECKPOINTS_TO_CONTINUE)


@dataclass(frozen=True)
class Said:
    """What the log of a job says at its end.

    Attributes:
        last: its last line; error: its last line that begins with ``error:``, else the last.
    """

    progress: str = ""
    left: str = ""
    last: str = ""
    error: str = ""

    @classmethod
    def of(cls, log: Path) -> Said:
        """Reads the end of a log."""
        if not log.is_file():
            return cls()
        with log.open("rb") as stream:
            stream.seek(max(0, log.stat().st_size - LAST_BYTES))
            text = stream.read().decode("utf-8", errors="replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        found = [match for line in lines if (match := PROGRESS.match(line))]
        errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        last = lines[-1] if lines else ""
        return cls(found[-1][1] if found else "", (found[-1][2] or "") if found else "", last,
                   errors[-1] if errors else last)


def table_of(states: Mapping[str, State]) -> str:
    """The table of ``--status``."""
    rows = [("job", "state", "epoch", "left", "GB", "last message")]
    rows += [(one.name, one.state, one.progress, one.left, "" if one.memory_gb is None else f"{one.memory_gb:.1f}",
              one.message[:100]) for one in states.values()]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)
