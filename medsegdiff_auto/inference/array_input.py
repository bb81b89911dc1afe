"""Arrays of numpy and images of nibabel as channels that SimpleITK can write."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK as sitk

from medsegdiff_auto.checks.dataset_json import num_channels
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.files.companion_files import FORMATS_WITH_SPACING

AXES = {2: "(y, x) or (C, y, x)", 3: "(z, y, x) or (C, z, y, x)"}
_STORED_AS = {"bool": np.uint8, "float16": np.float32, "int64": np.float64, "uint64": np.float64,
              "longdouble": np.float64, "float128": np.float64}


def channels_of_array(array: np.ndarray, spacing_mm: Sequence[float] | None, dataset_json: dict) -> list[sitk.Image]:
    """The channels of an array, each an image whose first voxel lies at 0.

    Args:
        array: (y, x) or (C, y, x) with two spacings, (z, y, x) or (C, z, y, x) with three; real numbers.
        spacing_mm: in the order of the array's axes; None for formats without spacing (PNG), whose images are 2-D.
        dataset_json: of the model.

    Raises:
        UserError: it is of another shape or type, its spacing is missing or wrong, or its channels are not as many as
            the model's.
    """
    _require_numbers(array)
    spacing_mm = _checked_spacing(spacing_mm, dataset_json["file_ending"])
    num_axes, has_channels = len(spacing_mm), array.ndim == len(spacing_mm) + 1
    if array.ndim not in (num_axes, num_axes + 1) or not array.size:
        raise UserError("The array is no image of this spacing.", found=f"shape {array.shape}, spacing {spacing_mm} mm",
                        expected=f"{AXES[num_axes]}, at least one voxel",
                        fix="give as many spacings as the image has axes, in the order of the array's axes")
    planes, expected = array if has_channels else array[None], num_channels(dataset_json)
    if expected is not None and len(planes) != expected:
        names = ", ".join(map(str, dataset_json["channel_names"].values()))
        raise UserError("The array has another number of channels than the model.",
                        found=f"{len(planes)} channel(s) in the shape {array.shape}",
                        expected=f"{expected} channel(s) ({names}) along the first axis",
                        fix="stack the channels of the training along the first axis")
    stored = planes.astype(_STORED_AS.get(array.dtype.name, array.dtype.newbyteorder("=")), copy=False)
    images = [sitk.GetImageFromArray(np.ascontiguousarray(channel)) for channel in stored]
    for image in images:
        image.SetSpacing(spacing_mm[::-1])
    return images


def nibabel_file(image: nibabel.spatialimages.SpatialImage, file: Path) -> Path:
    """An image of nibabel as a NIfTI file: its numbers, scaled as nibabel scales them, and its own header.

    Raises:
        UserError: its voxels are no real numbers.
    """
    voxels = np.asanyarray(image.dataobj)
    _require_numbers(voxels)
    voxels = voxels.astype(_STORED_AS.get(voxels.dtype.name, voxels.dtype.newbyteorder("=")), copy=False)
    is_nifti = type(image.header) is nibabel.Nifti1Header
    header = image.header.copy() if is_nifti else nibabel.Nifti1Header()
    if not is_nifti and image.affine is not None:
        header.set_sform(image.affine, code=1)
        header.set_qform(image.affine, code=1)
    header.set_data_dtype(voxels.dtype)
    nibabel.save(nibabel.Nifti1Image(voxels, None, header), file)
    return file


def _require_numbers(array: np.ndarray) -> None:
    if isinstance(array, np.ma.MaskedArray):
        raise UserError("The array is masked, and an image has no masked voxels.", found=type(array).__name__,
                        expected="a plain array", fix="fill it, for example with array.filled(0)")
    if array.dtype.kind not in "buif":
        raise UserError("The array does not hold real numbers.", found=f"dtype {array.dtype}",
                        expected="whole numbers or floats", fix="give intensities, for example array.real or "
                        "array.astype(numpy.float32)")


def _checked_spacing(spacing_mm: Sequence[float] | None, file_ending: str) -> tuple[float, ...]:
    if spacing_mm is None and file_ending not in FORMATS_WITH_SPACING:
        return (1.0, 1.0)
    try:
        spacing = tuple(float(one) for one in spacing_mm) if spacing_mm is not None else ()
    except (TypeError, ValueError):
        spacing = ()
    if len(spacing) not in AXES or not all(math.isfinite(one) and one > 0 for one in spacing):
        raise UserError("An array needs its spacing." if spacing_mm is None else "This is no spacing of an array.",
                        found=f"spacing_mm={spacing_mm!r}",
                        expected="two or three positive numbers in mm, in the order of the array's axes (z, y, x)",
                        fix="give spacing_mm=(2.5, 0.8, 0.8), for example")
    return spacing
