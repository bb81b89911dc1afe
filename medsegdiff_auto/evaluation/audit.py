"""Does a model use its diffusion? State and noise reliance, and the no-diffusion twin, on a fold's validation cases.

The denoiser is shown another state or another latent noise than the sampler's own at every step. Where the masks stay,
they are drawn from the image alone, and the diffusion is decoration. Scores of single masks alone do not tell: another
sample's state or noise may only make the samples change places. Scores of distributions see what is lost where they no
longer differ.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from medsegdiff_auto.diffusion.configuration import DiffusionConfiguration
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.evaluation.case import CaseArrays, StructureOfCase
from medsegdiff_auto.evaluation.case_files import Grid
from medsegdiff_auto.evaluation.paired import PairedComparison, compare_paired
from medsegdiff_auto.evaluation.score import evaluate_structure
from medsegdiff_auto.nnunet.dataset_files import read_splits
from medsegdiff_auto.nnunet.preprocessed import read_cases, require_data_folder
from medsegdiff_auto.nnunet.structures import Structure, ignore_label_of, structures_of
from medsegdiff_auto.planning.made_from import require_preprocessed
from medsegdiff_auto.training.folds import require_same_fold
from medsegdiff_auto.training.raters import labels_of_raters
from medsegdiff_auto.decision.decoder import by_mean, label_maps
from medsegdiff_auto.decision.sizes import SIZE_COLUMNS
from medsegdiff_auto.evaluation.scores.energy import crps_column
from medsegdiff_auto.inference.model import TrainedModel
from medsegdiff_auto.inference.predictor import CaseDistribution, MedSegDiffPredictor, by_itself
from medsegdiff_auto.decision.temperature import at_temperature
from medsegdiff_auto.overlap import dice, mean_without_nan

METRICS = ("dice", "ece", "nll", "expected_dice_between_samples", "expected_dice_sample_reference")
PROPER = ("energy_score", "crps", "ged")  # of distributions, the smaller the better; GED only with several raters
OWN, NO_DIFFUSION = "its own", "no-diffusion twin"
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


@dataclass(frozen=True)
class Shown:
    """What the denoiser is shown.

    Attributes:
        state: made of the states (S, K, *spatial) at every step; None for these.
        whose_latent: the number of the sample whose latent noise a sample gets; None for no noise at all.
    """

    state: Callable[[Tensor], Tensor] | None = None
    whose_latent: Callable[[int], int] | None = by_itself


def interventions(configuration: DiffusionConfiguration, seed: int) -> dict[str, Shown]:
    """What the denoiser is shown, by the name of the row: as far as the network sees it."""
    found = {OWN: Shown()}
    if configuration.network.sees_state:
        found |= {"another sample's state": Shown(shuffled), "fresh noise as state": Shown(FreshNoise(seed))}
    if configuration.network.latent_scales:
        found |= {"another sample's latent noise": Shown(whose_latent=lambda sample: sample + 1),
                  "one latent noise for all": Shown(whose_latent=lambda sample: 0),
                  "no latent noise": Shown(whose_latent=None)}
    return found


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
           conditioner_weight: float = 0.0, temperature: float = 1.0, raters: np.ndarray | None = None) -> list[dict]:
    """One row per structure: the mean of the samples (by default without the plain network) against the reference.

    ``raters`` are label maps (num_raters, *spatial), for the scores that compare distributions. The label map does not
    depend on the temperature of the probabilities. ``reliability`` are the bins behind ``ece``, which add up over
    cases.
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
                        raters, ignore_label_of(model.dataset_json), regions=label_manager.has_regions)
    found = [StructureOfCase(arrays, structure, TOLERANCE_MM) for structure in structures_of(model.dataset_json)]
    return [{"case": case, "structure": one.structure.name, "reliability": one.reliability, **evaluate_structure(one)}
            for one in found]


def dice_to_own(samples: np.ndarray, own: np.ndarray, structure: Structure) -> float:
    """Mean Dice of each sample with the same sample under its own state and noise; 1 where these decide nothing.

    Args:
        samples, own: label maps, (num_samples, *spatial), in the same order.
    """
    return float(np.mean([dice(of_own, sample, both_empty=1.0)
                          for of_own, sample in zip(structure.mask(own), structure.mask(samples))]))


def audit_states(predictor: MedSegDiffPredictor, model: TrainedModel, preprocessed_folder: Path, fold: int,
                 num_cases: int | None, seed: int) -> list[dict]:
    """Rows of every intervention: ``shown``, ``case``, ``structure``, :data:`METRICS`, :data:`PROPER` and
    ``dice_to_own``; the same cases and noise for all. CRPS is of sizes, over the size of the mean reference.
    """
    rows, shown = [], interventions(model.diffusion, seed)
    structures, data_folder = structures_of(model.dataset_json), model.configuration_manager.data_identifier
    for case, image, reference, _ in islice(validation_cases(model, preprocessed_folder, fold), num_cases):
        own, raters = None, labels_of_raters(preprocessed_folder / data_folder, case)
        for name, one in shown.items():
            predictor.intervention, predictor.whose_latent = one.state, one.whose_latent
            drawn = predictor.sample_case(image, case)
            if one.whose_latent is None:  # the expected mask is that of the noise
                drawn = replace(drawn, expected=None)
            samples = label_maps(drawn.samples, predictor.label_manager)
            own = samples if own is None else own
            found = scores(case, drawn, reference, model, raters=raters if len(raters) else None)
            rows += [{"shown": name, **row, "dice_to_own": dice_to_own(samples, own, structure)}
                     for structure, row in zip(structures, found)]
    predictor.intervention, predictor.whose_latent = None, by_itself
    size = next(column for column in SIZE_COLUMNS if column in rows[0])
    for structure in structures:
        of_structure = [row for row in rows if row["structure"] == structure.name]
        mean_size = mean_without_nan(row[f"reference_{size}"] for row in of_structure)
        for row in of_structure:
            row["crps"] = row[crps_column(size)] / mean_size if mean_size else float("nan")
    columns = ("shown", "case", "structure", *METRICS, *PROPER, "dice_to_own")
    return [{column: row.get(column, float("nan")) for column in columns} for row in rows]


def summary(rows: list[dict]) -> dict[str, dict[str, float]]:
    """Means over cases and structures by what was shown; scores that are NaN are left out."""
    columns = (*METRICS, *PROPER, "dice_to_own")
    return {
        name: {column: mean_without_nan(row[column] for row in rows if row["shown"] == name) for column in columns}
        for name in dict.fromkeys(row["shown"] for row in rows)
    }


def differences(rows: list[dict]) -> dict[str, dict[str, PairedComparison]]:
    """What every other row's :data:`PROPER` scores are above those of :data:`OWN`, paired by case."""
    cases = list(dict.fromkeys(row["case"] for row in rows))

    def of(name: str, column: str) -> list[float]:
        return [mean_without_nan(row[column] for row in rows if (row["shown"], row["case"]) == (name, case))
                for case in cases]

    names = [name for name in dict.fromkeys(row["shown"] for row in rows) if name != OWN]
    return {name: {column: compare_paired(of(name, column), of(OWN, column)) for column in PROPER} for name in names}
