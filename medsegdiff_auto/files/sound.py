"""The one place that says whether a file of an image, label map, mask, prediction or reference is sound.

It asks what the readers keep to themselves: both readers of NIfTI have to see one grid, all voxels have to be there,
one number each, and a photograph has to lie as it is shown.
"""

from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK as sitk

from medsegdiff_auto.files.geometry import MAX_DISPLACEMENT, Geometry
from medsegdiff_auto.files.nifti_file import grid_of, is_nifti, read_header, require_all_voxels
from medsegdiff_auto.files.pictures import PICTURE_ENDINGS, UPRIGHT, exif_orientation, is_cut
from medsegdiff_auto.files.unreadable import COPY_AGAIN, UnreadableScan, not_an_image
from medsegdiff_auto.findings import Finding, list_extents, list_values

SPACING_ROUNDING = 1e-3  # by which a header's two records of a spacing may differ
MAX_COSINE = 1e-4  # between two axes: ITK refuses axes that are not perpendicular
ITK_ENDINGS = (".nii", ".nii.gz", ".nrrd", ".mha", ".gipl")
_GIPL_HEADER_BYTES = 256


@dataclass(frozen=True)
class Stored:
    """What the bytes of a file say.

    Attributes:
        num_nonfinite: NaN and infinite values that a NIfTI file stores.
        header: of a NIfTI file, else None.
        has_grid: whether ITK reads a header with a grid.
    """

    num_nonfinite: int = 0
    header: nibabel.Nifti1Header | None = None
    has_grid: bool = False

    @property
    def grid(self) -> Geometry | None:
        """As nibabel reads it."""
        return None if self.header is None else grid_of(self.header)

    @property
    def is_one_volume(self) -> bool:
        """Whether a NIfTI header says three axes and one number per voxel."""
        return (self.header is not None and self.header["dim"][0] >= 3 and max(self.header["dim"][4:]) <= 1
                and self.header.get_data_dtype().names is None)


def require_sound(path: Path, shown: str, max_axes: int = 3, with_voxels: bool = True) -> int:
    """Checks a file; returns the number of NaN and infinite values that a NIfTI file stores.

    Args:
        shown: the name that messages give to it.
        max_axes: 4 for companions, such as samples, that lie along a last axis.
        with_voxels: whether the file is read to its end; its header is checked in any case.

    Raises:
        UnreadableScan: what :func:`require_whole` finds, or too many axes, several values per voxel, two grids in one
            header, oblique axes.
    """
    stored = require_whole(path, shown, with_voxels)
    require_one_grid(path, shown, stored, max_axes)
    return stored.num_nonfinite


def require_whole(path: Path, shown: str, with_voxels: bool = True) -> Stored:
    """Checks the bytes of a file.

    Raises:
        UnreadableScan: missing, empty, truncated, no image, or a photograph that is stored turned.
    """
    if not path.is_file():
        raise UnreadableScan(Finding(shown, "does not exist", "no such file", "an image file", "put the file there"))
    if path.stat().st_size == 0:
        raise UnreadableScan(Finding(shown, "is empty", "0 bytes", "an image", COPY_AGAIN))
    name = path.name.lower()
    if name.endswith(PICTURE_ENDINGS):
        _require_whole_and_upright(path, shown)
    if not name.endswith(ITK_ENDINGS):
        return Stored()
    header = read_header(path, shown) if is_nifti(path) else None
    num_nonfinite = require_all_voxels(path, header, shown) if header is not None and with_voxels else 0
    return Stored(num_nonfinite, header, has_grid=True)


def require_one_grid(path: Path, shown: str, stored: Stored, max_axes: int = 3) -> None:
    """Checks what ITK reads from the header.

    Raises:
        UnreadableScan: too many axes, several values per voxel, two grids in one header, oblique axes.
    """
    if not stored.has_grid:
        return
    header = sitk.ImageFileReader()
    header.SetFileName(str(path))
    try:
        header.ReadImageInformation()
    except RuntimeError as failure:
        _require_perpendicular(stored.grid, shown)
        raise not_an_image(shown, failure) from None
    if header.GetDimension() > max_axes:
        raise UnreadableScan(
            Finding(shown, f"is {header.GetDimension()}-D", f"an image of {list_extents(header.GetSize())}",
                    "a 2-D or 3-D image, one file per channel",
                    "save each channel or time point as a file of its own (_0000, _0001, ...)"))
    num_components = header.GetNumberOfComponents()
    if num_components > 1:
        kind = {3: " (RGB)", 4: " (RGBA)"}.get(num_components, "")
        raise UnreadableScan(
            Finding(shown, "has several values per voxel", f"{num_components} components{kind}", "one value per voxel",
                    "save each component as a channel of its own (_0000, _0001, ...)"))
    if path.name.lower().endswith(".gipl"):
        _require_gipl_bytes(path, header, shown)
    if header.GetDimension() < 2:
        return
    seen = Geometry.of_itk(header.GetSize()[:3], header.GetSpacing(), header.GetOrigin(), header.GetDirection())
    require_grid(seen, stored, shown)


def require_grid(seen: Geometry, stored: Stored, shown: str) -> None:
    """Compares the grid that ITK has read with what is stored.

    Raises:
        UnreadableScan: two grids in one header, oblique axes.
    """
    grid = stored.grid
    if grid is not None:
        _require_same_grid(seen, grid, shown)
    _require_perpendicular(seen, shown)


def _require_same_grid(seen: Geometry, stored: Geometry, shown: str) -> None:
    _require_perpendicular(stored, shown)
    extended = np.array(seen.size) > 1
    rounding = np.allclose(np.array(seen.spacing_mm)[extended], np.array(stored.spacing_mm)[extended],
                           rtol=SPACING_ROUNDING)
    displaced = len(seen.size) == 3 and not seen.displacement_mm(stored) <= MAX_DISPLACEMENT * min(seen.spacing_mm)
    if rounding and not displaced:
        return
    found = (f"spacing {list_values(seen.spacing_mm)} and {list_values(stored.spacing_mm)} mm" if not rounding else
             f"origin {list_values(seen.origin_mm())} and {list_values(stored.origin_mm())} mm" if not np.allclose(
                 seen.origin_mm(), stored.origin_mm()) else "two directions of the axes")
    raise UnreadableScan(
        Finding(shown, "has a header that says two geometries", f"{found}, by ITK and nibabel",
                "one geometry: sform, qform and pixdim that agree", "save the file again with its true geometry"))


def _require_perpendicular(grid: Geometry | None, shown: str) -> None:
    if grid is None or len(grid.size) < 3:
        return  # a 2-D image may lie obliquely in space
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine = grid.cosine_of_axes()
    if not cosine <= MAX_COSINE:
        raise UnreadableScan(
            Finding(shown, "has axes that are not perpendicular", f"a cosine of {cosine:.2g} between two axes",
                    "perpendicular axes, the only ones that nnU-Net reads", "resample it on a straight grid"))


def _require_gipl_bytes(path: Path, header: sitk.ImageFileReader, shown: str) -> None:
    voxel = sitk.Image([1] * header.GetDimension(), header.GetPixelID())
    needed = int(np.prod(header.GetSize())) * voxel.GetSizeOfPixelComponent()
    found = path.stat().st_size - _GIPL_HEADER_BYTES
    if found < needed:
        raise UnreadableScan(
            Finding(shown, "is truncated", f"{found} bytes of voxels", f"{needed} bytes, as its header says",
                    COPY_AGAIN))


def _require_whole_and_upright(path: Path, shown: str) -> None:
    if is_cut(path):
        raise UnreadableScan(
            Finding(shown, "is truncated", f"a picture that ends early, after {path.stat().st_size} bytes",
                    "a complete file", COPY_AGAIN))
    try:
        orientation = exif_orientation(path)
    except (OSError, SyntaxError, ValueError) as failure:
        raise not_an_image(shown, failure) from None
    if orientation != UPRIGHT:
        raise UnreadableScan(
            Finding(shown, "is stored turned or mirrored", f"EXIF orientation {orientation}",
                    "pixels that lie as they are shown (orientation 1)",
                    "save it upright: nnU-Net reads the pixels as they are stored"))
