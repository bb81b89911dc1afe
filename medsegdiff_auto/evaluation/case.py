"""A case on one grid, from arrays, and one structure of it as the scores see it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from medsegdiff_auto.decision.entropy import normalised_entropy
from medsegdiff_auto.evaluation.calibration import Reliability, relevant_mask, reliability
from medsegdiff_auto.evaluation.case_files import Grid
from medsegdiff_auto.nnunet.structures import Structure


@dataclass(frozen=True)
class CaseArrays:
    """A case on one grid: label maps of shape `grid.shape`; what was not saved is None or empty.

    ``probabilities`` `(num_classes or num_regions, *shape)` in [0, 1]; ``samples`` and ``raters`` label maps
    `(num_samples or num_raters, *shape)`; ``ignore_label`` marks reference voxels that are not scored; ``uncertainty``
    is the map that was saved, `shape` in [0, 1]; ``regions`` says that structures overlap.
    """

    reference: np.ndarray
    prediction: np.ndarray
    grid: Grid
    probabilities: np.ndarray | None = None
    samples: np.ndarray | None = None
    raters: np.ndarray | None = None
    ignore_label: int | None = None
    uncertainty: np.ndarray | None = None
    regions: bool = False

    @cached_property
    def valid(self) -> np.ndarray:
        """Voxels that are scored, boolean."""
        return np.ones(self.grid.shape, bool) if self.ignore_label is None else self.reference != self.ignore_label

    def uncertainty_in(self, mask: np.ndarray) -> np.ndarray | None:
        """The uncertainty of the voxels of a mask, one axis, in [0, 1]: as saved, else the entropy of the
        probabilities; None where neither was.
        """
        if self.uncertainty is not None:
            return np.clip(self.uncertainty[mask], 0, 1)
        return None if self.probabilities is None else normalised_entropy(self.probabilities[:, mask], self.regions)


@dataclass(frozen=True)
class StructureOfCase:
    """One structure of a case: boolean masks (*spatial) without the ignored voxels, made when they are first asked for.

    Attributes:
        tolerance_mm: of surfaces, in the unit of the grid's spacing.
    """

    case: CaseArrays
    structure: Structure
    tolerance_mm: float

    @property
    def grid(self) -> Grid:
        """Spacing, and the unit of sizes."""
        return self.case.grid

    @cached_property
    def reference(self) -> np.ndarray:
        """The true mask."""
        return self.structure.mask(self.case.reference) & self.case.valid

    @cached_property
    def prediction(self) -> np.ndarray:
        """The predicted mask."""
        return self.structure.mask(self.case.prediction) & self.case.valid

    @cached_property
    def samples(self) -> np.ndarray | None:
        """Sampled masks, (S, *spatial); None where they were not saved."""
        return None if self.case.samples is None else self.structure.mask(self.case.samples) & self.case.valid

    @cached_property
    def raters(self) -> np.ndarray | None:
        """Masks of several raters, (R, *spatial); None where there is one reference."""
        return None if self.case.raters is None else self.structure.mask(self.case.raters) & self.case.valid

    @cached_property
    def near(self) -> np.ndarray:
        """Where probabilities are judged: prediction or reference, dilated twice."""
        return relevant_mask(self.reference, self.prediction) & self.case.valid

    @property
    def probabilities(self) -> np.ndarray | None:
        """The structure's probabilities, (*spatial); None where they were not saved."""
        return None if self.case.probabilities is None else self.case.probabilities[self.structure.channel]

    @cached_property
    def near_probabilities(self) -> np.ndarray:
        """The probabilities where they are judged, one axis, in [0, 1]."""
        return np.clip(self.probabilities[self.near], 0, 1)

    @cached_property
    def near_uncertainty(self) -> np.ndarray | None:
        """The uncertainty where probabilities are judged, one axis, in [0, 1]; None where nothing was saved."""
        return self.case.uncertainty_in(self.near)

    @property
    def own_uncertainty(self) -> np.ndarray | None:
        """The uncertainty at the prediction, dilated twice: without a look at the reference."""
        return self.case.uncertainty_in(relevant_mask(self.prediction, self.prediction) & self.case.valid)

    @cached_property
    def reliability(self) -> Reliability:
        """The probabilities against the reference where they are judged, in bins; curves of several cases add up."""
        return reliability(self.near_probabilities, self.reference[self.near])

    def size(self, mask: np.ndarray) -> float:
        """The size of a mask in the unit of the grid's ``size_column``."""
        return float(mask.sum()) * self.grid.size_of_voxel
