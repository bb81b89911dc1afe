"""Reading one image or label file with its grid, or saying why it cannot be read.

The files are read by nnU-Net's own reader of their file ending. What that reader accepts in silence is looked for
before, in :mod:`~medsegdiff_auto.files.sound`.
"""

import dataclasses
from pathlib import Path

import numpy as np

from medsegdiff_auto.files.geometry import Geometry
from medsegdiff_auto.files.sound import require_grid, require_one_grid, require_whole
from medsegdiff_auto.files.unreadable import UnreadableScan, not_an_image
from medsegdiff_auto.nnunet.properties import header_of, spacing_of
from medsegdiff_auto.nnunet.readers import BaseReaderWriter, reads_by_itk

__all__ = ["Geometry", "Scan", "UnreadableScan", "count_nonfinite", "is_whole_scan", "read_scan"]


@dataclasses.dataclass(frozen=True)
class Scan:
    """One file as read: ``voxels`` ``(C, Z, Y, X)`` (``Z`` is 1 in 2-D) on the grid ``geometry``.

    ``num_nonfinite`` counts the NaN and infinite values of the file, which ``voxels`` need not show.
    """

    voxels: np.ndarray
    geometry: Geometry
    num_nonfinite: int


def read_scan(path: Path, reader: BaseReaderWriter, shown: str, is_label: bool = False) -> Scan:
    """Read one file with nnU-Net's ``reader``; ``shown`` is the name that findings give to it.

    Raises:
        UnreadableScan: what :func:`require_sound` finds, or the reader cannot read it.
    """
    stored = require_whole(path, shown)
    is_read_by_itk = stored.is_one_volume and reads_by_itk(reader)  # reads the header once, not twice
    if not is_read_by_itk:
        require_one_grid(path, shown, stored)
    try:
        voxels, properties = reader.read_seg(str(path)) if is_label else reader.read_images((str(path),))
        geometry = _geometry(voxels, properties)
    except Exception as failure:  # every reader has exceptions of its own
        require_one_grid(path, shown, stored)
        raise not_an_image(shown, failure) from failure
    if is_read_by_itk:
        require_grid(geometry, stored, shown)
    return Scan(voxels, geometry, stored.num_nonfinite or count_nonfinite(voxels))


def is_whole_scan(path: Path, reader: BaseReaderWriter) -> bool:
    """Whether a file can be read to its end."""
    try:
        read_scan(path, reader, path.name)
    except UnreadableScan:
        return False
    return True


def count_nonfinite(voxels: np.ndarray) -> int:
    """The number of NaN and infinite values."""
    return int(np.count_nonzero(~np.isfinite(voxels))) if voxels.dtype.kind == "f" else 0


def _geometry(voxels: np.ndarray, properties: dict) -> Geometry:
    header, size = header_of(properties), voxels.shape[:0:-1]
    if header.itk is not None:
        return Geometry.of_itk(size[:len(header.itk[0])], *header.itk)
    spacing_mm = tuple(spacing_of(properties))[::-1]
    num_axes = 2 if header.affine is None and size[2] == 1 else 3
    return Geometry(size[:num_axes], spacing_mm[:num_axes], header.affine)
