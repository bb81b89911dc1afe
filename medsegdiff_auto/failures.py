"""What the machine refuses a command, in four lines: disk, permissions, memory, worker processes.

Everything else is a mistake of ours, and keeps its traceback.
"""

from __future__ import annotations

import errno
import os
import traceback
from pathlib import Path

from medsegdiff_auto.errors import UserError

_AGAIN = "then give the same command again"
FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_CAUSES = {
    (errno.ENOSPC, errno.EDQUOT): ("free space on its disk", f"make room, or choose another folder, {_AGAIN}"),
    (errno.EFBIG, ): ("a file as large as needed", f"raise the limit (ulimit -f), {_AGAIN}"),
    (errno.EACCES, errno.EPERM, errno.EROFS): ("permission to do so", f"repair its permissions, {_AGAIN}"),
    (errno.EMFILE, errno.ENFILE): ("as many open files as needed", f"raise the limit (ulimit -n), {_AGAIN}"),
    (errno.ENOENT, ): ("a file that stays while the command works", f"see what removed it, {_AGAIN}"),
    (errno.ENOMEM, errno.EAGAIN): ("enough memory and processes", f"end other programs or raise the limits, {_AGAIN}"),
}
_OTHER_CAUSE = ("a disk and a network that answer", f"see what is the matter with it, {_AGAIN}")
_SHARED_MEMORY = ("shared memory", "/dev/shm", "/torch_", "<torch_")
_MEMORY = ("out of memory", "not enough memory", "allocate memory", "failed to allocate", "bad_alloc",
           "can't start new thread", "unable to allocate")
_WORKERS = ("background worker", "dataloader worker", "worker process")
_DEAD_WORKERS = {"BrokenExecutor", "ProcessExitedException"}


def as_user_error(failure: BaseException, at: str = "The command") -> UserError | None:
    """The four lines of a failure that the machine caused; None for a mistake of ours.

    Args:
        at: what it worked on, the first words of a sentence.
    """
    kinds, text = {kind.__name__ for kind in type(failure).__mro__}, str(failure).lower()
    if isinstance(failure, UserError):
        return failure
    if isinstance(failure, OSError) and failure.errno is not None:
        return _of_system(failure, at)
    from_outside = isinstance(failure, RuntimeError)
    if from_outside and any(words in text for words in _SHARED_MEMORY):
        return UserError(f"{at} found too little shared memory.", found=_found(failure),
                         expected="a /dev/shm that holds the batches of all workers",
                         fix=f"give the container more (--shm-size), or set nnUNet_n_proc_DA=1, {_AGAIN}")
    if isinstance(failure, MemoryError) or (from_outside and any(words in text for words in _MEMORY)):
        return UserError(f"{at} found too little memory.", found=_found(failure), expected="memory for its work",
                         fix=f"end other programs, ask for less (--max_memory, --samples, -np), {_AGAIN}")
    if kinds & _DEAD_WORKERS or (from_outside and any(words in text for words in _WORKERS)):
        return UserError(f"{at} lost a worker process.", found=_found(failure),
                         expected="workers that live until their work is done; the system ends them for want of memory",
                         fix=f"see what ended it above or in the system's log, use fewer workers (-np), {_AGAIN}")
    return None


def _of_system(failure: OSError, at: str) -> UserError:
    files = [str(file) for file in (failure.filename2, failure.filename) if isinstance(file, (str, bytes, Path))]
    what = f"{at} cannot read or write {files[0]}." if files else f"{at} was refused by the system."
    expected, fix = next((words for numbers, words in _CAUSES.items() if failure.errno in numbers), _OTHER_CAUSE)
    return UserError(what, found=_found(failure, os.strerror(failure.errno or 0)), expected=expected, fix=fix)


def _found(failure: BaseException, words: str = "") -> str:
    """The cause on one line, and the last of our lines that met it."""
    words = words or next(iter(str(failure).strip().splitlines()), "") or type(failure).__name__
    package = str(Path(__file__).parent)
    ours = [frame for frame in traceback.extract_tb(failure.__traceback__) if frame.filename.startswith(package)]
    place = f" ({Path(ours[-1].filename).relative_to(package)}, line {ours[-1].lineno})" if ours else ""
    return f"{words}{place}"
