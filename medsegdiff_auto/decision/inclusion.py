"""Contours of inclusion: where nearly all, half and nearly none of the samples put a structure.

A reader sees from them how large and how small the structure may be, and on which side it is open.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from medsegdiff_auto.sampling.volume_store import VolumeStore

PERCENTS = (5, 50, 95)
"""The value of a voxel in a map of inclusion is the highest of these shares of the samples that hold it."""


def inclusion_map(samples: Sequence[VolumeStore], values: Collection[int]) -> np.ndarray:
    """A map (z, y, x) uint8: 95 where at least 95 % of the samples hold the structure, else 50 or 5, else 0.

    Args:
        samples: label maps.
        values: labels that make up the structure.
    """
    inclusion = np.zeros(samples[0].shape, np.uint8)
    held = np.zeros(samples[0].shape, np.uint16)
    for one in samples:
        held += np.isin(one.read().numpy(), list(values))
    for percent in PERCENTS:
        inclusion[held * np.uint32(100) >= percent * len(samples)] = percent
    return inclusion
