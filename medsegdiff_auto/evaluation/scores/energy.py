"""How good are the samples as a distribution? Proper scores: no other distribution does better on average than the one
that the references come from.

    S, S' = independent samples, Y = reference, v = size, all of one case and structure
    energy score    E d(S, Y) - 1/2 E d(S, S'),    d = 1 - IoU
    CRPS            E |v(S) - v(Y)| - 1/2 E |v(S) - v(S')|

Both by the fair estimator, pairs of different samples, which does not favour many or few of them. A method with one
answer is sure of it: its second term is 0. IoU is a strictly positive definite kernel, so that the truth alone scores
best; Dice is not (two distributions of masks may tie), and stays where a distance is read and not scored.
"""

from __future__ import annotations

import numpy as np

from medsegdiff_auto.decision.sizes import SIZE_COLUMNS
from medsegdiff_auto.evaluation.case import StructureOfCase
from medsegdiff_auto.evaluation.score import Column, Score
from medsegdiff_auto.overlap import pairwise_iou


def energy_score(samples: np.ndarray, references: np.ndarray) -> float:
    """The fair estimate (Gneiting and Raftery 2007; Ferro 2014) of masks `(num_masks, *spatial)`, in [-1/2, 1], a mean
    over the references; 0 is sure and right.
    """
    return _score(1 - pairwise_iou(samples, references), 1 - pairwise_iou(samples, samples))


def crps(sizes: np.ndarray, references: np.ndarray) -> float:
    """The fair continuous ranked probability score of sampled sizes `(num_samples,)`, in their unit, a mean over the
    references `(num_references,)`.
    """
    sizes, references = (np.asarray(values, dtype=np.float64) for values in (sizes, references))
    return _score(np.abs(sizes[:, None] - references), np.abs(sizes[:, None] - sizes))


def _score(to_references: np.ndarray, between: np.ndarray) -> float:
    num_pairs = len(between) * (len(between) - 1)
    return float(to_references.mean() - (between.sum() / num_pairs / 2 if num_pairs else 0.0))


def crps_column(size_column: str) -> str:
    """Name of the column of the score of sizes, such as ``volume_crps_ml``."""
    return "{}_crps_{}".format(*size_column.split("_"))


def values(found: StructureOfCase) -> dict[str, float]:
    """Both; against all raters where there are several."""
    references = found.reference[None] if found.raters is None else found.raters
    sizes, of_references = (masks.reshape(len(masks), -1).sum(1) * found.grid.size_of_voxel
                            for masks in (found.samples, references))
    return {ENERGY.name: energy_score(found.samples, references),
            crps_column(found.grid.size_column): crps(sizes, of_references)}


ENERGY = Column("energy_score", "Energy score", best=0, is_printed=True)
SCORE = Score((ENERGY, *(Column(crps_column(column), f"CRPS of the {kind} ({unit})", best=0, decimals=decimals)
                         for column, (kind, unit, decimals) in SIZE_COLUMNS.items())), values,
              "1 - mean IoU of sample and reference, minus half of 1 - mean IoU of two samples; the same of sizes and "
              "their absolute differences", "two empty masks have IoU 1, an empty mask has size 0",
              "Gneiting and Raftery 2007, fair as in Ferro 2014", rank=65, needs=("samples",))
