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


def pairwise_dice(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Dice of every mask of ``first`` `(n, *spatial)` with every one of ``second`` `(m, *spatial)`: `(n, m)` float64.

    Two empty masks agree perfectly here (1), as a distance between equal masks must vanish.
    """
    shared, total = pairwise_counts(first, second)
    return np.divide(2 * shared, total, out=np.ones_like(shared), where=total > 0)


def pairwise_iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of every pair, as :func:`pairwise_dice`; two empty masks agree perfectly."""
    shared, total = pairwise_counts(first, second)
    union = total - shared
    return np.divide(shared, union, out=np.ones_like(shared), where=union > 0)


def pairwise_counts(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Voxels |A n B| that each pair of masks shares, and |A| + |B|, both `(n, m)` float64; masks as in `pairwise_dice`.
    """
    first, second = (np.asarray(masks, dtype=bool).reshape(len(masks), -1) for masks in (first, second))
    inside = first.any(axis=0) | second.any(axis=0)
    first, second = first[:, inside].astype(np.float32), second[:, inside].astype(np.float32)
    shared = (first @ second.T).astype(np.float64)
    return shared, first.sum(1, dtype=np.float64)[:, None] + second.sum(1, dtype=np.float64)[None]


def expected_dice_between_samples(samples: np.ndarray) -> float:
    """Mean Dice over all pairs of different samples `(num_samples, *spatial)`; NaN with fewer than two."""
    if len(samples) < 2:
        return float("nan")
    return float(pairwise_dice(samples, samples)[~np.eye(len(samples), dtype=bool)].mean())


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
