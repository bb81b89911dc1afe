"""What the samples say: maps of entropy and mutual information, sizes with intervals, expected Dice.

    code                 meaning
    normalised_entropy   H[p] / log K of the probabilities p of a voxel; of regions the largest binary entropy, in bits
    MutualInformation    H[mean_s p_s] - mean_s H[p_s], in the unit of the entropy; p_s are the probabilities of sample s

Label maps are (z, y, x) integers; samples (S, z, y, x); probabilities (K, z, y, x) in [0, 1].
"""

from __future__ import annotations

import numpy as np

from medsegdiff_auto.inference.conformal import sample_quantiles, widened
from medsegdiff_auto.overlap import dice, expected_dice_between_samples


def normalised_entropy(probabilities: np.ndarray, regions: bool) -> np.ndarray:
    """Entropy of the mean probability over its maximum, (z, y, x) float32 in [0, 1].

    Classes: -sum_k p_k log p_k / log K. Regions overlap: the largest binary entropy among them, in bits.
    """
    return np.clip(entropies(probabilities, regions).max(0), 0, 1)


def entropies(probabilities: np.ndarray, regions: bool) -> np.ndarray:
    """Normalised entropy of the classes, (1, z, y, x), or of each region, (K, z, y, x); float32 in [0, 1] up to rounding."""
    p = np.clip(probabilities.astype(np.float32), 1e-7, 1)
    if regions:
        q = np.clip(1 - p, 1e-7, 1)
        return -(p * np.log2(p) + q * np.log2(q))
    return -(p * np.log(p)).sum(0, keepdims=True) / np.float32(np.log(len(p)))


class MutualInformation:
    """How much of the doubt is disagreement: between the label of a voxel and the sample that it is taken from.

    A sample ends with the probabilities of its last prediction of x_0, which are neither hard nor the same for all samples.
    Where each is sure and they differ, the mutual information is the entropy of their mean: several masks are plausible.
    Where all are equally unsure it is 0: the doubt is within each sample, as at a blurred edge. The samples of all folds
    count alike; the plain network, which is no sample, does not count.
    """

    def __init__(self, regions: bool):
        self.regions, self.num_samples = regions, 0
        self.sum_probabilities: np.ndarray | None = None
        self.sum_entropies: np.ndarray | None = None

    def add(self, probabilities: np.ndarray) -> None:
        """One more sample's probabilities, (K, z, y, x)."""
        of_sample = entropies(probabilities, self.regions)
        if self.num_samples == 0:
            self.sum_probabilities, self.sum_entropies = probabilities.astype(np.float32), of_sample
        else:
            self.sum_probabilities += probabilities
            self.sum_entropies += of_sample
        self.num_samples += 1

    @property
    def value(self) -> np.ndarray:
        """(z, y, x) float32 in [0, 1]: nats over log K, or bits of the region with the most; 0 for a single sample."""
        of_mean = entropies(self.sum_probabilities / self.num_samples, self.regions)
        return np.clip((of_mean - self.sum_entropies / self.num_samples).max(0), 0, 1)


def describe_structure(fused: np.ndarray, samples: np.ndarray, values: list[int], voxel_size: float,
                       margin: float | None = None) -> dict[str, float]:
    """Size of one structure with its 90 % interval, and how good its mask is expected to be.

    The interval is the samples' 5 to 95 %, with the conformal margin where one is fitted. ``expected_dice`` is the mean Dice
    of the fused mask with the samples, which is what the mask scores on average if the reference is one more sample;
    ``expected_dice_between_samples`` is that of two samples, NaN for a single one. Two empty masks count as Dice 1.

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
            "expected_dice": float(np.mean([dice(mask, one, both_empty=1.0) for one in drawn])),
            "expected_dice_between_samples": expected_dice_between_samples(drawn)}
