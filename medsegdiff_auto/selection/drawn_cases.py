"""What was drawn of cases whose reference is known, and what it says of the fused masks and the sizes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from medsegdiff_auto.decision.conformal import Margins, margins_by_samples
from medsegdiff_auto.decision.decoder import by_mean, label_maps
from medsegdiff_auto.decision.quality import soft_dices
from medsegdiff_auto.decision.sizes import size_column, size_of_voxel
from medsegdiff_auto.evaluation.audit import scores
from medsegdiff_auto.files.companion_files import FORMATS_WITH_SPACING
from medsegdiff_auto.inference.model import TrainedModel
from medsegdiff_auto.inference.predictor import CaseDistribution
from medsegdiff_auto.nnunet.properties import cropped_shape, spacing_of, whole_shape
from medsegdiff_auto.nnunet.structures import ignore_label_of, structures_of
from medsegdiff_auto.overlap import dice, mean_without_nan, pairwise_dice
from medsegdiff_auto.sampling.volume_store import InMemory
from medsegdiff_auto.selection.quality_fit import JudgedMask
from medsegdiff_auto.selection.temperature_fit import lowest_nll, nll_by_temperature


@dataclass(frozen=True)
class DrawnCase:
    """One case on the network's grid.

    Attributes:
        reference: label map (*spatial).
        properties: of nnU-Net's preprocessing.
    """

    case: str
    distribution: CaseDistribution
    reference: np.ndarray
    properties: dict
    model: TrainedModel

    def rows(self, conditioner_weight: float = 0.0) -> list[dict]:
        """Scores of every structure, :func:`~medsegdiff_auto.evaluation.audit.scores`."""
        return scores(self.case, self.distribution, self.reference, self.model, conditioner_weight)

    @property
    def voxel_size(self) -> float:
        """Size of a voxel of the network's grid in the unit of the tables: the cropped image spread over it."""
        spacing_mm = spacing_of(self.properties)
        is_flat = whole_shape(self.properties)[self.model.plans_manager.transpose_backward[0]] == 1
        column = size_column(2 if is_flat else 3, self.model.dataset_json["file_ending"] in FORMATS_WITH_SPACING)
        voxels = np.prod(cropped_shape(self.properties)) / self.reference.size
        return float(voxels) * size_of_voxel(column, float(np.prod(spacing_mm[1:] if is_flat else spacing_mm)))

    def judged_masks(self, conditioner_weight: float, temperature: float) -> Iterator[JudgedMask]:
        """Every structure's fused mask, with what is known of it before and after the reference is."""
        labels = self.model.plans_manager.get_label_manager(self.model.dataset_json)
        fused = replace(self.distribution, conditioner_weight=conditioner_weight).fused
        segmentation, maps = by_mean(fused, labels), label_maps(self.distribution.samples, labels)
        structures = structures_of(self.model.dataset_json)
        ignored = ignore_label_of(self.model.dataset_json)
        valid = None if ignored is None else self.reference != ignored
        softs = soft_dices(InMemory(fused), segmentation, structures, temperature, labels.has_regions)
        for structure, soft in zip(structures, softs):
            mask = structure.mask(segmentation)
            yield JudgedMask(self.case, structure.name, soft, float(mask.sum()) * self.voxel_size,
                             float(pairwise_dice(mask[None], structure.mask(maps)).mean()),
                             dice(structure.mask(self.reference), mask, valid))


@dataclass(frozen=True)
class FusedScores:
    """Dice of the fused masks, (num_cases,), the mean over structures, NaN where there is none; and negative
    log-likelihood of their probabilities by temperature, (num_cases, 25).
    """

    dice_of_cases: np.ndarray
    curves: np.ndarray

    @property
    def dice(self) -> float:
        """The mean over the cases."""
        return mean_without_nan(self.dice_of_cases)

    @property
    def nll(self) -> float:
        """At the best temperature, in nats."""
        return lowest_nll(self.curves)


def scores_of_weight(cases: Sequence[DrawnCase], weight: float) -> FusedScores:
    """How good the fused mean is with this weight of the plain network in it."""
    return FusedScores(np.array([mean_without_nan(row["dice"] for row in case.rows(weight)) for case in cases]),
                       nll_curves(cases, weight))


def nll_curves(cases: Sequence[DrawnCase], weight: float) -> np.ndarray:
    """Negative log-likelihood of the fused mean by temperature, (num_cases, 25).

    ``weight`` is the plain network's in the mean.
    """
    curves = []
    for one in cases:
        dataset_json = one.model.dataset_json
        label_manager = one.model.plans_manager.get_label_manager(dataset_json)
        fused = replace(one.distribution, conditioner_weight=weight).fused
        curves.append(nll_by_temperature(fused.numpy(), by_mean(fused, label_manager), one.reference,
                                         structures_of(dataset_json), label_manager.has_regions,
                                         ignore_label_of(dataset_json)))
    return np.stack(curves)


def volume_margins(cases: Sequence[DrawnCase]) -> dict[str, Margins]:
    """The conformal margins of every structure's size; absent where there are too few cases."""
    sizes, references = defaultdict(list), defaultdict(list)
    for one in cases:
        label_manager = one.model.plans_manager.get_label_manager(one.model.dataset_json)
        maps = label_maps(one.distribution.samples, label_manager)
        for structure in structures_of(one.model.dataset_json):
            sizes[structure.name].append(structure.mask(maps).reshape(len(maps), -1).sum(1))
            references[structure.name].append(float(structure.mask(one.reference).sum()))
    margins = {name: margins_by_samples(of_structure, references[name]) for name, of_structure in sizes.items()}
    return {name: of_structure for name, of_structure in margins.items() if of_structure[-1] is not None}
