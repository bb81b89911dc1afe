"""STAPLE of the sampled masks, by SimpleITK (Warfield et al. 2004; for several labels Rohlfing et al. 2003)."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from medsegdiff_auto.decision.decoder import Decoder, by_mean, structure_masks
from medsegdiff_auto.nnunet.managers import LabelManager

REGIONS_BYTES = (3, 13)  # of a voxel: per sample, fixed
CLASSES_BYTES = (1.2, 5)  # per sample, per class


def staple(probabilities: np.ndarray, samples: np.ndarray, labels: LabelManager) -> np.ndarray:
    """STAPLE of the sampled label maps; voxels on which the raters stay undecided take the mean probability's label."""
    if labels.has_regions:
        decision = np.stack([_binary_staple(masks) for masks in structure_masks(samples, labels)])
        return by_mean(decision, labels)
    undecided = int(max(labels.all_labels)) + 1
    images = [sitk.GetImageFromArray(sample.astype(np.uint8)) for sample in samples]
    fused = sitk.GetArrayFromImage(sitk.MultiLabelSTAPLE(images, undecided))
    return np.where(fused == undecided, by_mean(probabilities, labels), fused)


def _binary_staple(masks: np.ndarray) -> np.ndarray:
    """P(structure | raters) of masks (S, *spatial); where all agree on everything there is nothing to estimate."""
    if (masks == masks[:1]).all():
        return masks[0].astype(np.float32)
    images = [sitk.GetImageFromArray(mask.astype(np.uint8)) for mask in masks]
    return sitk.GetArrayFromImage(sitk.STAPLE(images, 1.0)).astype(np.float32)


def work_bytes(num_samples: int, num_outputs: int, classes: bool) -> float:
    """What STAPLE works with, per voxel of the image."""
    if classes:
        return CLASSES_BYTES[0] * num_samples + CLASSES_BYTES[1] * num_outputs
    return REGIONS_BYTES[0] * num_samples + REGIONS_BYTES[1]


DECODER = Decoder("STAPLE of the sampled masks", "Warfield et al. 2004; Rohlfing et al. 2003", staple, rank=1,
                  fewest_samples=2, work_bytes=work_bytes)
