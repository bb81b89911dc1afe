"""Are the samples of one structure as the masks of several raters?

S, S' = independent samples, Y, Y' = independent references; all masks are boolean `(num_masks, *spatial)`.
Two empty masks agree perfectly here (IoU = 1), because a distance must vanish between equal masks.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import linear_sum_assignment

from medsegdiff_auto.evaluation.score import Column, Score
from medsegdiff_auto.overlap import pairwise_iou


def generalised_energy_distance(samples: np.ndarray, references: np.ndarray) -> float:
    """Squared GED 2 E d(S, Y) - E d(S, S') - E d(Y, Y') with d = 1 - IoU, over all pairs including equal ones.

    Source: Kohl et al. 2018. With all pairs the finite sums cannot reach 0: see :func:`energy_distance_floor`.
    """
    return float(2 * _pairwise_distance(samples, references).mean() - _pairwise_distance(samples, samples).mean()
                 - _pairwise_distance(references, references).mean())


def energy_distance_floor(mean_distance: float, num_samples: int, num_references: int) -> float:
    """What a perfect sampler scores on average: D (1/n + 1/m), D = E d(Y, Y') over different references."""
    return mean_distance * (1 / num_samples + 1 / num_references)


def mean_distance_between(masks: np.ndarray) -> float:
    """D = mean of 1 - IoU over all pairs of different masks; NaN with fewer than two."""
    if len(masks) < 2:
        return float("nan")
    return float(_pairwise_distance(masks, masks)[~np.eye(len(masks), dtype=bool)].mean())


def matched_iou(samples: np.ndarray, references: np.ndarray) -> float:
    """Mean IoU of the best one-to-one matching of samples and references, in [0, 1] (Kohl et al. 2019).

    Both sets are repeated to the least common multiple of their sizes, so that each mask of a set weighs the same.
    """
    n, m = len(samples), len(references)
    num = math.lcm(n, m)
    iou = 1 - np.tile(_pairwise_distance(samples, references), (num // n, num // m))
    return float(iou[linear_sum_assignment(-iou)].mean())


def _pairwise_distance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return 1 - pairwise_iou(first, second)


def compared(samples: np.ndarray, raters: np.ndarray) -> dict[str, float]:
    """Squared energy distance, matching and diversities."""
    diversity = mean_distance_between(raters)
    return {"ged": generalised_energy_distance(samples, raters), "matched_iou": matched_iou(samples, raters),
            "sample_diversity": mean_distance_between(samples), "rater_diversity": diversity,
            "ged_floor": energy_distance_floor(diversity, len(samples), len(raters))}


SCORE = Score((Column("ged", "GED²", best=0, is_printed=True), Column("matched_iou", "matched IoU", best=1),
               Column("sample_diversity", "sample diversity"), Column("rater_diversity", "rater diversity"),
               Column("ged_floor", "GED² of perfect samples")), lambda found: compared(found.samples, found.raters),
              "GED with 1 - IoU, all pairs, and what a perfect sampler scores on average (ged_floor); IoU of the best "
              "one-to-one matching of samples and raters; diversity: mean 1 - IoU over pairs of different masks",
              "two empty masks have distance 0", "Kohl et al. 2018 and 2019", rank=70, needs=("samples", "raters"),
              libraries=("scipy",))
