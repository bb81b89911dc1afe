"""Pictures with the number of channels that a dataset promises: photographs in colour, masks in grey."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medsegdiff_auto.dataset_conversion.core.labels import foreground_of_grey
from medsegdiff_auto.dataset_conversion.core.picture import Picture, read_picture
from medsegdiff_auto.dataset_conversion.core.source import CaseProblem

RGB = ["R", "G", "B"]
ROUNDING = 2  # grey levels by which a JPEG's channels may differ where the picture is grey


def read_rgb(path: Path) -> Picture:
    """A picture of three channels; a grey one is repeated, so that all cases of a dataset agree.

    Raises:
        CaseProblem: it cannot be read.
    """
    picture = read_picture(path)
    return picture if picture.voxels.ndim == 3 else picture.like(np.repeat(picture.voxels[..., None], 3, axis=2))


def read_grey(path: Path) -> np.ndarray:
    """The pixels of a mask ``(y, x)``; three channels that are equal count as one.

    Raises:
        CaseProblem: it cannot be read, or is coloured.
    """
    pixels = read_picture(path).voxels
    if pixels.ndim == 2:
        return pixels
    difference = int(np.ptp(pixels.astype(np.int32), axis=2).max(initial=0))
    if difference > ROUNDING:
        raise CaseProblem(f"{path.name} is coloured (channels differ by {difference}), expected a grey mask")
    return pixels[..., 0]


def read_foreground(path: Path) -> np.ndarray:
    """Where the grey mask of one structure is set, bool ``(y, x)``.

    Raises:
        CaseProblem: it cannot be read, is coloured, or does not show its structure.
    """
    return foreground_of_grey(read_grey(path), path.name)
