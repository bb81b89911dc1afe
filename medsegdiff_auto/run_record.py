"""``run.json``: the commands that made a folder. Free of torch."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.writing import write_json

RUN_FILE = "run.json"


@dataclass(frozen=True)
class Run:
    """What a folder's record says; it may hold more.

    Attributes:
        previous: the commands that made what ``command`` has read.
        made_from: what the predictions of a folder depend on but for the images; empty in records of earlier versions.
        images: case to the checksum of its images.
    """

    command: list[str] = field(default_factory=list)
    previous: list[list[str]] = field(default_factory=list)
    made_from: dict[str, Any] = field(default_factory=dict)
    images: dict[str, str] = field(default_factory=dict)


def command_line(program: str, argv: Sequence[str] | None) -> list[str]:
    """The words that were typed, whether the command was started by a shell (``argv`` is None) or by another program.
    """
    return [program, *(sys.argv[1:] if argv is None else argv)]


def write_run(folder: str | Path, command: Sequence[str], previous: Sequence[Sequence[str]] = (), *,
              file: str = RUN_FILE, **facts) -> None:
    """Leave ``{"command": [...], "previous": [[...], ...]}`` in a folder; ``previous`` made what the command has read.

    ``facts`` are further entries, of types that JSON knows.
    """
    content = {"command": list(command)} | ({"previous": [list(words)
                                                          for words in previous]} if previous else {}) | facts
    write_json(content, Path(folder) / file)


def read_run(folder: str | Path) -> Run | None:
    """The record of a folder; None where there is none.

    Raises:
        UserError: it is damaged.
    """
    file = Path(folder) / RUN_FILE
    if not file.is_file():
        return None
    from medsegdiff_auto.schemas import validated  # every command imports this module before it parses

    try:
        return validated(Run, json.loads(file.read_text(encoding="utf-8")))
    except ValueError as failure:
        raise UserError(f"{file} cannot be read.", found=str(failure), expected="the record that a command leaves",
                        fix="correct the file, or delete it: the origin of the folder is then unknown") from failure


def recorded_commands(folder: str | Path) -> list[list[str]]:
    """The commands that made a folder, oldest first, as far as it says.

    Raises:
        UserError: its record is damaged.
    """
    run = read_run(folder)
    return [] if run is None else [*run.previous, *([run.command] if run.command else [])]
