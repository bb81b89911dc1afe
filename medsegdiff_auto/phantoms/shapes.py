"""Smooth star-shaped blobs in array coordinates.

Notation
    p           point, mm, array axis order (z, y, x) in 3-D or (y, x) in 2-D
    u           unit vector from the centre of the blob to p, in the blob's own axes
    rho(p)      normalised radius: 0 at the centre, 1 on the nominal surface, proportional to the distance on a ray
"""

from dataclasses import dataclass

import numpy as np


def voxel_centres_mm(shape: tuple[int, ...], spacing_mm: tuple[float, ...]) -> np.ndarray:
    """Centres of all voxels, shape ``(*shape, dim)``, in mm from the first voxel."""
    axes = [np.arange(size) * step for size, step in zip(shape, spacing_mm)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)


def random_rotation(generator: np.random.Generator, dim: int) -> np.ndarray:
    """Uniformly distributed rotation matrix, determinant +1 (QR decomposition of a Gaussian matrix)."""
    q, r = np.linalg.qr(generator.standard_normal((dim, dim)))
    q = q * np.sign(np.diag(r))
    if np.linalg.det(q) < 0:
        q[:, 0] = -q[:, 0]
    return q


@dataclass(frozen=True)
class Ripple:
    """One term ``amplitude * sin(frequency * u . direction + phase)`` of a blob's surface, with |direction| = 1."""

    direction: tuple[float, ...]
    frequency: float
    phase: float
    amplitude: float

    def height(self, unit_vectors: np.ndarray) -> np.ndarray:
        """Relative surface height along ``unit_vectors (..., dim)``, in [-amplitude, amplitude]."""
        return self.amplitude * np.sin(self.frequency * (unit_vectors @ np.asarray(self.direction)) + self.phase)


@dataclass(frozen=True)
class Blob:
    """A rippled ellipsoid (ellipse in 2-D): rho(p) = |q| / (1 + sum of ripples(q / |q|)), q = axes^-1 (p - centre).

    ``axes_mm (dim, dim)`` maps the unit ball to the ellipsoid: its columns are the images of the unit vectors, in mm.
    """

    centre_mm: tuple[float, ...]
    axes_mm: tuple[tuple[float, ...], ...]
    ripples: tuple[Ripple, ...] = ()

    def normalised_radius(self, points_mm: np.ndarray) -> np.ndarray:
        """rho of ``points_mm (..., dim)``: float64, 0 at the centre, 1 on the surface."""
        offset = points_mm - np.asarray(self.centre_mm)
        q = offset @ np.linalg.inv(np.asarray(self.axes_mm)).T
        distance = np.linalg.norm(q, axis=-1)
        return distance / self._surface(q / np.maximum(distance, 1e-12)[..., None])

    def point_mm(self, unit_vector: np.ndarray, rho: float) -> np.ndarray:
        """The point at normalised radius ``rho`` in the direction ``unit_vector (dim,)`` of the unit ball."""
        return np.asarray(self.centre_mm) + np.asarray(self.axes_mm) @ unit_vector * rho * self._surface(unit_vector)

    def _surface(self, unit_vectors: np.ndarray) -> np.ndarray:
        return 1.0 + sum(ripple.height(unit_vectors) for ripple in self.ripples)


def random_blob(generator: np.random.Generator, centre_mm: np.ndarray, semi_axes_mm: np.ndarray,
                elongation: float = 0.12, num_ripples: int = 3, roughness: float = 0.05) -> Blob:
    """A blob of about the given half extents along the array axes.

    In the unit ball it is stretched by factors in [1 - elongation, 1 + elongation] along random orthogonal directions;
    its ripples have amplitudes in [0, roughness] and frequencies in [2, 4].
    """
    dim = len(centre_mm)
    stretch = generator.uniform(1.0 - elongation, 1.0 + elongation, dim)
    axes = np.diag(semi_axes_mm) @ random_rotation(generator, dim) @ np.diag(stretch)
    return Blob(centre_mm=tuple(map(float, centre_mm)),
                axes_mm=tuple(tuple(map(float, row)) for row in axes),
                ripples=tuple(_random_ripple(generator, dim, roughness) for _ in range(num_ripples)))


def random_unit_vector(generator: np.random.Generator, dim: int) -> np.ndarray:
    """Uniformly distributed on the unit sphere, shape ``(dim,)``."""
    vector = generator.standard_normal(dim)
    return vector / np.linalg.norm(vector)


def _random_ripple(generator: np.random.Generator, dim: int, roughness: float) -> Ripple:
    return Ripple(direction=tuple(map(float, random_unit_vector(generator, dim))),
                  frequency=float(generator.uniform(2.0, 4.0)),
                  phase=float(generator.uniform(0.0, 2.0 * np.pi)),
                  amplitude=float(generator.uniform(0.0, roughness)))
