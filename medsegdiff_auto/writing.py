"""The one way to write files: each is there completely or not at all, whatever kills the process or fills the disk.

A temporary file lies beside its target and bears host and process in its name; the first write into a folder removes
those of processes that are no more. Free of torch and numpy.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import socket
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

UNFINISHED = ".unfinished"
_PROBE = bytes(1 << 20)


@contextmanager
def atomically(file: str | Path) -> Iterator[Path]:
    """Gives a temporary file beside ``file``, with its ending, that takes its place if the block succeeds.

    Raises:
        OSError: named after ``file``, also where a C++ library failed to write it and says so in words of its own.
    """
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    remove_litter(file.parent)
    unfinished = _unfinished(file)
    try:
        with _failures_named_after(file, unfinished, unfinished):
            yield unfinished
            _sync(unfinished)
            os.replace(unfinished, file)
            _sync(file.parent)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def staged_output(folder: str | Path, last: str | None = None) -> Iterator[Path]:
    """Gives a temporary folder whose files move into ``folder`` if the block succeeds, and vanish if it does not.

    Each file is replaced atomically, so that an interrupted command leaves what was there before. The file named
    ``last`` moves after the others: where it lies, all of them do.

    Raises:
        OSError: named after a file in ``folder``, as in :func:`atomically`.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    remove_litter(folder)
    stage = _unfinished(folder / "stage")
    try:
        with _failures_named_after(folder, stage, stage / "probe"):
            stage.mkdir()
            yield stage
            files = sorted(stage.iterdir(), key=lambda path: (path.name == last, path.name))
            for path in files:
                _sync(path)
            for path in files:
                path.replace(folder / path.name)
            _sync(folder)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def write_text(text: str, file: str | Path) -> None:
    """Writes UTF-8."""
    with atomically(file) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def write_json(content, file: str | Path, **options) -> None:
    """Writes JSON as nnU-Net does, indented by four; ``options`` are those of :func:`json.dumps`."""
    write_text(json.dumps(content, indent=4, ensure_ascii=False, **options) + "\n", file)


def write_table(rows: Sequence[dict], file: str | Path) -> None:
    """Writes CSV that a spreadsheet takes for text and numbers, never for a formula; what a row lacks is left empty."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    with atomically(file) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as table:
        writer = csv.writer(table)
        writer.writerow(map(_defused, columns))
        writer.writerows([_defused(row.get(column, "")) for column in columns] for row in rows)


def read_table(file: str | Path) -> list[dict[str, str]]:
    """Reads what :func:`write_table` wrote, text as it was."""
    with Path(file).open(newline="", encoding="utf-8") as table:
        header, *rows = list(csv.reader(table)) or [[]]
    return [{_as_written(column): _as_written(cell) for column, cell in zip(header, row)} for row in rows]


@lru_cache(maxsize=4096)
def remove_litter(folder: Path) -> None:
    """Removes what processes of this machine that are no more had begun to write into a folder; once a process."""
    for path in folder.glob(f"{UNFINISHED}_*"):
        pid, _, rest = path.name[len(UNFINISHED) + 1:].partition("@")
        if pid.isdigit() and rest.startswith(f"{socket.gethostname()}_") and not _is_running(int(pid)):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def _unfinished(file: Path) -> Path:
    """A hidden name of this process beside a file, no longer than names may be, with the file's ending."""
    checksum = zlib.crc32(os.fsencode(file.name))
    return file.with_name(f"{UNFINISHED}_{os.getpid()}@{socket.gethostname()}_{checksum:08x}_{file.name[-12:]}")


def _is_running(pid: int) -> bool:
    """Whether a process lives; one that was killed and whose parent has not asked for it yet is dead."""
    if os.name != "posix":
        return True  # elsewhere signal 0 would end it
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] != b"Z"
    except OSError:  # no Linux
        return True


def _sync(path: Path) -> None:
    """Waits until a file, or the names in a folder, lie on the disk.

    ITK's NIfTI writer says nothing where it meets a full disk; the byte that is added and taken away again does.
    """
    if path.is_dir():
        if os.name != "posix":
            return
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError:
            pass  # some network file systems cannot: the file itself is safe
        finally:
            os.close(descriptor)
        return
    with path.open("r+b", buffering=0) as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.write(b"x")
        stream.truncate(size)
        os.fsync(stream.fileno())


@contextmanager
def _failures_named_after(target: Path, unfinished: Path, probe: Path) -> Iterator[None]:
    """Gives a failure the name of the target, and its cause where a C++ library did not say it: writing on shows it."""
    try:
        yield
    except (OSError, RuntimeError) as failure:
        cause = failure if isinstance(failure, OSError) else _failure_of_writing_on(probe)
        if cause is None or cause.errno is None:
            raise
        name = str(cause.filename2 or cause.filename or unfinished)
        raise OSError(cause.errno, cause.strerror, name.replace(str(unfinished), str(target), 1)) from failure


def _failure_of_writing_on(probe: Path) -> OSError | None:
    try:
        with probe.open("ab") as stream:
            stream.write(_PROBE)
            os.fsync(stream.fileno())
    except OSError as failure:
        return failure
    return None


def _defused(cell) -> str:
    text = str(cell)
    return f"'{text}" if _is_formula(text) else text


def _as_written(text: str) -> str:
    return text[1:] if text.startswith("'") and _is_formula(text) else text


def _is_formula(text: str) -> bool:
    """Whether a spreadsheet would calculate a cell, or it looks as if it were defused."""
    if not text.lstrip("'").startswith(("=", "+", "-", "@", "\t", "\r")):
        return False
    try:
        float(text)
    except ValueError:
        return True
    return False
