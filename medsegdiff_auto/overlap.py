"""Overlap of two masks: Dice and intersection over union, with nnU-Net's policy for empty masks.

A = reference, B = prediction. Where both are empty the score is NaN and is left out of every mean, unless the caller
says otherwise; where one is empty it is 0.
"""

import numpy as np

BOTH_EMPTY = float("nan")


def dice(reference: np.ndarray, prediction: np.ndarray, valid: np.ndarray | None = None,
         both_empty: float = BOTH_EMPTY) -> float:
    """Dice 2|A n B| / (|A| + |B|) of two boolean masks of equal shape, in [0, 1]; ``both_empty`` where both are.

    ``valid`` (boolean, same shape) leaves out the voxels in which it is False: those of the ignore label.
    """
    size_reference, size_prediction, shared = _counts(reference, prediction, valid)
    total = size_reference + size_prediction
    return 2 * shared / total if total else both_empty


def iou(reference: np.ndarray, prediction: np.ndarray, valid: np.ndarray | None = None) -> float:
    """Intersection over union |A n B| / |A u B| of two boolean masks, in [0, 1]; NaN where both are empty."""
    size_reference, size_prediction, shared = _counts(reference, prediction, valid)
    union = size_reference + size_prediction - shared
    return shared / union if union else BOTH_EMPTY


def mean_without_nan(values) -> float:
    """The mean of the values that are not NaN, or NaN where none is left."""
    values = np.asarray(list(values), dtype=np.float64)
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else float("nan")


def _counts(reference: np.ndarray, prediction: np.ndarray, valid: np.ndarray | None) -> tuple[int, int, int]:
    assert reference.shape == prediction.shape, f"masks of different shape: {reference.shape} and {prediction.shape}"
    if valid is not None:
        reference, prediction = reference & valid, prediction & valid
    return int(reference.sum()), int(prediction.sum()), int((reference & prediction).sum())
