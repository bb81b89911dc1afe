"""Pictures without geometry: PNG, TIFF, JPEG and BMP become what nnU-Net's reader of natural images reads."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import imageio.v3 as iio
import numpy as np
from skimage import io

from medsegdiff_auto.dataset_conversion.core.reading import reading
from medsegdiff_auto.dataset_conversion.core.source import CaseProblem
from medsegdiff_auto.files.pictures import UPRIGHT, exif_orientation, is_cut, upright
from medsegdiff_auto.writing import atomically

ENDINGS = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp", ".gif")


@dataclass(frozen=True)
class Picture:
    """Pixels ``(y, x)`` or ``(y, x, 3)``, uint8 or uint16.

    ``file`` is a PNG that holds exactly this, where there is one.
    """

    voxels: np.ndarray
    file: Path | None = None

    voxel_volume_mm3 = None  # the size of a pixel is unknown

    def like(self, voxels: np.ndarray) -> Picture:
        """Other pixels on the same grid."""
        return Picture(voxels)

    def save(self, path: Path) -> None:
        """Writes PNG, without loss."""
        with atomically(path) as temporary:
            if self.file is not None:
                shutil.copyfile(self.file, temporary)
                return
            voxels = self.voxels.astype(np.uint8) if self.voxels.dtype == bool else self.voxels
            iio.imwrite(temporary, voxels, extension=".png")


def read_picture(path: Path) -> Picture:
    """Reads a picture as it is shown: a photograph that is stored turned is turned, an opaque alpha channel is dropped,
    three equal channels are kept.

    Raises:
        CaseProblem: it cannot be read, has several pages or more than 16 bits.
    """
    with reading(path):
        if is_cut(path):
            raise CaseProblem(f"{path.name} cannot be read: it ends early")
        orientation = UPRIGHT if path.suffix.lower() == ".gif" else exif_orientation(path)
        pixels = upright(np.asarray(io.imread(path)), orientation)
    if pixels.size == 0:
        raise CaseProblem(f"{path.name} cannot be read: it holds no picture")
    unchanged = path.suffix.lower() == ".png" and orientation == UPRIGHT
    if pixels.ndim == 3 and pixels.shape[2] in (2, 4):
        if pixels[..., -1].min() != np.iinfo(pixels.dtype).max:
            raise CaseProblem(f"{path.name} is partly transparent")
        pixels, unchanged = pixels[..., 0] if pixels.shape[2] == 2 else pixels[..., :3], False
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels, unchanged = pixels[..., 0], False
    if pixels.dtype == bool:
        pixels, unchanged = pixels.astype(np.uint8), False
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] != 3):
        raise CaseProblem(f"{path.name} is no single picture: its array is {' x '.join(map(str, pixels.shape))}")
    if pixels.dtype not in (np.uint8, np.uint16):
        raise CaseProblem(f"{path.name} has pixels of type {pixels.dtype}, expected 8 or 16 bits")
    return Picture(pixels, path if unchanged else None)
