"""What the samples say: maps of entropy and mutual information, sizes with intervals, expected Dice.

    code                 meaning
    entropy_map          :func:`~medsegdiff_auto.decision.entropy.normalised_entropy` of every voxel
    MutualInformation    H[mean_s p_s] - mean_s H[p_s], in the unit of the entropy; p_s are those of sample s

Label maps are (z, y, x) integers; samples are stores of them; probabilities (K, z, y, x) in [0, 1]. All is computed
slab by slab.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from medsegdiff_auto.decision.conformal import sample_quantiles, widened
from medsegdiff_auto.decision.entropy import entropies, normalised_entropy
from medsegdiff_auto.sampling.volume_store import Storage, VolumeStore, blocks
from medsegdiff_auto.overlap import pairwise_counts


def entropy_map(probabilities: VolumeStore, regions: bool) -> np.ndarray:
    """Entropy of a store, (z, y, x) float32 in [0, 1]."""
    entropy = np.empty(probabilities.shape[1:], np.float32)
    for rows in probabilities.blocks():
        entropy[rows] = normalised_entropy(probabilities.values(rows).numpy(), regions)
    return entropy


class MutualInformation:
    """How much of the doubt is disagreement: between the label of a voxel and the sample that it is taken from.

    Depeweg et al. 2018 take the entropy apart so for networks whose weights are drawn; here the samples are.

    A sample ends with the probabilities of its last prediction of x_0, which are neither hard nor the same for all
    samples. Where each is sure and they differ, the mutual information is the entropy of their mean: several masks are
    plausible. Where all are equally unsure it is 0: the doubt is within each sample, as at a blurred edge. The samples
    of all folds count alike; the plain network, which is no sample, does not count.
    """

    def __init__(self, regions: bool, storage: Storage = Storage()):
        self.regions, self.storage, self.num_samples = regions, storage, 0
        self.sum_probabilities: VolumeStore | None = None
        self.sum_entropies: VolumeStore | None = None

    def add(self, probabilities: VolumeStore) -> None:
        """One more sample's probabilities, (K, z, y, x)."""
        first = self.num_samples == 0
        if first:
            self.sum_probabilities = self.storage.empty(probabilities.shape)
            self.sum_entropies = self.storage.empty(
                (probabilities.shape[0] if self.regions else 1, *probabilities.shape[1:]))
        for rows in probabilities.blocks():
            p = probabilities.values(rows)
            of_sample = torch.from_numpy(entropies(p.numpy(), self.regions))
            for total, more in ((self.sum_probabilities, p), (self.sum_entropies, of_sample)):
                total.write(rows, more if first else total.read(rows) + more)
        self.num_samples += 1

    @property
    def value(self) -> np.ndarray:
        """(z, y, x) float32 in [0, 1]: nats over log K, or bits of the region with the most; 0 for a single sample."""
        shared = np.empty(self.sum_probabilities.shape[1:], np.float32)
        for rows in self.sum_probabilities.blocks():
            of_mean = entropies(self.sum_probabilities.values(rows).numpy() / self.num_samples, self.regions)
            within = self.sum_entropies.read(rows).numpy() / self.num_samples
            shared[rows] = np.clip((of_mean - within).max(0), 0, 1)
        return shared


def shared_voxels(maps: Sequence[VolumeStore], values: list[int]) -> np.ndarray:
    """Voxels that each pair of label maps gives to a structure, (N, N) float64; the diagonal holds the sizes."""
    shared = np.zeros((len(maps), len(maps)))
    for rows in blocks(maps[0].all_rows, len(maps) * torch.Size(maps[0].shape[1:]).numel()):
        masks = np.stack([np.isin(one.read(rows).numpy(), values) for one in maps])
        shared += pairwise_counts(masks, masks)[0]
    return shared


def describe_structure(fused: VolumeStore, samples: Sequence[VolumeStore], values: list[int], voxel_size: float,
                       margin: float | None = None) -> dict[str, float]:
    """Size of one structure with its 90 % interval, and how good its mask is expected to be.

    The interval is the samples' 5 to 95 %, with the conformal margin where one is fitted, and reaches to the fused
    mask's own size where that lies outside. ``expected_dice`` is the mean Dice of the fused mask with the samples,
    which is what the mask scores on average if the reference is one more sample; ``expected_dice_between_samples`` is
    that of two samples, NaN for a single one. Two empty masks count as Dice 1, but a structure that neither the fused
    mask nor any sample has, has no expected Dice: both are NaN.

    Args:
        fused: fused label map.
        samples: sampled label maps.
        values: label values that make up the structure.
        voxel_size: in the unit of the sizes returned.
        margin: of :mod:`~medsegdiff_auto.decision.conformal`, or None.
    """
    shared = shared_voxels([fused, *samples], values)
    num_voxels = shared.diagonal()
    total = num_voxels[:, None] + num_voxels
    both_empty = np.full_like(shared, 1.0 if num_voxels.any() else np.nan)
    dice = np.divide(2 * shared, total, out=both_empty, where=total > 0)
    lower, upper = widened(*sample_quantiles(num_voxels[1:] * voxel_size), margin)
    of_two = dice[1:, 1:][~np.eye(len(samples), dtype=bool)]
    size = float(num_voxels[0] * voxel_size)
    return {"size": size, "lower": min(lower, size), "upper": max(upper, size),
            "expected_dice": float(dice[0, 1:].mean()),
            "expected_dice_between_samples": float(of_two.mean()) if len(of_two) else float("nan")}
