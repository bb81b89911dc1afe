"""The last words of a chain: where masks, model and report are, what is calibrated, and what comes next."""

from __future__ import annotations

import shlex

from medsegdiff_auto.chain.steps import Chain, new_cases
from medsegdiff_auto.decision.fitted_sampling import FittedSampling, read_fitted_sampling


def conclusion(chain: Chain) -> str:
    """One block, after the last command."""
    request, number, final = chain.training, len(new_cases(chain)), chain.place.predictions[1]
    further = ["medsegdiff_predict", "-i", "MORE_IMAGES", "-o", "MORE_MASKS", "-m", str(chain.model), "-f",
               *map(str, request.folds), "-device", request.device, "--save_uncertainty", "--save_samples"]
    rows = [("Masks", f"{final}, of {number} images, with uncertainty, samples and cases.csv" if number else
             "none: --new IMAGES predicts some, in the same line"), ("Model", str(chain.model)),
            ("Report", str(chain.place.report)), ("Fitted", calibration_words(read_fitted_sampling(chain.model))),
            ("By hand", str(chain.place.commands)), ("Next", shlex.join(further))]
    return "\n".join(["", *(f"{f'{name}:':<9}{words}" for name, words in rows)])


def calibration_words(fitted: FittedSampling | None) -> str:
    """What the cases were enough for."""
    if fitted is None:
        return "nothing: the samples are as planned, their intervals and expected scores are no estimates"
    lacking = [what for what, is_there in (("intervals of volumes", bool(fitted.volume_margins)),
                                           ("expected Dice", fitted.quality is not None)) if not is_there]
    return f"on {fitted.num_cases} cases" + (
        f"; too few for {' and '.join(lacking)}, which stay those of the samples and are no estimates" if lacking
        else "")
