"""``run.json``: the commands that made a folder. Free of torch."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from medsegdiff_auto.writing import write_json

RUN_FILE = "run.json"


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


def recorded_commands(folder: str | Path) -> list[list[str]]:
    """The commands that made a folder, oldest first, as far as it says."""
    try:
        content = json.loads((Path(folder) / RUN_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [*content.get("previous", []), *([content["command"]] if "command" in content else [])]
