"""``sampling.json`` in a model folder: what was fitted on cases that the folds had not seen, instead of the plan's
values.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import Field

from medsegdiff_auto.diffusion.configuration import DiffusionConfiguration
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.decision.conformal import Margins
from medsegdiff_auto.decision.quality import QualityFit
from medsegdiff_auto.files.provenance import checksum
from medsegdiff_auto.schemas import STRICT, validated
from medsegdiff_auto.writing import write_json

FILE = "sampling.json"
Positive = Annotated[float, Field(gt=0)]
AtLeast0 = Annotated[float, Field(ge=0)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Reported = Annotated[float, Field(allow_inf_nan=True)]


@dataclass(frozen=True)
class FittedSampling:
    """How to sample and fuse, and where that comes from.

    Attributes:
        dispersion: tau, of the latent noise; 0 for a plan without.
        conditioner_weight: of the plain network in the fused mean, [0, 1).
        num_samples, num_steps: that it was fitted with; other steps need a fit of their own.
        num_cases: that it was fitted on.
        dice_between_samples, dice_sample_reference: means over these cases.
        volume_margins: by structure, for 1, 2, ... samples, of :mod:`~medsegdiff_auto.decision.conformal`.
        temperature: of the fused probabilities, :mod:`~medsegdiff_auto.decision.temperature`; 1 leaves them.
        quality: how good a mask is expected to be; None where the cases do not tell.
        checkpoints: that it was fitted on, ``fold_K/NAME`` to SHA-256; empty in files of earlier versions.
    """

    __pydantic_config__ = STRICT

    dispersion: AtLeast0
    conditioner_weight: BelowOne
    num_samples: Count
    num_steps: Count
    num_cases: Count
    dice_between_samples: Reported
    dice_sample_reference: Reported
    volume_margins: dict[str, Margins] = field(default_factory=dict)
    temperature: Positive = 1.0
    quality: QualityFit | None = None
    checkpoints: dict[str, str] = field(default_factory=dict)

    def write(self, model_folder: Path) -> Path:
        """Writes the file and returns its path."""
        file = model_folder / FILE
        write_json(asdict(self), file)
        return file

    def applied_to(self, diffusion: DiffusionConfiguration) -> DiffusionConfiguration:
        """The plan's section with the fitted values.

        Raises:
            UserError: the plan does not allow one of them.
        """
        try:
            return diffusion.changed(dispersion=self.dispersion, conditioner_weight=self.conditioner_weight,
                                     num_steps=self.num_steps)
        except ValueError as failure:
            raise UserError(f"{FILE} does not fit the plan of its model.", found=str(failure),
                            expected="values that medsegdiff_calibrate has fitted for this model",
                            fix="run medsegdiff_calibrate again, or delete the file to sample as planned") from failure

    @property
    def origin(self) -> str:
        """What it was fitted on, as a sentence."""
        if not self.checkpoints:
            return (f"Sampling as fitted on {self.num_cases} cases; {FILE} is of an earlier version and does not say "
                    "with which checkpoints: it is taken for a fit of these.")
        return f"Sampling as fitted on {self.num_cases} cases with {', '.join(self.checkpoints)} ({FILE})."


def checkpoint_checksums(model_folder: Path, folds: Iterable[int | str], checkpoint_name: str) -> dict[str, str]:
    """The checkpoints of a model's folds, ``fold_K/NAME`` to SHA-256."""
    names = [f"fold_{fold}/{checkpoint_name}" for fold in folds]
    return {name: checksum(model_folder / name) for name in names}


def read_fitted_sampling(model_folder: Path) -> FittedSampling | None:
    """What is fitted for a model; None where nothing is.

    Raises:
        UserError: the file is damaged, or a checkpoint that it was fitted on has been trained anew.
    """
    file = model_folder / FILE
    if not file.is_file():
        return None
    try:
        fitted = validated(FittedSampling, json.loads(file.read_text(encoding="utf-8")))
    except ValueError as failure:
        raise UserError(f"{file} cannot be read.", found=str(failure),
                        expected="a file written by medsegdiff_calibrate",
                        fix="run medsegdiff_calibrate again, or delete the file") from failure
    _require_same_checkpoints(fitted, model_folder)
    return fitted


def _require_same_checkpoints(fitted: FittedSampling, model_folder: Path) -> None:
    """Checks those that are there: a model may be passed on without a fold."""
    changed = [name for name, before in fitted.checkpoints.items()
               if (model_folder / name).is_file() and checksum(model_folder / name) != before]
    if changed:
        raise UserError(f"{model_folder / FILE} was fitted on an earlier training of {', '.join(changed)}.",
                        found=f"another checksum of {', '.join(changed)} than when it was fitted",
                        expected="the checkpoints that medsegdiff_calibrate has seen",
                        fix="run medsegdiff_calibrate again, or delete the file to sample as planned")
