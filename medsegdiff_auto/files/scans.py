"""Reading one image or label file, or saying why it cannot be read.

The files are read by nnU-Net's own reader of their file ending. What that reader accepts in silence is looked for
beside
it: a gzip stream that ends early and NaN in NIfTI, both of which ITK turns into zeros, and a 4-D file.
"""

import dataclasses
import gzip
import itertools
import zlib
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK as sitk

from medsegdiff_auto.findings import Finding, list_extents
from medsegdiff_auto.nnunet.properties import header_of, spacing_of
from medsegdiff_auto.nnunet.readers import BaseReaderWriter

_GZIP_CHUNK_BYTES = 1 << 22
_ITK_FILE_ENDINGS = (".nii", ".nii.gz", ".nrrd", ".mha", ".gipl")


class UnreadableScan(Exception):
    """A file that cannot be read as an image; ``finding`` says why."""

    def __init__(self, finding: Finding):
        super().__init__(f"{finding.file} {finding.check}")
        self.finding = finding


@dataclasses.dataclass(frozen=True)
class Geometry:
    """The voxel grid of a file: ``size`` in voxels and ``spacing_mm`` in the order x, y, z; ``affine`` maps indices to
    mm.

    ``affine`` is None for formats that know of no position (PNG, TIFF).
    """

    size: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    affine: np.ndarray | None

    def origin_mm(self) -> tuple[float, ...]:
        """The position of the first voxel's centre."""
        return tuple(self.affine[:-1, -1])

    def direction(self) -> tuple[float, ...]:
        """The direction cosines, row by row."""
        return tuple((self.affine[:-1, :-1] / np.asarray(self.spacing_mm)).ravel())

    def displacement_mm(self, other: "Geometry") -> float:
        """The largest distance between the positions that two grids of one size give to the same corner voxel."""
        corners = np.array(list(itertools.product(*[(0, extent - 1) for extent in self.size], (1,))))
        return float(np.linalg.norm((corners @ (self.affine - other.affine).T)[:, :-1], axis=1).max())


@dataclasses.dataclass(frozen=True)
class Scan:
    """One file as read: ``voxels`` ``(C, Z, Y, X)`` float32 (``Z`` is 1 in 2-D) on the grid ``geometry``.

    ``num_nonfinite`` counts the NaN and infinite values of the file, which ``voxels`` need not show.
    """

    voxels: np.ndarray
    geometry: Geometry
    num_nonfinite: int


def read_scan(path: Path, reader: BaseReaderWriter, shown: str) -> Scan:
    """Read one file with nnU-Net's ``reader``; ``shown`` is the name that findings give to it.

    Raises:
        UnreadableScan: missing, empty, truncated, not an image, more than three dimensions, or several values per
        voxel.
    """
    _require_complete(path, shown)
    if path.name.endswith(_ITK_FILE_ENDINGS):
        _require_at_most_3d(path, shown)
    try:
        voxels, properties = reader.read_images((str(path),))
    except Exception as failure:  # every reader has exceptions of its own
        raise UnreadableScan(_not_an_image(shown, failure)) from failure
    num_nonfinite = _count_nonfinite_of_nifti(path) if path.name.endswith(
        (".nii", ".nii.gz")) else _count_nonfinite(voxels)
    return Scan(voxels, _geometry(voxels, properties), num_nonfinite)


def _require_complete(path: Path, shown: str) -> None:
    if not path.is_file():
        raise UnreadableScan(Finding(shown, "does not exist", "no such file", "an image file", "put the file there"))
    if path.stat().st_size == 0:
        raise UnreadableScan(Finding(shown, "is empty", "0 bytes", "an image", "copy or convert the file again"))
    if _is_gzip(path):
        _require_complete_gzip(path, shown)


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _require_complete_gzip(path: Path, shown: str) -> None:
    try:
        with gzip.open(path) as stream:
            while stream.read(_GZIP_CHUNK_BYTES):
                continue
    except EOFError:
        raise UnreadableScan(
            Finding(shown, "is truncated", f"a gzip stream that ends early, after {path.stat().st_size} bytes",
                    "a complete file", "copy or convert the file again")) from None
    except (OSError, zlib.error) as failure:
        raise UnreadableScan(Finding(shown, "is damaged", _one_line(failure), "an intact gzip stream",
                                     "copy or convert the file again")) from None


def _require_at_most_3d(path: Path, shown: str) -> None:
    header = sitk.ImageFileReader()
    header.SetFileName(str(path))
    try:
        header.ReadImageInformation()
    except RuntimeError as failure:
        raise UnreadableScan(_not_an_image(shown, failure)) from None
    if header.GetDimension() > 3:
        raise UnreadableScan(
            Finding(shown, f"is {header.GetDimension()}-D", f"an image of {list_extents(header.GetSize())}",
                    "a 2-D or 3-D image, one file per channel",
                    "save each channel or time point as a file of its own (_0000, _0001, ...)"))
    if header.GetNumberOfComponents() > 1:
        raise UnreadableScan(
            Finding(shown, "has several values per voxel", f"{header.GetNumberOfComponents()} components",
                    "one value per voxel", "save each component as a channel of its own (_0000, _0001, ...)"))


def _geometry(voxels: np.ndarray, properties: dict) -> Geometry:
    header, size = header_of(properties), voxels.shape[:0:-1]
    if header.itk is not None:
        spacing_mm, origin_mm, direction = header.itk
        num_axes = len(spacing_mm)
        affine = np.eye(num_axes + 1)
        affine[:-1, :-1] = np.reshape(direction, (num_axes, num_axes)) * np.asarray(spacing_mm)
        affine[:-1, -1] = origin_mm
        return Geometry(size[:num_axes], spacing_mm, affine)
    spacing_mm = tuple(spacing_of(properties))[::-1]
    num_axes = 2 if header.affine is None and size[2] == 1 else 3
    return Geometry(size[:num_axes], spacing_mm[:num_axes], header.affine)


def _count_nonfinite(values: np.ndarray) -> int:
    return int(np.count_nonzero(~np.isfinite(values)))


def _count_nonfinite_of_nifti(path: Path) -> int:
    file = nibabel.load(path)
    if not np.issubdtype(file.get_data_dtype(), np.inexact):
        return 0
    return _count_nonfinite(np.asanyarray(file.dataobj.get_unscaled()))


def _not_an_image(shown: str, failure: Exception) -> Finding:
    return Finding(shown, "cannot be read as an image", _one_line(failure), "an image of the dataset's file ending",
                   "copy or convert the file again")


def _one_line(failure: Exception) -> str:
    lines = [line.strip() for line in str(failure).splitlines() if line.strip()]
    return (lines[-1] if lines else type(failure).__name__)[:200]
