"""What is fitted on cases that neither the networks nor the fit of a judged fold may have seen.

Every fold's network sees only its own validation cases. What a fold is judged with is fitted on those of the other
folds, so that no case judged was trained on or fitted on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from medsegdiff_auto.decision.fitted_sampling import FittedSampling
from medsegdiff_auto.evaluation.audit import validation_cases
from medsegdiff_auto.inference.model import load_model
from medsegdiff_auto.inference.options import SamplingOptions
from medsegdiff_auto.inference.predictor import MedSegDiffPredictor
from medsegdiff_auto.selection.dispersion import Dispersion, FoldCases
from medsegdiff_auto.selection.sampling_fit import SamplingFit, fit_sampling
from medsegdiff_auto.selection.temperature_fit import fit_temperature

Value = TypeVar("Value")


def of_other_folds(of_folds: Mapping[int, Value], judged: int) -> list[Value]:
    """What belongs to all folds but the judged one, in their order."""
    return [value for fold, value in of_folds.items() if fold != judged]


def temperature_of_others(curves: Mapping[int, np.ndarray], judged: int) -> float:
    """The temperature for a fold, fitted on the curves (num_cases, 25) of all others; 1 where there is no other."""
    others = of_other_folds(curves, judged)
    return fit_temperature(np.concatenate(others))[0] if others else 1.0


def fold_cases(model_folder: Path, preprocessed_folder: Path, fold: int, options: SamplingOptions,
               device: torch.device, checkpoint_name: str, num_cases: int | None = None) -> FoldCases:
    """A fold's network as planned, without what is fitted, and the first or all of its validation cases.

    Raises:
        UserError: the fold is not trained, or its cases are not there.
    """
    model = load_model(model_folder, [fold], checkpoint_name, use_fitted=False)
    return FoldCases(MedSegDiffPredictor(model, options, device), model,
                     list(validation_cases(model, preprocessed_folder, fold))[:num_cases])


def fit_on(folds: Sequence[FoldCases], on_tried: Callable[[float, Dispersion], None] = lambda tau, found: None
           ) -> tuple[FittedSampling, SamplingFit]:
    """How to sample and fuse by the cases of these folds, as it is stored; and all that was tried."""
    fit, predictor = fit_sampling(folds, on_tried), folds[0].predictor
    at_best = fit.tried[fit.dispersion]
    checkpoints = {name: digest for fold in folds for name, digest in fold.model.checkpoints.items()}
    stored = FittedSampling(fit.dispersion, fit.weight, predictor.num_samples, predictor.num_steps,
                            sum(len(fold.cases) for fold in folds), at_best.between_samples, at_best.sample_reference,
                            fit.margins, fit.temperature, fit.quality, checkpoints)
    return stored, fit
