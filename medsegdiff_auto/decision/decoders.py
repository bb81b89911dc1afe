"""One mask from many: mean probability, STAPLE, or the mask of the highest expected Dice.

    code            meaning
    probabilities   fused mean, (K, *spatial) float32 in [0, 1]: classes, background first, or regions
    samples         sampled label maps, (S, *spatial)
    decision        (K, *spatial); nnU-Net's label handling turns it into a label map as it does probabilities

STAPLE is SimpleITK's (Warfield et al. 2004; for several labels Rohlfing et al. 2003). Dice of probabilities is decoded by
``rankseg`` (Dai and Li 2023; Wang and Dai 2025); of samples here, because their voxels are not independent.
"""

from __future__ import annotations

from typing import Iterable, Iterator

import numpy as np
import SimpleITK as sitk
import torch
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from torch import Tensor

CANDIDATE_SIZES = 200


def fuse(kind: str, probabilities: np.ndarray, samples: np.ndarray | None, labels: LabelManager) -> np.ndarray:
    """The fused label map, (*spatial); ``kind`` is ``mean``, ``staple`` or ``dice``.

    ``dice`` maximises over the samples where there are at least two, else over the probabilities, voxel by voxel independent.

    Raises:
        ValueError: the kind is another, or STAPLE has fewer than two samples.
    """
    if kind == "mean":
        return np.asarray(labels.convert_probabilities_to_segmentation(probabilities))
    num_samples = 0 if samples is None else len(samples)
    if kind == "staple":
        if num_samples < 2:
            raise ValueError(f"STAPLE needs at least 2 samples, found {num_samples}")
        return staple(probabilities, samples, labels)
    if kind != "dice":
        raise ValueError(f"fusion is {kind!r}, expected mean, staple or dice")
    return dice_of_samples(samples, labels) if num_samples > 1 else dice_of_probabilities(probabilities, labels)


def structure_masks(samples: np.ndarray, labels: LabelManager) -> Iterator[np.ndarray]:
    """Masks (S, *spatial) of one foreground class or region after the other, in the order of the network's channels."""
    for value in labels.foreground_regions if labels.has_regions else labels.foreground_labels:
        masks = np.empty(samples.shape, bool)
        for mask, sample in zip(masks, samples):  # np.isin takes several times the memory of what it is given
            mask[...] = np.isin(sample, value)
        yield masks


def staple(probabilities: np.ndarray, samples: np.ndarray, labels: LabelManager) -> np.ndarray:
    """STAPLE of the sampled label maps; voxels on which the raters stay undecided take the mean probability's label."""
    if labels.has_regions:
        decision = np.stack([_binary_staple(masks) for masks in structure_masks(samples, labels)])
        return np.asarray(labels.convert_probabilities_to_segmentation(decision))
    undecided = int(max(labels.all_labels)) + 1
    images = [sitk.GetImageFromArray(sample.astype(np.uint8)) for sample in samples]
    fused = sitk.GetArrayFromImage(sitk.MultiLabelSTAPLE(images, undecided))
    by_mean = np.asarray(labels.convert_probabilities_to_segmentation(probabilities))
    return np.where(fused == undecided, by_mean, fused)


def _binary_staple(masks: np.ndarray) -> np.ndarray:
    """P(structure | raters) of masks (S, *spatial); where all agree on everything there is nothing to estimate."""
    if (masks == masks[:1]).all():
        return masks[0].astype(np.float32)
    images = [sitk.GetImageFromArray(mask.astype(np.uint8)) for mask in masks]
    return sitk.GetArrayFromImage(sitk.STAPLE(images, 1.0)).astype(np.float32)


def dice_of_probabilities(probabilities: np.ndarray, labels: LabelManager) -> np.ndarray:
    """The label map of the highest expected Dice where voxels are independent given their probabilities."""
    from rankseg import RankSEG

    structures = probabilities if labels.has_regions else probabilities[1:]
    masks = RankSEG(metric="dice", output_mode="multilabel", solver="RMA")(torch.from_numpy(structures[None].astype(np.float32)))
    return label_map(zip(masks[0].numpy().astype(bool), structures), labels)


def dice_of_samples(samples: np.ndarray, labels: LabelManager) -> np.ndarray:
    """The label map of the highest expected Dice against the samples, structure by structure."""
    return label_map(((best_dice_mask(masks), masks.mean(0, dtype=np.float32)) for masks in structure_masks(samples, labels)), labels)


def label_map(structures: Iterable[tuple[np.ndarray, np.ndarray]], labels: LabelManager) -> np.ndarray:
    """One label per voxel, (*spatial) uint16, of a mask and probabilities (*spatial) per foreground class or region.

    Classes that want the same voxel leave it to the more probable one; a later region is written over an earlier one.
    """
    chosen = best = None
    values = labels.regions_class_order if labels.has_regions else labels.foreground_labels
    for value, (mask, probabilities) in zip(values, structures, strict=True):
        if chosen is None:
            chosen, best = np.zeros(mask.shape, np.uint16), np.full(mask.shape, -1, np.float32)
        wins = mask if labels.has_regions else mask & (probabilities > best)
        chosen[wins] = value
        best[wins] = probabilities[wins]
    return chosen


def label_maps(samples: Iterable[Tensor], labels: LabelManager) -> np.ndarray:
    """Every sample's label map, (S, *spatial), of probabilities (K, *spatial) each."""
    return np.stack([np.asarray(labels.convert_probabilities_to_segmentation(sample.float())) for sample in samples])


def best_dice_mask(masks: np.ndarray) -> np.ndarray:
    """The mask m that maximises the mean over s of 2 |m & y_s| / (|m| + |y_s|), (*spatial) bool; two empty masks score 1.

    For a size n of m, a voxel is worth sum_s y_s / (n + |y_s|), and the best m of that size holds the n worthiest. Voxels
    that lie in the same samples are worth the same, so that their patterns are ranked instead of the voxels. The size is
    searched on a grid that is refined around its best point.
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


def _largest(function, low: int, high: int) -> tuple[int, float]:
    """Where a function of whole numbers is largest on a grid that closes in on its best point, and its value there."""
    while True:
        grid = np.unique(np.linspace(low, high, CANDIDATE_SIZES).round().astype(int))
        values = [function(int(n)) for n in grid]
        at = int(np.argmax(values))
        if len(grid) == high - low + 1:
            return int(grid[at]), values[at]
        low, high = int(grid[max(0, at - 1)]), int(grid[min(len(grid) - 1, at + 1)])
