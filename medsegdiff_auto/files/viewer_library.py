"""The libraries behind the formats of viewers, which not every installation has."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from medsegdiff_auto.errors import UserError

LIBRARY_OF = {"dicom-seg": "highdicom", "seg.nrrd": "slicerio", "itk-snap": None}
"""Output formats for viewers, and the library that writes each."""


def require_library(output_format: str) -> ModuleType | None:
    """The library that writes a format; None where none is needed.

    Raises:
        UserError: it is not installed.
    """
    name = LIBRARY_OF[output_format]
    try:
        return import_module(name) if name else None
    except ImportError as failure:
        raise UserError(f"The output format {output_format} needs a library that is not installed.",
                        found=f"no {name}", expected=f"{name}",
                        fix='pip install "medsegdiff-auto[viewer]"') from failure
