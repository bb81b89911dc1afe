"""Arrays of an ``.npz`` file, without the pickles that such a file may hold."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from medsegdiff_auto.errors import UserError

_DAMAGE = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error)


def read_arrays(file: Path, *names: str) -> list[np.ndarray]:
    """The named arrays of a file, in this order.

    Raises:
        UserError: the file is missing or damaged, lacks one, or holds objects, which would run when loaded.
    """
    try:
        with np.load(file, allow_pickle=False) as stored:
            return [stored[name] for name in names]
    except _DAMAGE as failure:
        found = str(failure).replace("set allow_pickle=True to load", "which would run").splitlines()
        raise UserError(f"{file} cannot be read.", found=f"{type(failure).__name__}: {found[0] if found else ''}"[:200],
                        expected=f"arrays of numbers named {', '.join(names)}",
                        fix="make the file again; nothing of it was run") from failure
