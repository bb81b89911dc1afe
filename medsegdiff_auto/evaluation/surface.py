"""Agreement of two surfaces: NSD and HD95 by DeepMind's ``surface-distance``, in 2-D and 3-D.

Policy: both masks empty, NSD and HD95 are NaN; one mask empty, NSD is 0 and HD95 (a distance to nothing) is NaN.
NaN is left out of every mean, so a table of HD95 means little without the number of cases behind it.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from surface_distance import metrics


@dataclass(frozen=True)
class SurfaceAgreement:
    """``nsd`` in [0, 1]; ``hd95_mm`` in the unit of the spacing (mm, or pixels for images without one)."""

    nsd: float
    hd95_mm: float


def surface_agreement(reference: np.ndarray, prediction: np.ndarray, spacing_mm: Sequence[float],
                      tolerance_mm: float) -> SurfaceAgreement:
    """Normalised surface Dice at ``tolerance_mm`` and the 95th percentile of the Hausdorff distance of two boolean masks.

    ``spacing_mm`` holds one value per array axis, in the order of the axes. HD95 is the larger of the two directed ones.
    """
    if not reference.any() or not prediction.any():
        both_empty = not reference.any() and not prediction.any()
        return SurfaceAgreement(float("nan") if both_empty else 0.0, float("nan"))
    distances = _surface_distances(reference, prediction, spacing_mm)
    return SurfaceAgreement(float(metrics.compute_surface_dice_at_tolerance(distances, tolerance_mm)),
                            float(metrics.compute_robust_hausdorff(distances, 95)))


def _surface_distances(reference: np.ndarray, prediction: np.ndarray, spacing_mm: Sequence[float]) -> dict:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # version 0.1 calls scipy.ndimage by its former module names
        return metrics.compute_surface_distances(reference, prediction, tuple(spacing_mm))
