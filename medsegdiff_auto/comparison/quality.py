"""Does a method know how good its masks are? Estimates of their Dice against the Dice that they had.

    expected_dice                   what cases.csv says: fitted, or of the samples
    expected_dice_between_samples   mean Dice of two samples; of a plain network with several folds, of two folds
    soft_dice                       what the probabilities promise
    certainty                       1 - mean uncertainty at the mask: an order, no Dice, so without an error

AURC: area under the risk-coverage curve of 1 - Dice, beside that of a perfect order (best) and of none (random).
Intervals are of resampled patients.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from medsegdiff_auto.comparison.measured import Measured
from medsegdiff_auto.evaluation.bootstrap import interval_of, resampled
from medsegdiff_auto.evaluation.paired import FEWEST_CASES
from medsegdiff_auto.evaluation.risk_coverage import aurc, best_aurc

CERTAINTY = "certainty"
ESTIMATES = {"expected_dice": "expected Dice", "expected_dice_between_samples": "Dice between samples",
             "soft_dice": "soft Dice", CERTAINTY: "1 - mean uncertainty"}
NUM_RESAMPLES = 1000


@dataclass(frozen=True, eq=False)
class Judged:
    """Masks with an estimate and a Dice, (n,) each, and their patients."""

    estimates: np.ndarray
    dice: np.ndarray
    patients: np.ndarray

    def risk_area(self, rows: np.ndarray | slice = slice(None)) -> float:
        """AURC of these rows."""
        return aurc(self.estimates[rows], 1 - self.dice[rows])

    def correlation(self, rows: np.ndarray | slice = slice(None)) -> float:
        """Pearson's; NaN where either is the same for all."""
        one, other = self.estimates[rows], self.dice[rows]
        return float(np.corrcoef(one, other)[0, 1]) if np.ptp(one) > 0 and np.ptp(other) > 0 else float("nan")

    def error(self, rows: np.ndarray | slice = slice(None)) -> float:
        """Mean absolute error."""
        return float(np.abs(self.estimates[rows] - self.dice[rows]).mean())

    def with_interval(self, statistic: Callable[..., float]) -> dict[str, float]:
        """A statistic with its interval."""
        low, high = interval_of(resampled(statistic, self.patients, NUM_RESAMPLES))
        return {"value": statistic(), "low": low, "high": high}


def judged(measured: Measured, method: str, estimate: str) -> Judged | None:
    """The masks of a method that have both an estimate and a Dice; None where there is none."""
    column = "mean_uncertainty" if estimate == CERTAINTY else estimate
    if not (measured.knows(column, method) and measured.knows("dice", method)):
        return None
    estimates, dice = measured.wide(column)[method], measured.wide("dice")[method]
    known = (estimates.notna() & dice.notna()).to_numpy()
    if not known.any():
        return None
    patients = np.array([measured.patients.of_case[case] for case, _ in dice.index[known]])
    values = estimates.to_numpy()[known]
    return Judged(1 - values if estimate == CERTAINTY else values, dice.to_numpy()[known], patients)


def estimates_of(measured: Measured) -> dict[str, dict[str, dict]]:
    """``{method: {estimate: numbers}}``: correlation, absolute error and AURC with intervals; best and random AURC."""
    table: dict[str, dict[str, dict]] = {}
    for method in measured.methods.names:
        for estimate in ESTIMATES:
            found = judged(measured, method, estimate)
            if found is not None:
                of_estimate = {"num_masks": len(found.dice), "pearson": found.with_interval(found.correlation),
                               "aurc": found.with_interval(found.risk_area),
                               "best_aurc": best_aurc(1 - found.dice), "random_aurc": float(1 - found.dice.mean())}
                if estimate != CERTAINTY:
                    of_estimate["absolute_error"] = found.with_interval(found.error)
                table.setdefault(method, {})[estimate] = of_estimate
    return table


@dataclass(frozen=True)
class AreaDifference:
    """AURC of one method less that of another, with its interval over the patients that both judged."""

    mean_difference: float
    low: float
    high: float
    num_cases: int

    @property
    def is_resolved(self) -> bool:
        """The interval excludes 0, of enough patients."""
        return self.num_cases >= FEWEST_CASES and (self.low > 0 or self.high < 0)


def area_difference(first: Judged, second: Judged) -> AreaDifference:
    """Draws patients once for both; each keeps the order and the risks of its own masks."""
    patients = np.intersect1d(first.patients, second.patients)
    rows = {side: [np.flatnonzero(side.patients == one) for one in patients] for side in (first, second)}

    def difference(drawn: np.ndarray) -> float:
        areas = [side.risk_area(np.concatenate([of_side[one] for one in drawn])) for side, of_side in rows.items()]
        return areas[0] - areas[1]

    everyone = np.arange(len(patients))
    low, high = interval_of(resampled(difference, everyone, NUM_RESAMPLES))
    return AreaDifference(difference(everyone), low, high, len(patients))


def best_estimate(of_method: dict[str, dict], stated_first: bool = False) -> str | None:
    """The estimate of the smallest AURC, or the stated expected Dice where there is one; None without any."""
    if stated_first and "expected_dice" in of_method:
        return "expected_dice"
    return min(of_method, key=lambda one: of_method[one]["aurc"]["value"], default=None)
