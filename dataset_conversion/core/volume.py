"""Volumes with their geometry: NIfTI headers pass through untouched, other formats get one from their geometry."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk

from medsegdiff_auto.dataset_conversion.core.reading import reading
from medsegdiff_auto.dataset_conversion.core.source import CaseProblem
from medsegdiff_auto.files.nifti_file import is_gzip, is_nifti, load_nifti
from medsegdiff_auto.files.sound import require_sound
from medsegdiff_auto.writing import atomically

MAX_AXES = 7  # of a NIfTI file
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_STORED_AS = {np.dtype(bool): np.uint8, np.dtype(np.int64): np.int32, np.dtype(np.uint64): np.uint32,
              np.dtype(np.float16): np.float32, np.dtype(np.float64): np.float32}


@dataclass(frozen=True)
class Volume:
    """Voxels ``(x, y, z)``, or ``(x, y, z, t)`` before it is taken apart, and the NIfTI header that holds their
    geometry.

    ``file`` is a ``.nii.gz`` that holds exactly this, where there is one: it is copied, not compressed again.
    """

    voxels: np.ndarray
    header: nib.Nifti1Header
    file: Path | None = None

    @property
    def affine(self) -> np.ndarray:
        """Voxel indices to millimetres, RAS, 4 x 4."""
        return self.header.get_best_affine()

    @property
    def has_position(self) -> bool:
        """Whether its header says where it lies; without, readers make up different positions."""
        return bool(self.header["sform_code"] > 0 or self.header["qform_code"] > 0)

    @property
    def voxel_volume_mm3(self) -> float:
        return float(np.prod(np.abs(self.header.get_zooms()[:3])))

    def like(self, voxels: np.ndarray) -> Volume:
        """Other voxels in the same geometry."""
        header = self.header.copy()
        header.set_data_shape(voxels.shape)
        return Volume(voxels, header)

    def in_geometry_of(self, other: Volume) -> Volume:
        """Returns the voxels with the geometry of ``other``."""
        return other.like(self.voxels)

    def frames(self) -> list[Volume]:
        """The volumes along the last of four axes: the sequences of an MSD image, the time points of a cine image."""
        if self.voxels.ndim != 4:
            return [self]
        return [self.like(self.voxels[..., index]) for index in range(self.voxels.shape[3])]

    def save(self, path: Path) -> None:
        """Writes ``.nii.gz``; whole numbers of 64 bits and doubles, which nnU-Net does not use, are stored with 32
        bits.
        """
        with atomically(path) as temporary:
            if self.file is not None:
                shutil.copyfile(self.file, temporary)
                return
            voxels = self.voxels.astype(_STORED_AS.get(self.voxels.dtype, self.voxels.dtype), copy=False)
            header = self.header.copy()
            header.set_data_dtype(voxels.dtype)
            header.set_slope_inter(1, 0)
            nib.save(nib.Nifti1Image(voxels, None, header), temporary)


def read_volume(path: Path) -> Volume:
    """Reads NIfTI by nibabel, anything else (NRRD, MHA, a DICOM file) by SimpleITK.

    Raises:
        CaseProblem: the file cannot be read, has no geometry, or two that differ.
    """
    with reading(path):
        if is_nifti(path):
            return _read_nifti(path)
        return volume_from_sitk(sitk.ReadImage(str(path)))


def volume_from_sitk(image: sitk.Image) -> Volume:
    """A volume from an image of SimpleITK; its components, if there are several, become the last axis."""
    if image.GetDimension() == 2:
        image = sitk.JoinSeries(image)
    voxels = sitk.GetArrayFromImage(image)
    spatial = tuple(range(min(3, image.GetDimension())))
    voxels = voxels.transpose(spatial[::-1] +
                              tuple(range(len(spatial), voxels.ndim))) if image.GetDimension() <= 3 else voxels.T
    linear = np.reshape(image.GetDirection(), (image.GetDimension(),) * 2)[:3, :3] * image.GetSpacing()[:3]
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = linear, image.GetOrigin()[:3]
    return Volume(voxels, header_from_affine(LPS_TO_RAS @ affine, image.GetSpacing()[:3], voxels.shape))


def header_from_affine(affine: np.ndarray, spacing_mm: tuple[float, ...], shape: tuple[int, ...]) -> nib.Nifti1Header:
    """A NIfTI header with this RAS affine; NIfTI keeps it in single precision."""
    header = nib.Nifti1Header()
    header.set_data_shape(shape)
    header.set_xyzt_units("mm")
    header.set_sform(affine, code=1)
    header.set_qform(affine, code=1)
    header["pixdim"][1:4] = spacing_mm
    return header


def _read_nifti(path: Path) -> Volume:
    image = load_nifti(path)
    header = image.header
    if not isinstance(header, nib.Nifti1Header):
        raise CaseProblem(f"{path.name} has no NIfTI header")
    if type(header) is nib.Nifti1Header:
        require_sound(path, path.name, max_axes=MAX_AXES, with_voxels=False)
    else:  # ITK does not read it, but what is written
        header = nib.Nifti1Header.from_header(header, check=False)
        header.set_sform(image.affine, code=1)
    voxels = np.asanyarray(image.dataobj)
    shape = voxels.shape
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    as_it_is = is_gzip(path) and shape == voxels.shape and isinstance(image, nib.Nifti1Image)
    return Volume(voxels.reshape(shape), header, path if as_it_is and len(shape) <= 3 else None)
