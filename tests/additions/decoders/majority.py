"""The label that most samples have, voxel by voxel."""

from __future__ import annotations

import numpy as np
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from medsegdiff_auto.decision.decoder import Decoder

FIXED_BYTES = 8  # of a voxel: winner, its votes, votes of one label, where they are more


def majority(_probabilities: np.ndarray, samples: np.ndarray, labels: LabelManager) -> np.ndarray:
    """The label map (*spatial) of the most votes; of equally many, the lowest label."""
    winner, most = np.zeros(samples.shape[1:], np.uint16), np.zeros(samples.shape[1:], np.uint16)
    for label in sorted(labels.all_labels):
        votes = (samples == label).sum(0, dtype=np.uint16)
        winner[votes > most] = label
        np.maximum(most, votes, out=most)
    return winner


DECODER = Decoder("majority of the sampled labels", "vote, voxel by voxel", majority, rank=3, fewest_samples=1,
                  work_bytes=lambda num_samples, num_outputs, classes: num_samples + FIXED_BYTES)
