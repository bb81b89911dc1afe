"""Photographs that a camera stores turned: a tag says how they are to be shown."""

from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

PICTURE_ENDINGS = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp")
UPRIGHT = 1
_ORIENTATION_TAG = 0x0112
_TURNED = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: pixels[::-1].swapaxes(0, 1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: pixels[:, ::-1].swapaxes(0, 1),
}


def exif_orientation(path: Path) -> int:
    """The orientation that a picture's tags ask for, 1 to 8; 1 is as stored, also where they say nothing."""
    if path.name.lower().endswith(".png") and b"eXIf" not in path.read_bytes():
        return UPRIGHT  # Pillow would decode the whole picture to learn it
    try:
        with Image.open(path) as image:
            orientation = image.getexif().get(_ORIENTATION_TAG, UPRIGHT)
    except UnidentifiedImageError:
        return UPRIGHT  # its reader says what it is
    return orientation if orientation in _TURNED else UPRIGHT


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """The pixels ``(y, x, ...)`` as they are to be shown."""
    return np.ascontiguousarray(_TURNED[orientation](pixels)) if orientation in _TURNED else pixels
