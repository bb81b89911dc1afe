"""Are the samples true? Joint samples of one structure against one or several references.

S, S' = independent samples, Y, Y' = independent references; all masks are boolean `(num_masks, *spatial)`.
Samples are right when the reference could hide among them: E Dice(S, S') = E Dice(S, Y), and the volume of the reference
falls into the samples' interval as often as the interval says.
Two empty masks agree perfectly here (Dice = IoU = 1), because a distance must vanish between equal masks.
"""

import math

import numpy as np
from scipy.optimize import linear_sum_assignment

from medsegdiff_auto.overlap import expected_dice_between_samples, pairwise_counts, pairwise_dice

INTERVAL = (0.05, 0.95)


def expected_dice_sample_reference(samples: np.ndarray, references: np.ndarray) -> float:
    """Mean Dice over all pairs of a sample `(num_samples, *spatial)` and a reference `(num_references, *spatial)`."""
    return float(pairwise_dice(samples, references).mean())


def dispersion_gap(samples: np.ndarray, references: np.ndarray) -> float:
    """E Dice(S, S') - E Dice(S, Y): above 0, the samples are too much alike; 0 for a perfect sampler."""
    return expected_dice_between_samples(samples) - expected_dice_sample_reference(samples, references)


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
    """Mean IoU of the best one-to-one matching of samples and references, in [0, 1] (Hungarian-matched IoU, Kohl et al. 2019).

    Both sets are repeated to the least common multiple of their sizes, so that each sample and each reference weighs the same.
    """
    n, m = len(samples), len(references)
    num = math.lcm(n, m)
    iou = 1 - np.tile(_pairwise_distance(samples, references), (num // n, num // m))
    return float(iou[linear_sum_assignment(-iou)].mean())


def size_interval(sizes: np.ndarray, interval: tuple[float, float] = INTERVAL) -> tuple[float, float]:
    """The quantiles (5 and 95 %) of the samples' sizes, interpolated linearly between the order statistics."""
    low, high = np.quantile(np.asarray(sizes, dtype=np.float64), interval)
    return float(low), float(high)


def nominal_coverage(num_samples: int, interval: tuple[float, float] = INTERVAL) -> float:
    """How often the interval of ``num_samples`` perfect samples holds the reference: (high - low) (n - 1) / (n + 1).

    Exact for uniform sizes, since the k-th of n order statistics then has mean k / (n + 1). Far below 90 % for few samples.
    """
    return (interval[1] - interval[0]) * (num_samples - 1) / (num_samples + 1)


def _pairwise_distance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    shared, total = pairwise_counts(first, second)
    union = total - shared
    return 1 - np.divide(shared, union, out=np.ones_like(shared), where=union > 0)
