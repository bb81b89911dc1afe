"""The voxel grid of an image as SimpleITK describes it, from what nnU-Net's readers remember of a file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from medsegdiff_auto.nnunet.properties import header_of, spacing_of

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0])  # NIfTI's axes to ITK's


@dataclass(frozen=True)
class ItkGrid:
    """Spacing and origin in mm and direction cosines row by row, in the order x, y(, z); 2-D images have two axes."""

    spacing_mm: tuple[float, ...]
    origin_mm: tuple[float, ...]
    direction: tuple[float, ...]

    @classmethod
    def of_image(cls, image: sitk.Image) -> ItkGrid:
        """The image's own."""
        return cls(image.GetSpacing(), image.GetOrigin(), image.GetDirection())

    @classmethod
    def of_properties(cls, properties: dict, num_slices: int) -> ItkGrid:
        """From what a reader remembers; formats that know of no position (PNG, TIFF) start at 0."""
        header = header_of(properties)
        if header.itk is not None:
            return cls(*header.itk)
        if header.affine is not None:
            axes, origin = RAS_TO_LPS @ header.affine[:3, :3], RAS_TO_LPS @ header.affine[:3, 3]
            spacing = np.linalg.norm(axes, axis=0)
            return cls(tuple(spacing), tuple(origin), tuple((axes / spacing).ravel()))
        num_axes = 2 if num_slices == 1 else 3
        spacing = tuple(spacing_of(properties))[::-1][:num_axes]
        return cls(spacing, (0.0,) * num_axes, tuple(np.eye(num_axes).ravel()))

    def image(self, array: np.ndarray) -> sitk.Image:
        """One map (z, y, x) on this grid, or several (N, z, y, x) along a last axis."""
        if array.ndim == 4:
            return sitk.JoinSeries([self.image(one) for one in array])
        image = sitk.GetImageFromArray(array[0] if len(self.spacing_mm) == 2 else array)
        image.SetSpacing(self.spacing_mm)
        image.SetOrigin(self.origin_mm)
        image.SetDirection(self.direction)
        return image
