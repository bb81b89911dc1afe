"""Reading the files of a prediction folder as arrays `(z, y, x)` or `(y, x)`, with the unit in which sizes are given.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.decision.sizes import size_column, size_of_voxel

IMAGES_WITHOUT_SPACING = (".png", ".bmp", ".tif", ".tiff", ".jpg", ".jpeg")


@dataclass(frozen=True)
class Grid:
    """The grid of a case: ``spacing_mm`` one value per array axis, 1 for images without a spacing (unit: pixels)."""

    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    has_spacing: bool

    @property
    def size_column(self) -> str:
        """The name of a size in tables, as in ``cases.csv``: ``volume_ml``, ``area_mm2`` or ``area_px``."""
        return size_column(len(self.shape), self.has_spacing)

    @property
    def size_of_voxel(self) -> float:
        """The size of one voxel in the unit of :attr:`size_column`."""
        return size_of_voxel(self.size_column, float(np.prod(self.spacing_mm)))


def read_array(path: Path) -> tuple[np.ndarray, Grid]:
    """The values of a label map or image file and its grid; a medical image keeps its dimension, 2-D or 3-D."""
    if path.name.lower().endswith(IMAGES_WITHOUT_SPACING):
        from skimage import io

        array = io.imread(path)
        return array, Grid(array.shape, (1.0,) * array.ndim, has_spacing=False)
    image = _read_itk(path)
    array = _itk_array(image)
    return array, Grid(array.shape, tuple(abs(s) for s in image.GetSpacing()[::-1]), has_spacing=True)


def read_channels(path: Path, grid: Grid) -> np.ndarray:
    """The companion of a case with channels, samples or classes on its last image axis: `(channels, *grid.shape)`.

    Raises:
        UserError: the file does not lie on the grid of the case.
    """
    array = _itk_array(_read_itk(path))
    if array.shape[1:] != grid.shape:
        raise _other_grid(path, array.shape[1:], grid)
    return array


def read_map(path: Path, grid: Grid) -> np.ndarray:
    """The companion of a case with one value per voxel, such as its uncertainty: `grid.shape`."""
    array = _itk_array(_read_itk(path))
    if array.shape != grid.shape:
        raise _other_grid(path, array.shape, grid)
    return array


def read_posterior(path: Path, grid: Grid) -> np.ndarray:
    """The known P(label | image) of a phantom: float32 `(num_labels, *grid.shape)`, background first."""
    with np.load(path, allow_pickle=False) as stored:
        array = stored["probabilities"].astype(np.float32)
    if array.shape[1:] != grid.shape:
        raise _other_grid(path, array.shape[1:], grid)
    return array


def companion(prediction: Path, file_ending: str, kind: str) -> Path | None:
    """The file ``CASE_<kind>.nii.gz`` beside a prediction, or None where it was not saved."""
    path = prediction.with_name(f"{prediction.name[:-len(file_ending)]}_{kind}.nii.gz")
    return path if path.is_file() else None


def require_same_shape(path: Path, shape: tuple[int, ...], grid: Grid) -> None:
    """Raise a UserError unless the label map of ``path`` has the shape of the reference's grid."""
    if shape != grid.shape:
        raise _other_grid(path, shape, grid)


def _itk_array(image) -> np.ndarray:
    import SimpleITK as sitk

    return sitk.GetArrayFromImage(image)


def _read_itk(path: Path):
    import SimpleITK as sitk

    try:
        return sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise UserError(f"{path} cannot be read.", found=str(error).strip().splitlines()[-1],
                        expected="a complete medical image", fix="write the file again") from error


def _other_grid(path: Path, shape: tuple[int, ...], grid: Grid) -> UserError:
    return UserError(f"{path} does not lie on the grid of its case.", found=f"shape {shape}",
                     expected=f"shape {grid.shape} (array axes)", fix="predict the case again, or correct the file")
