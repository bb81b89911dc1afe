"""``sampling.json`` in a model folder: what was fitted on cases that the folds had not seen, instead of the plan's
values.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from medsegdiff_auto.diffusion.configuration import DiffusionConfiguration
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.decision.conformal import Margins
from medsegdiff_auto.writing import write_json

FILE = "sampling.json"


@dataclass(frozen=True)
class FittedSampling:
    """How to sample and fuse, and where that comes from.

    Attributes:
        dispersion: tau of :mod:`~medsegdiff_auto.sampling.smooth_field`.
        conditioner_weight: of the plain network in the fused mean, [0, 1].
        num_samples, num_steps: that it was fitted with; other steps need a fit of their own.
        num_cases: that it was fitted on.
        dice_between_samples, dice_sample_reference: means over these cases.
        volume_margins: by structure, for 1, 2, ... samples, of :mod:`~medsegdiff_auto.decision.conformal`.
        temperature: of the fused probabilities, :mod:`~medsegdiff_auto.decision.temperature`; 1 leaves them.
    """

    dispersion: float
    conditioner_weight: float
    num_samples: int
    num_steps: int
    num_cases: int
    dice_between_samples: float
    dice_sample_reference: float
    volume_margins: dict[str, Margins] = field(default_factory=dict)
    temperature: float = 1.0

    def write(self, model_folder: Path) -> Path:
        """Writes the file and returns its path."""
        file = model_folder / FILE
        write_json(asdict(self), file)
        return file

    def applied_to(self, diffusion: DiffusionConfiguration) -> DiffusionConfiguration:
        """The plan's section with the fitted values."""
        return diffusion.changed(dispersion=self.dispersion, conditioner_weight=self.conditioner_weight,
                                 num_steps=self.num_steps)


def read_fitted_sampling(model_folder: Path) -> FittedSampling | None:
    """What is fitted for a model; None where nothing is.

    Raises:
        UserError: the file is damaged.
    """
    file = model_folder / FILE
    if not file.is_file():
        return None
    try:
        fitted = FittedSampling(**json.loads(file.read_text(encoding="utf-8")))
        if not all(isinstance(margins, list) for margins in fitted.volume_margins.values()):
            raise ValueError("one margin per structure, as an earlier version fitted it")
        return fitted
    except (ValueError, TypeError) as failure:
        raise UserError(f"{file} cannot be read.", found=str(failure),
                        expected="a file written by medsegdiff_calibrate",
                        fix="run medsegdiff_calibrate again, or delete the file") from failure
