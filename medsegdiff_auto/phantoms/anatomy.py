"""Random anatomy of a phantom: where the structures and the side lobe lie, and how ambiguous each of them is."""

import numpy as np

from medsegdiff_auto.phantoms.posterior import Lobe, PhantomStructure, Posterior
from medsegdiff_auto.phantoms.shapes import Blob, random_blob, random_unit_vector

STRUCTURE_NAMES = ("organ", "lesion", "cyst", "nodule")
LOBE_PROBABILITY = 0.35
"""P(an annotator includes the side lobe). One number for all cases, because the image does not show it."""

SIZE_SPREADS = (0.10, 0.18)
"""Range of the relative standard deviation of a structure's nominal size, dim * delta; drawn per case and structure.

It sets the best expected Dice that any method can reach: about 0.91 for the organ and 0.945 for a lesion, with sizes
between -23 % and +25 % (5 to 95 %).
"""


def random_posterior(generator: np.random.Generator, shape: tuple[int, ...], spacing_mm: tuple[float, ...],
                     num_structures: int = 2, lobe_probability: float = LOBE_PROBABILITY,
                     size_spreads: tuple[float, float] = SIZE_SPREADS) -> Posterior:
    """An organ (structure 1), lesions in or at it (2 ... num_structures), and a side lobe away from the lesions.

    ``lobe_probability`` 0 leaves the lobe out. The geometry scales with the field of view, axis by axis.
    """
    dim = len(shape)
    field_of_view_mm = np.asarray(shape) * np.asarray(spacing_mm)
    organ = _random_organ(generator, field_of_view_mm)
    directions = _spread_directions(generator, dim, num_structures)
    lesion_radius = {2: 0.50, 3: 0.40}.get(num_structures, 0.36) * (1.0 if dim == 3 else 0.85)
    blobs = [organ] + [_random_lesion(generator, organ, direction, lesion_radius) for direction in directions[1:]]
    deltas = generator.uniform(*size_spreads, num_structures) / dim
    lobe_blob = _random_lobe(generator, organ, directions[0])
    return Posterior(shape=tuple(map(int, shape)), spacing_mm=tuple(map(float, spacing_mm)),
                     structures=tuple(PhantomStructure(blob, float(delta)) for blob, delta in zip(blobs, deltas)),
                     lobe=Lobe(lobe_blob, float(lobe_probability)) if lobe_probability > 0 else None)


def _random_organ(generator: np.random.Generator, field_of_view_mm: np.ndarray) -> Blob:
    dim = len(field_of_view_mm)
    centre = field_of_view_mm * (0.5 + generator.uniform(-0.06, 0.06, dim))
    return random_blob(generator, centre, field_of_view_mm * generator.uniform(0.26, 0.31))


def _random_lesion(generator: np.random.Generator, organ: Blob, direction: np.ndarray, radius: float) -> Blob:
    centre = organ.point_mm(direction, generator.uniform(0.38, 0.52))
    return random_blob(generator, centre, _half_extents_mm(organ) * radius * generator.uniform(0.9, 1.1))


def _random_lobe(generator: np.random.Generator, organ: Blob, direction: np.ndarray) -> Blob:
    radius = 0.42 if len(direction) == 2 else 0.50
    return random_blob(generator, organ.point_mm(direction, 1.05), _half_extents_mm(organ) * radius, num_ripples=0)


def _half_extents_mm(blob: Blob) -> np.ndarray:
    return np.linalg.norm(np.asarray(blob.axes_mm), axis=1)


def _spread_directions(generator: np.random.Generator, dim: int, count: int) -> list[np.ndarray]:
    """``count`` unit vectors at equal angles in a random plane, so that lesions and lobe keep apart."""
    first = random_unit_vector(generator, dim)
    second = random_unit_vector(generator, dim)
    second = second - (second @ first) * first
    second = second / np.linalg.norm(second)
    angles = 2.0 * np.pi * np.arange(count) / count
    return [np.cos(angle) * first + np.sin(angle) * second for angle in angles]
