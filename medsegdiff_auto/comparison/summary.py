"""What a comparison found, as numbers for ``summary.json``: means, differences to the reference, ranks, calibration.

Structures are named as in the dataset; ``all`` is the mean over the structures of a case. Of one metric and structure,
p is corrected by Holm for the methods that are compared with the reference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from medsegdiff_auto.comparison.measured import ALL, Measured
from medsegdiff_auto.comparison.quality import estimates_of
from medsegdiff_auto.comparison.targets import answers
from medsegdiff_auto.decision.sizes import SIZE_COLUMNS, interval_check
from medsegdiff_auto.evaluation.bootstrap import CONFIDENCE
from medsegdiff_auto.evaluation.metrics_table import explanation
from medsegdiff_auto.evaluation.paired import compare_paired
from medsegdiff_auto.evaluation.score import columns
from medsegdiff_auto.evaluation.scores.interval import WIDTH
from medsegdiff_auto.evaluation.statistics import (FEW_CASES, holm, mean_with_interval, rank_shares, wilcoxon_p,
                                                   wins_ties_losses)

OF_INTERVALS = [*dict.fromkeys(map(interval_check, SIZE_COLUMNS)), WIDTH.name]
BESIDE = ["expected_dice_between_samples", "expected_dice_sample_reference", "ged_floor"]  # measured, not judged


def summarised(measured: Measured, task: str, tolerance_mm: float) -> dict[str, Any]:
    """All numbers of the comparison; what does not exist is None."""
    methods, structures = measured.methods, structures_of_table(measured)
    means = means_of(measured, structures)
    differences = {structure: differences_of(measured, structure) for structure in structures}
    estimates = estimates_of(measured)
    num_units = len({measured.patients.of_case[case] for case in measured.cases})
    return without_nan(explanation(measured.metrics, tolerance_mm) | {
        "task": task, "reference": methods.reference, "ours": methods.ours, "structures": structures,
        "methods": {name: methods.facts[name].known if name in methods.facts else {} for name in methods.names},
        "num_cases": len(measured.cases), "num_patients": num_units, "patients": measured.patients.how,
        "cases_of_methods": {name: len(measured.cases_of[name]) for name in methods.names},
        "warnings": warnings_of(measured, num_units, differences[ALL]),
        "targets": answers(measured, means[ALL], estimates),
        "means": means, "differences": differences,
        "ranks": {structure: ranks_of(measured, structure) for structure in structures},
        "pooled_ece": pooled_ece(measured), "estimates": estimates,
        "statistics": f"{CONFIDENCE:.0%} percentile bootstrap over patients; two-sided Wilcoxon signed-rank test, "
                      "corrected by Holm for the methods of a metric; resolved: the interval excludes 0, of at least "
                      "six patients",
    })


def structures_of_table(measured: Measured) -> list[str]:
    """``all``, and the single structures where there are several."""
    return [ALL, *(measured.structures if len(measured.structures) > 1 else [])]


def means_of(measured: Measured, structures: Sequence[str]) -> dict[str, dict[str, dict[str, dict]]]:
    """``{structure: {metric: {method: mean, interval, standard deviation, number}}}``."""
    shown = [*measured.compared(), *(name for name in [*OF_INTERVALS, *BESIDE] if name in measured.metrics)]

    def of(metric: str, method: str, structure: str) -> dict:
        return asdict(mean_with_interval(measured.units(metric, [method], structure)[0][:, 0]))

    return {structure: {metric: {method: of(metric, method, structure) for method in measured.methods.names
                                 if measured.knows(metric, method)} for metric in shown} for structure in structures}


def differences_of(measured: Measured, structure: str) -> dict[str, dict[str, dict]]:
    """``{metric: {method: method less reference}}`` of every method but the reference."""
    reference, found = measured.methods.reference, {}
    for metric in measured.compared():
        others = [name for name in measured.methods.names if name != reference and measured.knows(metric, name)]
        if not measured.knows(metric, reference) or not others:
            continue
        found[metric] = {name: difference_of(measured, metric, name, reference, structure) for name in others}
        for row, p in zip(found[metric].values(), holm([row["p"] for row in found[metric].values()])):
            row["p_holm"] = p
    return found


def difference_of(measured: Measured, metric: str, method: str, other: str, structure: str = ALL) -> dict:
    """A method less another, paired, with all that is said of it."""
    values, num_left_out = measured.units(metric, [method, other], structure)
    first, second = values.T
    compared = compare_paired(first, second)
    more_is_better = way_of(metric)
    wins, ties, losses = wins_ties_losses(first, second, more_is_better)
    is_better = (compared.mean_difference > 0) == more_is_better
    return asdict(compared) | {"num_left_out": num_left_out, "wins": wins, "ties": ties, "losses": losses,
                               "p": wilcoxon_p(first, second), "is_resolved": compared.is_resolved,
                               "verdict": "not resolved" if not compared.is_resolved else
                               "better" if is_better else "worse"}


def ranks_of(measured: Measured, structure: str) -> dict[str, dict[str, dict]]:
    """``{metric: {method: rank, how often it has each rank}}`` of the methods that have all cases and the metric."""
    complete = [name for name in measured.methods.names if measured.cases_of[name] == set(measured.cases)]
    found = {}
    for metric in measured.compared():
        known = [name for name in complete if measured.knows(metric, name)]
        if len(known) > 1:
            ranks, shares = rank_shares(measured.units(metric, known, structure)[0], way_of(metric))
            found[metric] = {name: {"rank": float(rank), "shares": of_method.tolist()}
                             for name, rank, of_method in zip(known, ranks, shares)}
    return found


def pooled_ece(measured: Measured) -> dict[str, float]:
    """ECE over the voxels of all cases together, mean over the structures: what a temperature can mend."""
    found = {}
    for name in measured.methods.names:
        curves = [measured.reliability(name, structure) for structure in measured.structures]
        known = [curve.expected_calibration_error for curve in curves if curve is not None]
        if known:
            found[name] = float(np.nanmean(known))
    return found


def warnings_of(measured: Measured, num_units: int, differences: dict[str, dict[str, dict]]) -> list[str]:
    """What a reader must know before he believes an interval."""
    found = []
    if num_units < FEW_CASES:
        found.append(f"Independent patients: {num_units}. With fewer than {FEW_CASES} the intervals are narrower than "
                     "they say, and what is not resolved may well exist.")
    for name in measured.methods.names:
        missing = len(measured.cases) - len(measured.cases_of[name])
        if missing:
            found.append(f"{measured.methods.title(name)} has {missing} of {len(measured.cases)} cases less than all: "
                         "its differences are of the shared cases, its means are of its own, and it is not ranked.")
    for metric, of_metric in differences.items():
        most = max(row["num_left_out"] for row in of_metric.values())
        if most:
            found.append(f"{title_of(metric)}: up to {most} masks are left out of a difference, because one of the two "
                         "methods has no number there.")
    return found


def way_of(metric: str) -> bool:
    """Whether more is better."""
    return bool(next(one.more_is_better for one in columns() if one.name == metric))


def title_of(metric: str) -> str:
    """The name of a metric for readers."""
    return next((one.title for one in columns() if one.name == metric), metric)


def without_nan(value: Any) -> Any:
    """Content with None for every number that does not exist, as JSON wants it."""
    if isinstance(value, dict):
        return {key: without_nan(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(one) for one in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
