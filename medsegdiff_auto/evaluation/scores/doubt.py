"""Does the uncertainty find the wrong voxels, and what does the prediction say of itself?"""

from __future__ import annotations

from medsegdiff_auto.evaluation.calibration import error_detection_auroc, reliability
from medsegdiff_auto.evaluation.case import StructureOfCase
from medsegdiff_auto.evaluation.score import Column, Score

NUM_BINS = 2000  # of the uncertainty: voxels of one bin count as equally unsure


def values(found: StructureOfCase) -> dict[str, float]:
    """Area under the curve near the structure, and the mean at the prediction, both in [0, 1]."""
    wrong = found.prediction[found.near] != found.reference[found.near]
    own = found.own_uncertainty
    return {AUROC.name: error_detection_auroc(reliability(found.near_uncertainty, wrong, NUM_BINS)),
            MEAN.name: float(own.mean()) if own.size else float("nan")}


AUROC = Column("error_auroc", "errors found (AUROC)", best=1, place=83)
MEAN = Column("mean_uncertainty", "mean uncertainty", place=84)
SCORE = Score((AUROC, MEAN), values,
              "P(uncertainty of a wrong voxel > that of a right one) on prediction or reference dilated twice, ties "
              "count one half (0.5 is chance); mean uncertainty on the prediction dilated twice; uncertainty is the "
              "saved map, else the normalised entropy of the probabilities",
              "without both wrong and right voxels, or with an empty prediction: NaN, left out of the mean",
              "Hanley and McNeil 1982", rank=44, needs=("near_uncertainty",))
