"""What the samples say: entropy maps, sizes with intervals, expected Dice.

Label maps are (z, y, x) integers; samples (S, z, y, x); probabilities (K, z, y, x) in [0, 1].
"""

from __future__ import annotations

import numpy as np

from medsegdiff_auto.inference.conformal import sample_quantiles, widened
from medsegdiff_auto.overlap import dice


def normalised_entropy(probabilities: np.ndarray, regions: bool) -> np.ndarray:
    """Entropy of the mean probability over its maximum, (z, y, x) float32 in [0, 1].

    Classes: -sum_k p_k log p_k / log K. Regions overlap: the largest binary entropy among them, in bits.
    """
    p = np.clip(probabilities.astype(np.float32), 1e-7, 1)
    if regions:
        q = np.clip(1 - p, 1e-7, 1)
        binary_entropy_bits = -(p * np.log2(p) + q * np.log2(q))
        return np.clip(binary_entropy_bits.max(0), 0, 1)
    return np.clip(-(p * np.log(p)).sum(0) / np.log(len(p)), 0, 1)


def describe_structure(fused: np.ndarray, samples: np.ndarray, values: list[int], voxel_size: float,
                       margin: float | None = None) -> dict[str, float]:
    """Size of one structure with its 90 % interval, and the expected Dice.

    The interval is the samples' 5 to 95 %, with the conformal margin where one is fitted.

    A sample that agrees that nothing is there counts as Dice 1.

    Args:
        fused: fused label map.
        samples: sampled label maps.
        values: label values that make up the structure.
        voxel_size: in the unit of the sizes returned.
        margin: of :mod:`~medsegdiff_auto.inference.conformal`, or None.
    """
    mask, drawn = np.isin(fused, values), np.isin(samples, values)
    sizes = drawn.reshape(len(drawn), -1).sum(1) * voxel_size
    lower, upper = widened(*sample_quantiles(sizes), margin)
    return {"size": float(mask.sum() * voxel_size), "lower": lower, "upper": upper,
            "expected_dice": float(np.mean([dice(mask, one, both_empty=1.0) for one in drawn]))}
