"""Fits :mod:`~medsegdiff_auto.decision.quality` on the masks of cases that a fold has not seen.

Where a structure is in the mask its Dice with the reference is regressed; a mask of nothing has no doubt to be judged
by. Structures share the coefficients and have an intercept each, all shrunk by ridge: a few dozen cases resolve no
more. What a fit is worth is measured on cases left out of it, a fifth at a time: the size is a part of it where they
resolve that it helps, and the whole is taken where it is nearer to the real Dice than what the samples say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from medsegdiff_auto.decision.conformal import conformal_margin
from medsegdiff_auto.decision.quality import QualityFit, features
from medsegdiff_auto.evaluation.paired import compare_paired

FEWEST_CASES, PARTS, RIDGE = 10, 5, 3.0


@dataclass(frozen=True)
class JudgedMask:
    """A structure's mask of a case whose reference is known.

    Attributes:
        soft_dice, size: of :mod:`~medsegdiff_auto.decision.quality`, the size in the unit of the tables.
        from_samples: mean Dice between the mask and the samples.
        dice: with the reference; 0 where that has no such structure.
    """

    case: str
    structure: str
    soft_dice: float
    size: float
    from_samples: float
    dice: float


def fit_quality(masks: Sequence[JudgedMask]) -> QualityFit | None:
    """The regression; None where there are fewer than :data:`FEWEST_CASES` cases, or where it is no better than the
    samples on cases that are left out of it. Empty masks do not count.
    """
    masks = [mask for mask in masks if mask.size > 0]
    cases = [mask.case for mask in masks]
    if len(set(cases)) < FEWEST_CASES:
        return None
    names = list(dict.fromkeys(mask.structure for mask in masks))
    values = np.array([[*features(mask.soft_dice, mask.size), *(mask.structure == name for name in names[1:])]
                       for mask in masks], float)
    dice = np.array([mask.dice for mask in masks])
    without_size = values * [1, 0, *[1] * (len(names) - 1)]
    unseen, of_both = (_unseen(chosen, dice, cases) for chosen in (without_size, values))
    if _is_nearer(of_both, unseen, dice, cases):
        unseen = of_both
    else:
        values = without_size
    error = float(np.abs(unseen - dice).mean())
    error_of_samples = float(np.abs([mask.from_samples - mask.dice for mask in masks]).mean())
    if error >= error_of_samples:
        return None
    scaler, ridge = _regression(values, dice)
    slopes = ridge.coef_ / scaler.scale_
    first = float(ridge.intercept_ - slopes @ scaler.mean_)
    intercepts = {name: first + float(offset) for name, offset in zip(names, [0.0, *slopes[2:]])}
    margin = conformal_margin((unseen - dice).tolist())
    correlation = float(np.corrcoef(unseen, dice)[0, 1]) if unseen.std() and dice.std() else float("nan")
    return QualityFit(intercepts, float(slopes[0]), float(slopes[1]), float("nan") if margin is None else margin,
                      correlation, error, error_of_samples, len(set(cases)))


def _unseen(values: np.ndarray, dice: np.ndarray, cases: list[str]) -> np.ndarray:
    """Estimates (n,) of every mask by a regression without its case."""
    unseen = np.empty(len(dice))
    for fitted, left_out in GroupKFold(PARTS).split(values, dice, cases):
        unseen[left_out] = _regression(values[fitted], dice[fitted]).predict(values[left_out]).clip(0, 1)
    return unseen


def _is_nearer(first: np.ndarray, second: np.ndarray, dice: np.ndarray, cases: list[str]) -> bool:
    """Whether the cases resolve that the first estimates are off by less than the second."""
    of_case = [np.array(cases) == case for case in dict.fromkeys(cases)]
    off = [[float(np.abs(estimates - dice)[mask].mean()) for mask in of_case] for estimates in (first, second)]
    found = compare_paired(*off)
    return found.is_resolved and found.mean_difference < 0


def _regression(values: np.ndarray, dice: np.ndarray):
    return make_pipeline(StandardScaler(), Ridge(RIDGE)).fit(values, dice)
