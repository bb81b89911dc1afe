"""Are the probabilities true? Calibration of the foreground probability of one structure, voxel by voxel.

p = predicted probability of the structure, y = outcome (1 in the reference, 0 elsewhere) or the known posterior
probability. ECE and the proper scores are taken on the relevant mask: prediction or reference, dilated twice. Over the
whole image the far background, which nobody doubts, would hide every error.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

NUM_BINS = 15
NUM_DILATIONS = 2
SMALLEST_PROBABILITY = 1e-6


@dataclass(frozen=True)
class Reliability:
    """Equal-width bins of p over [0, 1]; curves of several cases add up with ``+``.

    ``counts``, ``sum_confidence`` and ``sum_outcome`` have shape `(num_bins,)`; the means are NaN in an empty bin.
    """

    counts: np.ndarray
    sum_confidence: np.ndarray
    sum_outcome: np.ndarray

    def __add__(self, other: "Reliability") -> "Reliability":
        return Reliability(self.counts + other.counts, self.sum_confidence + other.sum_confidence,
                           self.sum_outcome + other.sum_outcome)

    @property
    def mean_confidence(self) -> np.ndarray:
        return _divide(self.sum_confidence, self.counts)

    @property
    def mean_outcome(self) -> np.ndarray:
        return _divide(self.sum_outcome, self.counts)

    @property
    def expected_calibration_error(self) -> float:
        """ECE = sum_b (n_b / n) |mean p - mean y| (Naeini et al. 2015), in [0, 1]; NaN without voxels."""
        total = self.counts.sum()
        return float(np.abs(self.sum_confidence - self.sum_outcome).sum() / total) if total else float("nan")


def reliability(probabilities: np.ndarray, outcomes_or_posterior: np.ndarray, num_bins: int = NUM_BINS) -> Reliability:
    """Sort voxels into bins of predicted probability; both arrays have one shape and lie in [0, 1].

    With outcomes the curve needs many voxels to be smooth; with the known posterior it is exact, bin by bin.
    """
    p = np.asarray(probabilities, dtype=np.float64).ravel()
    y = np.asarray(outcomes_or_posterior, dtype=np.float64).ravel()
    assert p.shape == y.shape, f"{p.shape} probabilities for {y.shape} outcomes"
    bins = np.minimum((p * num_bins).astype(np.int64), num_bins - 1)
    return Reliability(*(np.bincount(bins, weights=weights, minlength=num_bins) for weights in (np.ones_like(p), p, y)))


def relevant_mask(reference: np.ndarray, prediction: np.ndarray, num_dilations: int = NUM_DILATIONS) -> np.ndarray:
    """Prediction or reference, dilated ``num_dilations`` times with the neighbours that share a face."""
    union = reference | prediction
    return ndimage.binary_dilation(union, iterations=num_dilations) if union.any() else union


def brier_score(probabilities: np.ndarray, outcomes: np.ndarray) -> float:
    """Mean of (p - y)^2 (Brier 1950), in [0, 1]; NaN without voxels."""
    p, y = np.asarray(probabilities, dtype=np.float64), np.asarray(outcomes, dtype=np.float64)
    return float(np.mean((p - y) ** 2)) if p.size else float("nan")


def negative_log_likelihood(probabilities: np.ndarray, outcomes: np.ndarray) -> float:
    """Mean of -y log p - (1 - y) log(1 - p) in nats, p clipped to [1e-6, 1 - 1e-6]; NaN without voxels."""
    p = np.clip(np.asarray(probabilities, dtype=np.float64), SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    y = np.asarray(outcomes, dtype=np.float64)
    return float(np.mean(-y * np.log(p) - (1 - y) * np.log1p(-p))) if p.size else float("nan")


def error_detection_auroc(errors_by_uncertainty: Reliability) -> float:
    """P(uncertainty of a wrong voxel > uncertainty of a right one) from bins of ``reliability(uncertainty, is_error)``.

    Ties, which are the pairs within one bin, count one half: 0.5 is chance, 1 a perfect ranking. NaN without both
    kinds.
    """
    wrong = errors_by_uncertainty.sum_outcome
    right = errors_by_uncertainty.counts - wrong
    if not wrong.sum() or not right.sum():
        return float("nan")
    right_below = np.cumsum(right) - right
    return float((wrong * (right_below + right / 2)).sum() / (wrong.sum() * right.sum()))


def _divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return np.divide(numerator, denominator, out=np.full(len(numerator), np.nan), where=denominator > 0)
