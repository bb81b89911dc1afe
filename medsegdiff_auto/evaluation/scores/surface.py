"""Agreement of two surfaces: NSD and HD95 by DeepMind's ``surface-distance``, in 2-D and 3-D."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from surface_distance import metrics

from medsegdiff_auto.evaluation.case import StructureOfCase
from medsegdiff_auto.evaluation.score import Column, Score


@dataclass(frozen=True)
class SurfaceAgreement:
    """``nsd`` in [0, 1]; ``hd95_mm`` in the unit of the spacing (mm, or pixels for images without one)."""

    nsd: float
    hd95_mm: float


def surface_agreement(reference: np.ndarray, prediction: np.ndarray, spacing_mm: Sequence[float],
                      tolerance_mm: float) -> SurfaceAgreement:
    """Normalised surface Dice at ``tolerance_mm`` and 95th percentile of the Hausdorff distance of two boolean masks.

    ``spacing_mm`` holds one value per array axis, in their order. HD95 is the larger of the two directed ones.
    """
    if not reference.any() or not prediction.any():
        both_empty = not reference.any() and not prediction.any()
        return SurfaceAgreement(float("nan") if both_empty else 0.0, float("nan"))
    distances = _surface_distances(reference, prediction, spacing_mm)
    return SurfaceAgreement(float(metrics.compute_surface_dice_at_tolerance(distances, tolerance_mm)),
                            float(metrics.compute_robust_hausdorff(distances, 95)))


def _surface_distances(reference: np.ndarray, prediction: np.ndarray, spacing_mm: Sequence[float]) -> dict:
    with warnings.catch_warnings():
        # version 0.1 calls scipy.ndimage by its former module names
        warnings.simplefilter("ignore", DeprecationWarning)
        return metrics.compute_surface_distances(reference, prediction, tuple(spacing_mm))


def values(found: StructureOfCase) -> dict[str, float]:
    """NSD in [0, 1]; HD95 in mm, or in pixels without a spacing."""
    agreement = surface_agreement(found.reference, found.prediction, found.grid.spacing_mm, found.tolerance_mm)
    return {"nsd": agreement.nsd, "hd95_mm" if found.grid.has_spacing else "hd95_px": agreement.hd95_mm}


NSD = Column("nsd", "NSD", best=1, place=20, tile=("NSD", "surface Dice at {tolerance}"), is_printed=True)
HD95 = [Column(f"hd95_{unit}", f"HD95 ({unit})", best=0, decimals=2, place=30, is_printed=True)
        for unit in ("mm", "px")]
SCORE = Score((NSD, *HD95), values,
              "surface Dice at {tolerance}, and the larger of the directed 95th percentiles of the surface distance",
              "both masks empty: NaN, left out of the mean; one empty: NSD 0, HD95 NaN", "surface-distance by DeepMind",
              rank=20, libraries=("surface-distance",))
