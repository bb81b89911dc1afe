"""The mask of the highest expected Dice.

Probabilities, whose voxels count as independent, are decoded by ``rankseg`` (Dai and Li 2023; Wang and Dai 2025);
samples here, because their voxels are not independent.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from medsegdiff_auto.decision.decoder import Decoder, label_map, structure_masks
from medsegdiff_auto.nnunet.managers import LabelManager

CANDIDATE_SIZES = 200
SAMPLE_BYTES, FIXED_BYTES = 2, 12  # of a voxel


def best_expected_dice(probabilities: np.ndarray, samples: np.ndarray, labels: LabelManager) -> np.ndarray:
    """Maximises over the samples where there are at least two, else over the probabilities, voxel by voxel independent.
    """
    return dice_of_samples(samples, labels) if len(samples) > 1 else dice_of_probabilities(probabilities, labels)


def dice_of_probabilities(probabilities: np.ndarray, labels: LabelManager) -> np.ndarray:
    """The label map of the highest expected Dice where voxels are independent given their probabilities."""
    from rankseg import RankSEG

    structures = probabilities if labels.has_regions else probabilities[1:]
    masks = RankSEG(metric="dice", output_mode="multilabel",
                    solver="RMA")(torch.from_numpy(structures[None].astype(np.float32)))
    return label_map(zip(masks[0].numpy().astype(bool), structures), labels)


def dice_of_samples(samples: np.ndarray, labels: LabelManager) -> np.ndarray:
    """The label map of the highest expected Dice against the samples, structure by structure."""
    return label_map(
        ((best_dice_mask(masks), masks.mean(0, dtype=np.float32)) for masks in structure_masks(samples, labels)),
        labels)


def best_dice_mask(masks: np.ndarray) -> np.ndarray:
    """The mask m that maximises the mean over s of 2 |m & y_s| / (|m| + |y_s|), (*spatial) bool; two empty masks score
    1.

    For a size n of m, a voxel is worth sum_s y_s / (n + |y_s|), and the best m of that size holds the n worthiest.
    Voxels that lie in the same samples are worth the same, so that their patterns are ranked instead of the voxels. The
    size is searched on a grid that is refined around its best point.
    """
    flat = masks.reshape(len(masks), -1)
    sizes, union = flat.sum(1), np.flatnonzero(flat.any(0))
    best = np.zeros(flat.shape[1], bool)
    if not len(union):
        return best.reshape(masks.shape[1:])
    patterns, pattern_of, counts = np.unique(flat[:, union].T, axis=0, return_inverse=True, return_counts=True)
    pattern_of = pattern_of.reshape(-1)

    def worth(size: int) -> np.ndarray:
        return patterns @ (1 / (size + sizes))

    def expected_dice(size: int) -> float:
        value = worth(size)
        order = np.argsort(-value, kind="stable")
        before = np.concatenate([[0], counts[order].cumsum()[:-1]])
        taken = np.clip(size - before, 0, counts[order])
        return float(2 * (value[order] * taken).sum() / len(masks))

    size, score = _largest(expected_dice, 1, len(union))
    if score <= (sizes == 0).mean():  # the empty mask scores 1 for every empty sample
        return best.reshape(masks.shape[1:])
    best[union[np.argsort(-worth(size)[pattern_of], kind="stable")[:size]]] = True
    return best.reshape(masks.shape[1:])


def _largest(function: Callable[[int], float], low: int, high: int) -> tuple[int, float]:
    """Where a function of whole numbers is largest on a grid that closes in on its best point, and its value there."""
    while True:
        grid = np.unique(np.linspace(low, high, CANDIDATE_SIZES).round().astype(int))
        values = [function(int(n)) for n in grid]
        at = int(np.argmax(values))
        if len(grid) == high - low + 1:
            return int(grid[at]), values[at]
        low, high = int(grid[max(0, at - 1)]), int(grid[min(len(grid) - 1, at + 1)])


DECODER = Decoder("the mask of the highest expected Dice over the samples", "Dai and Li 2023; Wang and Dai 2025",
                  best_expected_dice, rank=2,
                  work_bytes=lambda num_samples, num_outputs, classes: SAMPLE_BYTES * num_samples + FIXED_BYTES)
