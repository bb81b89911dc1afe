"""Pictures as their bytes say: whether they are whole, and how a photograph that a camera stores turned is shown."""

import struct
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


def is_cut(path: Path) -> bool:
    """Whether a PNG lacks its last chunk, or a TIFF one of its pages; their readers give back what is left."""
    name = path.name.lower()
    if name.endswith(".png"):
        content = path.read_bytes()
        return content.startswith(b"\x89PNG") and b"IEND" not in content
    return name.endswith((".tif", ".tiff")) and _lacks_a_page(path)


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


def _lacks_a_page(path: Path) -> bool:
    """Follows the pages of a TIFF, each of which says where the next one lies; 0 after the last."""
    with path.open("rb") as file:
        start = file.read(16)
        if start[:2] not in (b"II", b"MM"):
            return False  # its reader says what it is
        order = "<" if start[:2] == b"II" else ">"
        is_big = start[2:4] in (b"+\0", b"\0+")
        count, pointer, entry_bytes = ("Q", "Q", 20) if is_big else ("H", "I", 12)
        try:
            place, = struct.unpack_from(order + pointer, start, 8 if is_big else 4)
            while place:
                file.seek(place)
                num_entries, = struct.unpack(order + count, file.read(struct.calcsize(count)))
                file.seek(num_entries * entry_bytes, 1)
                place, = struct.unpack(order + pointer, file.read(struct.calcsize(pointer)))
        except struct.error:
            return True
    return False
