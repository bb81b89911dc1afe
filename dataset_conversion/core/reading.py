"""Turns what the format libraries raise on a broken file into the reason why one case is left out."""

from __future__ import annotations

import errno
import struct
import zlib
from contextlib import contextmanager
from pathlib import Path
from xml.etree.ElementTree import ParseError

from medsegdiff_auto.dataset_conversion.core.source import CaseProblem
from medsegdiff_auto.files.unreadable import UnreadableScan

FULL_DISK = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def reading(path: Path):
    """Around the reading of ``path``: a broken file becomes a :class:`CaseProblem` that names it.

    A library's own exception types are known by their names, so that this module imports none of the libraries.
    """
    try:
        yield
    except CaseProblem:
        raise
    except UnreadableScan as unreadable:
        raise CaseProblem(str(unreadable)) from unreadable
    except FileNotFoundError as failure:
        raise CaseProblem(f"{path.name} does not exist") from failure
    except (OSError, EOFError, ValueError, RuntimeError, SyntaxError, ParseError, zlib.error, struct.error) as failure:
        raise CaseProblem(f"{path.name} cannot be read: {_first_line(failure)}") from failure
    except Exception as failure:
        if type(failure).__module__.split(".")[0] not in ("nibabel", "PIL", "tifffile", "imageio"):
            raise
        raise CaseProblem(f"{path.name} cannot be read: {_first_line(failure)}") from failure


def _first_line(failure: Exception) -> str:
    lines = [line for line in str(failure).strip().splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(failure).__name__
