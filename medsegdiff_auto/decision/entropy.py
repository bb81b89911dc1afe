"""How much a voxel's probabilities leave open, in [0, 1]. Free of torch.

    normalised_entropy   H[p] / log K of the probabilities p of a voxel; of regions the largest binary entropy, in bits
"""

from __future__ import annotations

import numpy as np


def normalised_entropy(probabilities: np.ndarray, regions: bool) -> np.ndarray:
    """Entropy of the probabilities (K, ...) over its maximum, (...) float32 in [0, 1].

    Classes: -sum_k p_k log p_k / log K. Regions overlap: the largest binary entropy among them, in bits.
    """
    return np.clip(entropies(probabilities, regions).max(0), 0, 1)


def entropies(probabilities: np.ndarray, regions: bool) -> np.ndarray:
    """Normalised entropy of the classes, (1, ...), or of each region, (K, ...); float32 in [0, 1] up to
    rounding.
    """
    p = np.clip(probabilities.astype(np.float32), 1e-7, 1)
    if regions:
        q = np.clip(1 - p, 1e-7, 1)
        return -(p * np.log2(p) + q * np.log2(q))
    return -(p * np.log(p)).sum(0, keepdims=True) / np.float32(np.log(len(p)))
