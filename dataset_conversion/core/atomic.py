"""Files that are there completely or not at all."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomically(path: Path):
    """Gives the name of a temporary file beside ``path`` that takes its place when the block ends without an exception.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(content, path: Path) -> None:
    """Writes JSON as nnU-Net does, indented by four."""
    with atomically(path) as temporary:
        temporary.write_text(json.dumps(content, indent=4, ensure_ascii=False) + "\n", encoding="utf-8")
