"""The geometry of a NIfTI file, carried over to the last bit.

ITK reads an oblique direction from float32 fields, makes it orthogonal in float64 and writes it back rounded: every
write moves it by about 1e-8. The header fields themselves are exact.
"""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np

from medsegdiff_auto.files.nifti_file import NIFTI_ENDINGS, load_nifti

GEOMETRY_FIELDS = ("qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y",
                   "qoffset_z", "srow_x", "srow_y", "srow_z")


def copy_geometries(source_folder: Path, target_folder: Path) -> None:
    """:func:`copy_geometry` for every NIfTI file of the target folder that the source folder has under the same name.
    """
    for target in target_folder.iterdir():
        source = source_folder / target.name
        if target.name.endswith(NIFTI_ENDINGS) and source.is_file():
            copy_geometry(source, target)


def copy_geometry(source: Path, target: Path) -> None:
    """Gives ``target`` the orientation, origin and voxel sizes in the header of ``source``; the values stay.

    The axes that only ``target`` has (samples, classes) keep their step.
    """
    reference, image = load_nifti(source).header, nibabel.load(target)
    header = image.header.copy()
    for field in GEOMETRY_FIELDS:
        header[field] = reference[field]
    num_axes = int(reference["dim"][0])
    steps = header["pixdim"].copy()
    steps[:num_axes + 1] = reference["pixdim"][:num_axes + 1]
    header["pixdim"] = steps
    nibabel.save(nibabel.Nifti1Image(np.asanyarray(image.dataobj), None, header), target)
