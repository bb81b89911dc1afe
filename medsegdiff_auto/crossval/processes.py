"""Processes of jobs: how a command is started, what holds a job, and what a process takes. For Linux and its kin."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

PROC = Path("/proc")


def program(command: str, words: Iterable[str]) -> list[str]:
    """The words that start ``medsegdiff_COMMAND`` with the Python of this process."""
    return [sys.executable, "-m", "medsegdiff_auto.cli", command, *words]


def completed(command: str, words: Iterable[str]) -> int:
    """Exit code of ``medsegdiff_COMMAND``, which says what it has to say here."""
    return subprocess.run(program(command, words)).returncode


def held(file: Path) -> int | None:
    """Takes hold of a job by its file: a descriptor to be handed to its process, with which the hold ends, whatever
    becomes of this one. None where another process holds it.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT)
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def is_held(file: Path) -> bool:
    """Whether a process holds a job."""
    if not file.is_file():
        return False
    descriptor = held(file)
    if descriptor is None:
        return True
    os.close(descriptor)
    return False


def holder(file: Path) -> int | None:
    """Number of the process that a job was given to, as its file says."""
    text = file.read_text(encoding="utf-8").strip() if file.is_file() else ""
    return int(text) if text.isdecimal() else None


def resident_gb(process: int) -> float | None:
    """Memory of a process and all that it has started, in 1e9 bytes; None where the system does not tell."""
    kilobytes = [found for one in _family(process) if (found := _resident_kb(one)) is not None]
    return sum(kilobytes) * 1024 / 1e9 if kilobytes else None


def _family(process: int) -> Iterator[int]:
    yield process
    for file in (PROC / str(process) / "task").glob("*/children"):
        try:
            children = file.read_text(encoding="utf-8").split()
        except OSError:
            continue
        for child in children:
            yield from _family(int(child))


def _resident_kb(process: int) -> int | None:
    try:
        lines = (PROC / str(process) / "status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("VmRSS:")), None)
