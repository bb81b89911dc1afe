"""One process at a time: locks on files, which end with their process and are taken over from one that was killed."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout, UnixFileLock

from medsegdiff_auto.errors import UserError


@contextmanager
def alone(file: Path, busy: str | None = None) -> Iterator[None]:
    """Holds the lock of a file, which nobody else may hold meanwhile; the file exists as long as the lock is held.

    Systems without ``flock`` or a counterpart say so by a warning: there the existence of the file is the lock, and one
    whose process has died is taken over.

    Args:
        busy: a sentence about what the holder of the lock does; None to wait for it.

    Raises:
        UserError: another process holds the lock, and ``busy`` is given.
    """
    lock = FileLock(file)
    try:
        lock.acquire(blocking=busy is None)
    except Timeout as failure:
        raise UserError(f"{busy}.", found=f"{_holder(file)}, which holds {file}", expected="one command at a time",
                        fix="wait until it has ended, or end it") from failure
    try:
        if isinstance(lock, UnixFileLock):
            file.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
        yield
    finally:
        if isinstance(lock, UnixFileLock):
            file.unlink(missing_ok=True)  # while it is held: whoever waits for it notices, and makes a new one
        lock.release()


@contextmanager
def alone_in(folder: Path, busy: str, part: int = 0, num_parts: int = 1) -> Iterator[None]:
    """Holds a folder for one command, or for one part of a work beside its other parts.

    Raises:
        UserError: another command is at work there, the same part, or a part of a work divided otherwise.
    """
    with ExitStack() as held:
        with alone(folder / ".parts.lock"):
            for other in folder.glob(".part_*_of_*.lock"):
                if not other.name.endswith(f"_of_{num_parts}.lock"):
                    with alone(other, busy):
                        pass  # a killed command's
            held.enter_context(alone(folder / f".part_{part}_of_{num_parts}.lock", busy))
        yield


def _holder(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip() or "another process"
    except (OSError, UnicodeDecodeError):
        return "another process"
