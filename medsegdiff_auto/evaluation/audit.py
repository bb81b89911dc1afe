"""Does a model use its diffusion? State reliance and the no-diffusion twin, on the validation cases of a fold.

The denoiser is shown another state than the sampler's own at every step. Where the masks stay, they are drawn from the
image alone, and the diffusion is decoration. Scores alone do not tell: in two steps, the first of them shared, another
sample's state only makes the samples change places.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.evaluation.case import CaseArrays, StructureOfCase
from medsegdiff_auto.evaluation.case_files import Grid
from medsegdiff_auto.evaluation.score import evaluate_structure
from medsegdiff_auto.nnunet.dataset_files import read_splits
from medsegdiff_auto.nnunet.preprocessed import read_cases, require_data_folder
from medsegdiff_auto.nnunet.structures import Structure, ignore_label_of, structures_of
from medsegdiff_auto.planning.made_from import require_preprocessed
from medsegdiff_auto.training.folds import require_same_fold
from medsegdiff_auto.decision.decoder import by_mean, label_maps
from medsegdiff_auto.inference.model import TrainedModel
from medsegdiff_auto.inference.predictor import CaseDistribution, MedSegDiffPredictor
from medsegdiff_auto.decision.temperature import at_temperature
from medsegdiff_auto.overlap import dice

METRICS = ("dice", "ece", "nll", "expected_dice_between_samples", "expected_dice_sample_reference", "dice_to_own_state")
TOLERANCE_MM = 1.0


def shuffled(x_t: Tensor) -> Tensor:
    """Every sample's state goes to the next sample."""
    return x_t.roll(1, 0)


class FreshNoise:
    """Standard normal noise at every call, repeatable by its seed."""

    def __init__(self, seed: int):
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, x_t: Tensor) -> Tensor:
        return torch.randn(x_t.shape, generator=self.generator, dtype=torch.float64).to(x_t)


def interventions(seed: int) -> dict[str, Callable[[Tensor], Tensor] | None]:
    """What the denoiser is shown, by the name of the row."""
    return {"its own state": None, "another sample's state": shuffled, "fresh noise": FreshNoise(seed)}


def validation_cases(model: TrainedModel, preprocessed_folder: Path,
                     fold: int) -> Iterator[tuple[str, np.ndarray, np.ndarray, dict]]:
    """Case, image (C, *spatial), reference (*spatial) and properties of a fold's validation cases, on the network's
    grid.

    Raises:
        UserError: the data of the model's plan is not there, or the model is a cascade.
    """
    if model.configuration_manager.previous_stage_name is not None:
        raise UserError("A cascade cannot be judged by itself.", found=str(model.folder),
                        expected="a single-stage configuration", fix="take the configuration of its first stage")
    data_identifier = model.configuration_manager.data_identifier
    data_folder, splits = require_data_folder(preprocessed_folder, data_identifier), read_splits(preprocessed_folder)
    require_preprocessed(preprocessed_folder, model.plans_manager.plans, data_identifier, model.dataset_json)
    require_same_fold(model.folder, splits, fold)
    for case in read_cases(data_folder, splits[fold]["val"]):
        yield case.name, case.image, case.reference, case.properties


def scores(case: str, distribution: CaseDistribution, reference: np.ndarray, model: TrainedModel,
           conditioner_weight: float = 0.0, temperature: float = 1.0) -> list[dict]:
    """One row per structure: the mean of the samples (by default without the plain network) against the reference.

    The label map does not depend on the temperature of the probabilities. ``reliability`` are the bins behind ``ece``,
    which add up over cases.
    """
    label_manager = model.plans_manager.get_label_manager(model.dataset_json)
    mean = replace(distribution, conditioner_weight=conditioner_weight).fused

    def label_map(probabilities: Tensor) -> np.ndarray:
        return by_mean(probabilities.float(), label_manager)

    spacing = model.configuration_manager.spacing
    grid = Grid(reference.shape, (1.0,) * (reference.ndim - len(spacing)) + tuple(spacing), has_spacing=True)
    probabilities = at_temperature(mean.numpy(), temperature, label_manager.has_regions)
    arrays = CaseArrays(reference, label_map(mean), grid, probabilities,
                        np.stack([label_map(sample) for sample in distribution.samples]),
                        ignore_label=ignore_label_of(model.dataset_json))
    found = [StructureOfCase(arrays, structure, TOLERANCE_MM) for structure in structures_of(model.dataset_json)]
    return [{"case": case, "structure": one.structure.name, "reliability": one.reliability, **evaluate_structure(one)}
            for one in found]


def dice_to_own_state(samples: np.ndarray, own: np.ndarray, structure: Structure) -> float:
    """Mean Dice of each sample with the same sample under its own state; 1 where the state decides nothing.

    Args:
        samples, own: label maps, (num_samples, *spatial), in the same order.
    """
    return float(np.mean([dice(of_own, sample, both_empty=1.0)
                          for of_own, sample in zip(structure.mask(own), structure.mask(samples))]))


def audit_states(predictor: MedSegDiffPredictor, model: TrainedModel, preprocessed_folder: Path, fold: int,
                 num_cases: int | None, seed: int) -> list[dict]:
    """Rows of every intervention: ``state``, ``case``, ``structure`` and :data:`METRICS`; the same cases and noise for
    all.
    """
    rows, shown = [], interventions(seed)
    structures = structures_of(model.dataset_json)
    for case, image, reference, _ in islice(validation_cases(model, preprocessed_folder, fold), num_cases):
        own = None
        for name, intervention in shown.items():
            predictor.intervention = intervention
            drawn = predictor.sample_case(image, case)
            samples = label_maps(drawn.samples, predictor.label_manager)
            own = samples if own is None else own
            rows += [{"state": name, **row, "dice_to_own_state": dice_to_own_state(samples, own, structure)}
                     for structure, row in zip(structures, scores(case, drawn, reference, model))]
    predictor.intervention = None
    return [{key: row[key] for key in ("state", "case", "structure", *METRICS)} for row in rows]


def summary(rows: list[dict]) -> dict[str, dict[str, float]]:
    """Means over cases and structures per state; scores that are NaN are left out."""
    return {
        state: {
            metric: float(np.nanmean([row[metric] for row in rows if row["state"] == state]))
            for metric in METRICS
        }
        for state in dict.fromkeys(row["state"] for row in rows)
    }
