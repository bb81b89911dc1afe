"""One process at a time: a lock on a file, which ends with its process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout, UnixFileLock

from medsegdiff_auto.errors import UserError


@contextmanager
def alone(file: Path, busy: UserError | None = None) -> Iterator[None]:
    """Holds the lock of a file, which nobody else may hold meanwhile; the file exists as long as the lock is held.

    Systems without ``flock`` or a counterpart say so by a warning: there the existence of the file is the lock, and one
    whose process has died is taken over.

    Raises:
        UserError: another process holds the lock, and ``busy`` is given; without it the process waits.
    """
    lock = FileLock(file)
    try:
        lock.acquire(blocking=busy is None)
    except Timeout as failure:
        raise busy from failure
    try:
        yield
    finally:
        if isinstance(lock, UnixFileLock):
            file.unlink(missing_ok=True)  # while it is held: whoever waits for it notices, and makes a new one
        lock.release()
