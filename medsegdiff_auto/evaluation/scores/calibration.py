"""Are the probabilities of a structure true, near it?"""

from __future__ import annotations

from medsegdiff_auto.evaluation.calibration import NUM_BINS, brier_score, negative_log_likelihood
from medsegdiff_auto.evaluation.case import StructureOfCase
from medsegdiff_auto.evaluation.score import Column, Score


def values(found: StructureOfCase) -> dict[str, float]:
    """Expected calibration error, Brier score and negative log-likelihood in nats."""
    p, y = found.near_probabilities, found.reference[found.near]
    return {"ece": found.reliability.expected_calibration_error, "brier": brier_score(p, y),
            "nll": negative_log_likelihood(p, y)}


ECE = Column("ece", "ECE", best=0, place=80, is_printed=True,
             tile=("Calibration error", "per-case ECE near the structures"))
SCORE = Score((ECE, Column("brier", "Brier", best=0, place=81), Column("nll", "NLL", best=0, place=82)), values,
              "the structure's probability on prediction or reference dilated twice; "
              f"ECE in {NUM_BINS} equal-width bins",
              "both masks empty: NaN, left out of the mean", "Naeini et al. 2015; Brier 1950",
              rank=40, needs=("probabilities",), libraries=("scipy",))
