"""Voxel temperature: probabilities as sure as they deserve to be, without another label anywhere.

    code          meaning
    temperature   T > 0, fitted on cases that no fold was trained on; above 1 softens
    scaled        softmax(log p / T) over the classes, or sigmoid(logit p / T) of each region

Guo et al. 2017, with log-probabilities in the place of logits, which differ by a constant that softmax ignores.
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit, logit, softmax

from medsegdiff_auto.diffusion.state import LOWEST_PROBABILITY


def scaled(probabilities: np.ndarray, temperature: float, regions: bool) -> np.ndarray:
    """Probabilities (K, ...) at a temperature, float32 in [0, 1]; what lies below 1e-6 is taken for 1e-6."""
    p = np.clip(probabilities.astype(np.float32), LOWEST_PROBABILITY, 1 - LOWEST_PROBABILITY)
    return expit(logit(p) / temperature) if regions else softmax(np.log(p) / temperature, axis=0)


def at_temperature(probabilities: np.ndarray, temperature: float, regions: bool) -> np.ndarray:
    """:func:`scaled`, but voxels that are as certain as numbers can say stay as they are.

    Probabilities end at 1e-6, where the logit is not known. A temperature of 2 would make 1e-3 of it, and of the many
    voxels far from every structure a volume.
    """
    if temperature == 1:
        return probabilities
    return np.where(is_certain(probabilities, regions), probabilities, scaled(probabilities, temperature, regions))


def is_certain(probabilities: np.ndarray, regions: bool) -> np.ndarray:
    """Where all that is left to the others is the lowest probability that is told apart from 0, (1, ...) or (K, ...)
    bool.
    """
    floor = 2 * LOWEST_PROBABILITY
    if regions:
        return (probabilities <= floor) | (probabilities >= 1 - floor)
    return probabilities.max(0, keepdims=True) >= 1 - floor * (len(probabilities) - 1)
