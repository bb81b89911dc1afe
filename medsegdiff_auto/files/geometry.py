"""The voxel grid of a file: size, spacing and position."""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # NIfTI's axes to ITK's
MAX_DISPLACEMENT = 0.5  # of the smallest voxel edge: beyond it, two grids are not the same


@dataclasses.dataclass(frozen=True)
class Geometry:
    """The voxel grid of a file: ``size`` in voxels and ``spacing_mm`` in the order x, y, z; ``affine`` maps indices to
    mm.

    ``affine`` is None for formats that know of no position (PNG, TIFF).
    """

    size: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    affine: np.ndarray | None

    @classmethod
    def of_itk(cls, size: Sequence[int], spacing_mm, origin_mm, direction) -> "Geometry":
        """From SimpleITK's description, for as many of its first axes as ``size`` has."""
        num_axes, kept = len(spacing_mm), len(size)
        affine = np.eye(kept + 1)
        affine[:-1, :-1] = (np.reshape(direction, (num_axes, num_axes)) * np.asarray(spacing_mm))[:kept, :kept]
        affine[:-1, -1] = origin_mm[:kept]
        return cls(tuple(size), tuple(spacing_mm[:kept]), affine)

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

    def cosine_of_axes(self) -> float:
        """The largest cosine between two of its axes: 0 where they are perpendicular."""
        axes = self.affine[:-1, :-1] / np.linalg.norm(self.affine[:-1, :-1], axis=0)
        return float(np.abs(axes.T @ axes - np.eye(len(axes))).max())
