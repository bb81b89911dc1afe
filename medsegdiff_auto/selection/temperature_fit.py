"""The voxel temperature under which references are most likely, on cases that the network has not seen.

    code           meaning
    TEMPERATURES   the T that are tried, a factor of 2^(1/8) apart; 1 is among them
    curve          negative log-likelihood of a case at each of them, (25,) in nats: the mean over its structures,
                   each of which counts the voxels near it (prediction or reference, dilated twice) as in metrics.csv

A curve is all that a case contributes, so that fits on any set of cases need no probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medsegdiff_auto.evaluation.calibration import negative_log_likelihood, relevant_mask
from medsegdiff_auto.nnunet.structures import Structure
from medsegdiff_auto.decision.temperature import at_temperature
from medsegdiff_auto.overlap import mean_without_nan

TEMPERATURES = np.geomspace(0.5, 4, 25).round(4)  # as many digits as a command line shows
UNCHANGED = 8  # TEMPERATURES[8] is 1


def nll_by_temperature(probabilities: np.ndarray, prediction: np.ndarray, reference: np.ndarray,
                       structures: Sequence[Structure], regions: bool, ignore_label: int | None = None) -> np.ndarray:
    """The curve of one case; NaN where none of the structures is predicted or in the reference.

    Args:
        probabilities: fused, (K, *spatial) in [0, 1].
        prediction, reference: label maps (*spatial).
        ignore_label: of the reference; its voxels do not count.
    """
    valid = reference != ignore_label if ignore_label is not None else np.ones(reference.shape, bool)
    masks = [relevant_mask(s.mask(reference) & valid, s.mask(prediction) & valid) & valid for s in structures]
    near = np.logical_or.reduce(masks)
    p, truth = probabilities[:, near], reference[near]
    curve = []
    for temperature in TEMPERATURES:
        tempered = at_temperature(p, float(temperature), regions)
        curve.append([negative_log_likelihood(tempered[s.channel][mask[near]], s.mask(truth)[mask[near]])
                      for s, mask in zip(structures, masks) if mask.any()])
    return np.mean(curve, axis=1) if near.any() else np.full(len(TEMPERATURES), np.nan)


def best_temperature(curves: np.ndarray) -> int:
    """Number of the temperature with the lowest mean over cases, curves (num_cases, 25); 1 where none has a structure.
    """
    scored = curves[~np.isnan(curves).any(1)]
    return int(np.argmin(scored.mean(0))) if len(scored) else UNCHANGED


def lowest_nll(curves: np.ndarray) -> float:
    """Mean negative log-likelihood over cases at their best temperature, in nats."""
    return mean_without_nan(curves[:, best_temperature(curves)])


def fit_temperature(curves: np.ndarray) -> tuple[float, dict[str, float]]:
    """The temperature of the cases, and what it is worth on cases that it is not fitted on.

    It is fitted on every second case and judged on the others, and the other way round. Where it does not lower the
    negative log-likelihood there, or there are fewer than two cases to try that, it is 1.

    Returns:
        T, and the mean negative log-likelihoods ``as drawn`` (T = 1), ``unseen`` (each half under the other's T) in
        nats.
    """
    scored = curves[~np.isnan(curves).any(1)]
    if len(scored) < 2:
        return 1.0, {}
    halves = (scored[::2], scored[1::2])
    unseen = [values[best_temperature(other)] for own, other in zip(halves, halves[::-1]) for values in own]
    nll = {"as drawn": float(scored[:, UNCHANGED].mean()), "unseen": float(np.mean(unseen))}
    return (float(TEMPERATURES[best_temperature(scored)]) if nll["unseen"] < nll["as drawn"] else 1.0), nll
