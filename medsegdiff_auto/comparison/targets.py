"""What a comparison has to show, each answered yes, no or not resolved, with its interval.

    not below, not worse    yes where the whole interval of the difference is on the good side of the limit, no where it
                            is on the bad side
    better                  yes where the difference is resolved in favour, no where it is against
    within                  no where the interval of the share lies outside the limits; yes where the share lies within,
                            of at least 50 patients
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from medsegdiff_auto.comparison.measured import Measured
from medsegdiff_auto.comparison.quality import ESTIMATES, area_difference, best_estimate, judged
from medsegdiff_auto.decision.sizes import SIZE_COLUMNS, interval_check
from medsegdiff_auto.evaluation.paired import FEWEST_CASES, compare_paired
from medsegdiff_auto.evaluation.score import columns
from medsegdiff_auto.evaluation.scores.energy import crps_column
from medsegdiff_auto.evaluation.scores.interval import WIDTH
from medsegdiff_auto.evaluation.statistics import FEW_CASES

YES, NO, OPEN, UNKNOWN = "yes", "no", "not resolved", "not measured"
POINTS_BELOW = 0.003
COVERAGE = (0.86, 0.94)
NORMAL_QUANTILE = 1.959964


@dataclass(frozen=True)
class Answer:
    """One target: of what it is asked, the answer, and the number behind it with its interval."""

    target: str
    against: str
    answer: str
    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    num: int = 0


def answers(measured: Measured, means: dict[str, dict[str, dict]], estimates: dict[str, dict[str, dict]]) -> list[dict]:
    """All targets for the first method.

    Args:
        means: of all structures together, by metric and method; estimates: of the masks' Dice, by method.
    """
    methods = measured.methods
    found = [not_worse(measured, metric, methods.reference, POINTS_BELOW) for metric in ("dice", "nsd")]
    found += [not_worse(measured, metric, methods.at_temperature, 0.0) for metric in ("ece", "nll")]
    crps = next((crps_column(size) for size in SIZE_COLUMNS if crps_column(size) in measured.metrics), None)
    found += [better(measured, metric, means) for metric in ("energy_score", crps) if metric]
    found += [surer(measured, estimates), within(measured, means), narrower(measured)]
    return [asdict(one) for one in found]


def not_worse(measured: Measured, metric: str, other: str, margin: float) -> Answer:
    """Ours is not worse than another method by more than the margin."""
    column = next(one for one in columns() if one.name == metric)
    target = (f"{column.title} not below by {100 * margin:g} points" if margin else f"{column.title} not worse")
    ours, title = measured.methods.ours, measured.methods.title(other)
    if other == ours or not (measured.knows(metric, ours) and measured.knows(metric, other)):
        return Answer(target, title, UNKNOWN)
    found = compare_paired(*measured.units(metric, [ours, other])[0].T)
    low, high = (found.low, found.high) if column.more_is_better else (-found.high, -found.low)
    enough = found.num_cases >= FEWEST_CASES
    answer = YES if enough and low >= -margin else NO if enough and high < -margin else OPEN
    return Answer(target, title, answer, found.mean_difference, found.low, found.high, found.num_cases)


def better(measured: Measured, metric: str, means: dict[str, dict[str, dict]]) -> Answer:
    """Ours is better than the best plain method by a score of which less is better."""
    target, ours = f"{next(one.title for one in columns() if one.name == metric)} better", measured.methods.ours
    plain = [name for name in measured.methods.plain if measured.knows(metric, name)]
    if not plain or not measured.knows(metric, ours):
        return Answer(target, "the best plain method", UNKNOWN)
    best = min(plain, key=lambda name: means[metric][name]["mean"])
    found = compare_paired(*measured.units(metric, [ours, best])[0].T)
    return Answer(target, measured.methods.title(best), _resolved(found), found.mean_difference, found.low, found.high,
                  found.num_cases)


def surer(measured: Measured, estimates: dict[str, dict[str, dict]]) -> Answer:
    """The expected Dice of ours orders its masks better than the best estimate of the best plain method does its own.
    """
    methods, target = measured.methods, "AURC of the expected Dice better"
    ours = best_estimate(estimates.get(methods.ours, {}), stated_first=True)
    rows = [(name, one) for name in methods.plain for one in estimates.get(name, {})]
    if ours is None or not rows:
        return Answer(target, "the best plain method", UNKNOWN)
    best, estimate = min(rows, key=lambda row: estimates[row[0]][row[1]]["aurc"]["value"])
    first, second = judged(measured, methods.ours, ours), judged(measured, best, estimate)
    assert first is not None and second is not None, (ours, estimate)
    found = area_difference(first, second)
    return Answer(target, f"{methods.title(best)}, {ESTIMATES[estimate]}", _resolved(found), found.mean_difference,
                  found.low, found.high, found.num_cases)


def within(measured: Measured, means: dict[str, dict[str, dict]]) -> Answer:
    """The 90 % intervals of sizes hold about 90 % of the references."""
    low, high = COVERAGE
    target, ours = f"90 % intervals hold {low:.0%} to {high:.0%}", measured.methods.ours
    check = next((name for name in map(interval_check, SIZE_COLUMNS) if measured.knows(name, ours)), None)
    if check is None:
        return Answer(target, "the references", UNKNOWN)
    share, num = means[check][ours]["mean"], means[check][ours]["num"]
    bounds = share_interval(share, num)
    is_within = low <= share <= high and num >= FEW_CASES
    answer = NO if bounds[0] > high or bounds[1] < low else YES if is_within else OPEN
    return Answer(target, "the references", answer, share, *bounds, num)


def narrower(measured: Measured) -> Answer:
    """The intervals of ours are narrower than those of the best plain method that has some."""
    target, ours = "intervals narrower", measured.methods.ours
    plain = [name for name in measured.methods.plain if measured.knows(WIDTH.name, name)]
    if not plain or not measured.knows(WIDTH.name, ours):
        return Answer(target, "a plain method's", UNKNOWN)
    best = min(plain, key=lambda name: float(measured.units(WIDTH.name, [name])[0].mean()))
    found = compare_paired(*measured.units(WIDTH.name, [ours, best])[0].T)
    return Answer(target, measured.methods.title(best), _resolved(found), found.mean_difference, found.low, found.high,
                  found.num_cases)


def share_interval(share: float, num: int) -> tuple[float, float]:
    """Wilson's 95 % interval (1927) of a share of n independent units; of all and of none it has a width."""
    z2 = NORMAL_QUANTILE**2
    middle = (share + z2 / (2 * num)) / (1 + z2 / num)
    half = NORMAL_QUANTILE / (1 + z2 / num) * math.sqrt(share * (1 - share) / num + z2 / (4 * num**2))
    return middle - half, middle + half


def _resolved(found) -> str:
    """Less is better."""
    return (YES if found.mean_difference < 0 else NO) if found.is_resolved else OPEN
