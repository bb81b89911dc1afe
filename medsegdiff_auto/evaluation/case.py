"""All metrics of one case, from arrays: one row per structure."""

from dataclasses import dataclass, field

import numpy as np

from medsegdiff_auto.evaluation import calibration, distribution
from medsegdiff_auto.evaluation.case_files import Grid
from medsegdiff_auto.overlap import dice, iou
from medsegdiff_auto.nnunet.structures import Structure
from medsegdiff_auto.evaluation.surface import surface_agreement


@dataclass(frozen=True)
class CaseArrays:
    """A case on one grid: label maps of shape `grid.shape`; what was not saved is None or empty.

    ``probabilities`` `(num_classes or num_regions, *shape)` in [0, 1]; ``samples`` and ``raters`` label maps
    `(num_samples or num_raters, *shape)`; ``ignore_label`` marks reference voxels that are not scored.
    """

    reference: np.ndarray
    prediction: np.ndarray
    grid: Grid
    probabilities: np.ndarray | None = None
    samples: np.ndarray | None = None
    raters: np.ndarray | None = None
    ignore_label: int | None = None
    valid: np.ndarray = field(init=False)

    def __post_init__(self):
        ignored = np.zeros(self.grid.shape, bool) if self.ignore_label is None else self.reference == self.ignore_label
        object.__setattr__(self, "valid", ~ignored)


def evaluate_structure(case: CaseArrays, structure: Structure, tolerance_mm: float) -> dict[str, float]:
    """The metrics of one structure of a case; a metric whose input was not saved is absent.

    Sizes are named after ``case.grid.size_column``; NSD's tolerance and HD95 are in mm, or in pixels without a spacing.
    """
    reference = structure.mask(case.reference) & case.valid
    prediction = structure.mask(case.prediction) & case.valid
    surface = surface_agreement(reference, prediction, case.grid.spacing_mm, tolerance_mm)
    row = {"dice": dice(reference, prediction), "iou": iou(reference, prediction), "nsd": surface.nsd,
           "hd95_mm" if case.grid.has_spacing else "hd95_px": surface.hd95_mm}
    row.update(_sizes(case.grid, reference, prediction))
    if case.probabilities is not None:
        row.update(_calibration(case, structure, reference, prediction))
    if case.samples is not None:
        row.update(_distribution(case, structure, reference))
    return row


def relevant_voxels(case: CaseArrays, structure: Structure) -> np.ndarray:
    """The mask on which calibration is measured: prediction or reference dilated twice, without ignored voxels."""
    reference = structure.mask(case.reference) & case.valid
    return calibration.relevant_mask(reference, structure.mask(case.prediction) & case.valid) & case.valid


def reliability_of(case: CaseArrays, structure: Structure, mask: np.ndarray) -> calibration.Reliability:
    """The structure's predicted probabilities against the reference, over a mask such as :func:`relevant_voxels`."""
    p = np.clip(case.probabilities[structure.channel][mask], 0, 1)
    return calibration.reliability(p, structure.mask(case.reference)[mask])


def _sizes(grid: Grid, reference: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
    size, reference_size = (float(mask.sum()) * grid.size_of_voxel for mask in (prediction, reference))
    error_column = "{}_error_{}".format(*grid.size_column.split("_"))
    return {grid.size_column: size, f"reference_{grid.size_column}": reference_size, error_column: size - reference_size}


def _calibration(case: CaseArrays, structure: Structure, reference: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
    mask = calibration.relevant_mask(reference, prediction) & case.valid
    p, y = case.probabilities[structure.channel][mask], reference[mask]
    return {"ece": calibration.expected_calibration_error(p, y), "brier": calibration.brier_score(p, y),
            "nll": calibration.negative_log_likelihood(p, y)}


def _distribution(case: CaseArrays, structure: Structure, reference: np.ndarray) -> dict[str, float]:
    samples = structure.mask(case.samples) & case.valid
    raters = reference[None] if case.raters is None else structure.mask(case.raters) & case.valid
    sizes = samples.reshape(len(samples), -1).sum(1) * case.grid.size_of_voxel
    low, high = distribution.size_interval(sizes)
    kind = case.grid.size_column.split("_")[0]
    row = {"expected_dice_between_samples": distribution.expected_dice_between_samples(samples),
           "expected_dice_sample_reference": distribution.expected_dice_sample_reference(samples, raters),
           f"reference_{kind}_in_interval": float(low <= float(reference.sum()) * case.grid.size_of_voxel <= high)}
    if case.raters is not None:
        row["ged"] = distribution.generalised_energy_distance(samples, raters)
        row["matched_iou"] = distribution.matched_iou(samples, raters)
        row["sample_diversity"] = distribution.mean_distance_between(samples)
        row["rater_diversity"] = distribution.mean_distance_between(raters)
        row["ged_floor"] = distribution.energy_distance_floor(row["rater_diversity"], len(samples), len(raters))
    return row
