"""What a file or a folder was made from: a record beside it, written last. Free of torch.

    FOLDER/made_from/NAME.json    of FOLDER/NAME: {"finished": true, what it was made from, as checksums or names}

While it is being made, and after a kill, its record says ``"finished": false``. Earlier versions and nnU-Net's own
commands leave no record.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.writing import write_json

RECORDS, FINISHED = "made_from", "finished"
NUM_NAMED = 3


def checksum(file: str | Path) -> str:
    """SHA-256 of a file."""
    digest = hashlib.sha256()
    with Path(file).open("rb") as content:
        while block := content.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def checksum_of(value: Any) -> str:
    """SHA-256 of a value that JSON knows, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def record_file(made: Path) -> Path:
    """Where the record of a file or folder lies."""
    return made.parent / RECORDS / f"{made.name}.json"


def read_record(made: Path) -> dict | None:
    """What a file or folder was made from; None where nothing is recorded.

    Raises:
        UserError: the record is damaged.
    """
    file = record_file(made)
    if not file.is_file():
        return None
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(record, dict) or not isinstance(record.get(FINISHED), bool):
            raise ValueError(f"no object with the key {FINISHED}")
    except ValueError as failure:
        raise UserError(f"The record of what {made} was made from is damaged.", found=f"{file}: {failure}",
                        expected=f"an object with the key {FINISHED}",
                        fix=f"delete {file}; {made.name} is then used as if nothing were recorded") from failure
    return record


@contextmanager
def recorded(made: Path, **made_from: Any) -> Iterator[None]:
    """Records what a file or folder is made from: unfinished while the block runs or if it fails, else finished."""
    _write(made, {FINISHED: False} | made_from)
    yield
    _write(made, {FINISHED: True} | made_from)


def differences(now: dict[str, str], before: dict[str, str]) -> str:
    """``2 added (a, b), 1 removed (c), 1 changed (d)``: names whose checksums differ; empty where none does."""
    groups = {"added": sorted(now.keys() - before.keys()), "removed": sorted(before.keys() - now.keys()),
              "changed": sorted(name for name in now.keys() & before.keys() if now[name] != before[name])}
    return ", ".join(f"{len(names)} {what} ({some(names)})" for what, names in groups.items() if names)


def some(names: Sequence[str]) -> str:
    """The first names of many."""
    return ", ".join(names[:NUM_NAMED]) + (", ..." if len(names) > NUM_NAMED else "")


def _write(made: Path, record: dict) -> None:
    record_file(made).parent.mkdir(parents=True, exist_ok=True)
    write_json(record, record_file(made))
