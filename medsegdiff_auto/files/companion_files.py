"""Maps beside a label map, written one volume after another: NIfTI with its geometry, and the npz that nnU-Net reads.
"""

from __future__ import annotations

import gzip
import zipfile
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from collections.abc import Iterable

import nibabel
import numpy as np
import SimpleITK as sitk

from medsegdiff_auto.files.nifti_geometry import NIFTI_ENDINGS

FORMATS_WITH_SPACING = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd")
FASTEST = 1  # of zlib: probabilities hardly become smaller, and waiting is worse


def write_volumes(volumes: Iterable[np.ndarray], num_volumes: int | None, label_file: Path, file: Path) -> None:
    """Writes maps (z, y, x) with the geometry of the label file, several along a last axis.

    Images of one slice are written in 2-D. Formats without spacing (PNG) give maps of unit spacing.

    Args:
        num_volumes: None for one map without a last axis.
        file: .nii.gz
    """
    volumes = iter(volumes)
    first = next(volumes)
    header = _header_of(label_file)
    num_axes = int(header["dim"][0])
    size, steps = first.shape[::-1][:num_axes], header["pixdim"].copy()
    header.set_data_dtype(first.dtype.newbyteorder(header.endianness))
    header.set_data_shape(size if num_volumes is None else (*size, num_volumes))
    header["pixdim"][:num_axes + 1] = steps[:num_axes + 1]
    header["pixdim"][num_axes + 1:] = 1
    header.set_slope_inter(1, 0)
    with gzip.open(file, "wb", compresslevel=FASTEST) as stream:
        header.write_to(stream)
        for volume in chain([first], volumes):
            for one_slice in volume:
                stream.write(np.ascontiguousarray(one_slice, header.get_data_dtype()).data)


def _header_of(label_file: Path) -> nibabel.Nifti1Header:
    """The NIfTI header of a label file, whatever its format."""
    if label_file.name.endswith(NIFTI_ENDINGS):
        return nibabel.load(label_file).header.copy()
    image = sitk.ReadImage(str(label_file))
    if not label_file.name.endswith(FORMATS_WITH_SPACING):
        array = sitk.GetArrayViewFromImage(image)
        image = sitk.GetImageFromArray(array[0] if array.ndim == 3 and len(array) == 1 else array)
    with TemporaryDirectory() as folder:
        sitk.WriteImage(image, str(Path(folder) / "geometry.nii"))
        return nibabel.load(Path(folder) / "geometry.nii").header.copy()


def write_npz(volumes: Iterable[np.ndarray], num_volumes: int, file: Path) -> None:
    """``probabilities`` (K, z, y, x) float32 as :func:`numpy.savez_compressed` writes them, one channel after another.
    """
    volumes = iter(volumes)
    first = next(volumes)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, \
            archive.open("probabilities.npy", "w", force_zip64=True) as stream:
        np.lib.format.write_array_header_1_0(
            stream, {
                "descr": np.lib.format.dtype_to_descr(first.dtype), "fortran_order": False,
                "shape": (num_volumes, *first.shape)
            })
        for volume in chain([first], volumes):
            for one_slice in volume:
                stream.write(np.ascontiguousarray(one_slice).data)
