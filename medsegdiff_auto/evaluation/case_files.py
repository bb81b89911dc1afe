"""Reading the files of a prediction folder as arrays `(z, y, x)` or `(y, x)`, with the unit in which sizes are given.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from medsegdiff_auto.checks.dataset_json import label_names
from medsegdiff_auto.checks.scan_findings import geometry_findings, label_findings, label_values, nonfinite_findings
from medsegdiff_auto.decision.sizes import size_column, size_of_voxel
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.files.arrays import read_arrays
from medsegdiff_auto.files.geometry import Geometry
from medsegdiff_auto.files.pictures import PICTURE_ENDINGS
from medsegdiff_auto.files.scans import Scan, count_nonfinite
from medsegdiff_auto.files.sound import require_sound
from medsegdiff_auto.files.unreadable import UnreadableScan, not_an_image
from medsegdiff_auto.findings import Finding, errors_among


@dataclass(frozen=True)
class Grid:
    """The grid of a case: ``spacing_mm`` one value per array axis, 1 for images without a spacing (unit: pixels).

    ``geometry`` is None where nothing is known of its position.
    """

    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    has_spacing: bool
    geometry: Geometry | None = field(default=None, compare=False)

    @property
    def size_column(self) -> str:
        """The name of a size in tables, as in ``cases.csv``: ``volume_ml``, ``area_mm2`` or ``area_px``."""
        return size_column(len(self.shape), self.has_spacing)

    @property
    def size_of_voxel(self) -> float:
        """The size of one voxel in the unit of :attr:`size_column`."""
        return size_of_voxel(self.size_column, float(np.prod(self.spacing_mm)))


def read_array(path: Path) -> tuple[np.ndarray, Grid]:
    """The values of a label map or image file and its grid; a medical image keeps its dimension, 2-D or 3-D.

    Raises:
        UserError: the file is not sound.
    """
    if not path.name.lower().endswith(PICTURE_ENDINGS):
        return _read_itk(path, max_axes=3)
    from skimage import io

    try:
        require_sound(path, str(path))
        array = io.imread(path)
    except UnreadableScan as unreadable:
        raise unreadable.finding.as_user_error() from None
    except Exception as failure:  # every reader of pictures has exceptions of its own
        raise not_an_image(str(path), failure).finding.as_user_error() from failure
    return array, Grid(array.shape, (1.0,) * array.ndim, has_spacing=False)


def read_label_map(path: Path, dataset_json: dict,
                   reference: tuple[Path, Grid] | None = None) -> tuple[np.ndarray, Grid]:
    """A label map with values that the dataset lists, on the grid of the ``reference`` where that is given.

    Raises:
        UserError: the file is not sound, holds other values, or lies elsewhere.
    """
    array, grid = read_array(path)
    if reference is not None:
        _require_same_grid(path, grid, *reference)
    is_colour = array.ndim == 3 and not grid.has_spacing and array.shape[-1] in (3, 4)
    scan = Scan(np.moveaxis(array, -1, 0) if is_colour else array[None], grid.geometry, num_nonfinite=0)
    _raise_first(label_findings(scan, label_values(array), str(path), label_names(dataset_json)))
    return array, grid


def read_channels(path: Path, grid: Grid) -> np.ndarray:
    """The companion of a case with channels, samples or classes on its last image axis: `(channels, *grid.shape)`.

    Raises:
        UserError: the file is not sound, or does not lie on the grid of the case.
    """
    array, found = _read_itk(path, max_axes=4, num_axes=len(grid.shape))
    if array.shape[1:] != grid.shape:
        raise _other_grid(path, array.shape[1:], grid)
    _require_same_place(path, found, Path("its label map"), grid)
    return array


def read_map(path: Path, grid: Grid) -> np.ndarray:
    """The companion of a case with one value per voxel, such as its uncertainty: `grid.shape`."""
    array, found = _read_itk(path, max_axes=3)
    if array.shape != grid.shape:
        raise _other_grid(path, array.shape, grid)
    _require_same_place(path, found, Path("its label map"), grid)
    return array


def read_npz(path: Path, grid: Grid) -> np.ndarray:
    """nnU-Net's probabilities ``CASE.npz``: float32 `(channels, *grid.shape)`; 2-D images have one slice there.

    Raises:
        UserError: the file is damaged, holds values that are no probabilities, or does not lie on the grid of the case.
    """
    try:
        array = read_arrays(path, "probabilities")[0].astype(np.float32, copy=False)
    except UserError as failure:
        raise UserError(f"{path} holds no probabilities.", found=failure.found,
                        expected="an array named probabilities",
                        fix="predict the case again with --save_probabilities") from failure
    if array.ndim == len(grid.shape) + 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.shape[1:] != grid.shape:
        raise _other_grid(path, array.shape[1:], grid)
    _raise_first(nonfinite_findings(count_nonfinite(array), array.size, str(path)))
    return array


def read_posterior(path: Path, grid: Grid) -> np.ndarray:
    """The known P(label | image) of a phantom: float32 `(num_labels, *grid.shape)`, background first."""
    array = read_arrays(path, "probabilities")[0].astype(np.float32)
    if array.shape[1:] != grid.shape:
        raise _other_grid(path, array.shape[1:], grid)
    return array


def companion(prediction: Path, file_ending: str, kind: str) -> Path | None:
    """The file ``CASE_<kind>.nii.gz`` beside a prediction, or None where it was not saved."""
    path = prediction.with_name(f"{prediction.name[:-len(file_ending)]}_{kind}.nii.gz")
    return path if path.is_file() else None


def _read_itk(path: Path, max_axes: int, num_axes: int | None = None) -> tuple[np.ndarray, Grid]:
    """The values, and the grid of the first ``num_axes`` axes, by default of all."""
    import SimpleITK as sitk

    try:
        num_nonfinite = require_sound(path, str(path), max_axes)
        image = sitk.ReadImage(str(path))
    except UnreadableScan as unreadable:
        raise unreadable.finding.as_user_error() from None
    except RuntimeError as failure:
        raise not_an_image(str(path), failure).finding.as_user_error() from failure
    array = sitk.GetArrayFromImage(image)
    _raise_first(nonfinite_findings(num_nonfinite or count_nonfinite(array), array.size, str(path)))
    geometry = Geometry.of_itk(image.GetSize()[:num_axes], image.GetSpacing(), image.GetOrigin(), image.GetDirection())
    return array, Grid(array.shape, tuple(abs(s) for s in image.GetSpacing()[::-1]), True, geometry)


def _require_same_grid(path: Path, grid: Grid, reference: Path, other: Grid) -> None:
    if grid.shape != other.shape:
        raise _other_grid(path, grid.shape, other)
    _require_same_place(path, grid, reference, other)


def _require_same_place(path: Path, grid: Grid, reference: Path, other: Grid) -> None:
    if grid.geometry is not None and other.geometry is not None:
        _raise_first(geometry_findings(grid.geometry, str(path), other.geometry, str(reference)))


def _raise_first(findings: list[Finding]) -> None:
    for finding in errors_among(findings)[:1]:
        raise finding.as_user_error()


def _other_grid(path: Path, shape: tuple[int, ...], grid: Grid) -> UserError:
    return UserError(f"{path} does not lie on the grid of its case.", found=f"shape {shape}",
                     expected=f"shape {grid.shape} (array axes)", fix="predict the case again, or correct the file")
