"""A trained model, a folder or a file of ``medsegdiff_export``, loaded without running code from its files."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from medsegdiff_auto.diffusion.configuration import DiffusionConfiguration
from medsegdiff_auto.checks.dataset_json import read_dataset_json
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.findings import errors_among
from medsegdiff_auto.decision.fitted_sampling import FittedSampling, checkpoint_checksums, read_fitted_sampling
from medsegdiff_auto.inference.model_integrity import (read_trained_fold, require_fitting_weights, require_mirroring,
                                                       require_one_training)
from medsegdiff_auto.inference.model_unpacking import unpacked
from medsegdiff_auto.nnunet.known_names import read_plans, require_known_reader
from medsegdiff_auto.nnunet.managers import ConfigurationManager, PlansManager, determine_num_input_channels
from medsegdiff_auto.nnunet.plans import diffusion_configuration
from medsegdiff_auto.nnunet.structures import structures_of
from medsegdiff_auto.overlap import mean_without_nan
from medsegdiff_auto.training.trainer import nnUNetTrainerMedSegDiff


@dataclass(frozen=True)
class TrainedModel:
    """Plans, labels and the averaged weights of every fold; ``network`` has the weights of none of them yet.

    Attributes:
        checkpoints: of the folds, ``fold_K/NAME`` to SHA-256.
        validation_dice: of :func:`validation_dice`.
    """

    folder: Path
    folds: tuple[int | str, ...]
    plans_manager: PlansManager
    configuration_manager: ConfigurationManager
    diffusion: DiffusionConfiguration
    dataset_json: dict
    network: nn.Module
    fold_weights: list[dict]
    mirroring_axes: tuple[int, ...] | None
    fitted: FittedSampling | None = None
    checkpoints: dict[str, str] = field(default_factory=dict)
    validation_dice: dict[str, float] = field(default_factory=dict)

    @property
    def temperature(self) -> float:
        """Temperature of the fused probabilities, as fitted; 1 where nothing is."""
        return self.fitted.temperature if self.fitted is not None else 1.0

    def with_fitted(self, fitted: FittedSampling) -> TrainedModel:
        """The model that samples and fuses as fitted; its network too, which is the same one.

        Raises:
            UserError: the plan does not allow one of the values.
        """
        diffusion = self.network.configuration = fitted.applied_to(self.diffusion)
        return replace(self, fitted=fitted, diffusion=diffusion)


def trained_folds(folder: Path, checkpoint_name: str) -> list[int | str]:
    """Folds whose checkpoint lies in the model folder; ``all`` only where it is the only one."""
    names = sorted(f.parent.name.removeprefix("fold_") for f in folder.glob(f"fold_*/{checkpoint_name}"))
    numbers = sorted(int(name) for name in names if name.isdigit())
    return numbers or [name for name in names if name == "all"]


def require_folds(folder: Path, folds: list[int | str] | None, checkpoint_name: str) -> list[int | str]:
    """The folds asked for, or every trained one.

    Raises:
        UserError: the folder is no model, or a fold is not trained.
    """
    if not (folder / "plans.json").is_file():
        raise UserError("There is no trained model.", found=f"no plans.json in {folder}",
                        expected="a folder written by medsegdiff_train",
                        fix="train the model, or correct -d, -c, -p or -m")
    available = trained_folds(folder, checkpoint_name)
    missing = [fold for fold in folds or [] if fold not in available and not (
        folder / f"fold_{fold}" / checkpoint_name).is_file()]
    if missing or not available:
        raise UserError(f"A fold has no {checkpoint_name}.", found=", ".join(f"fold_{f}" for f in missing)
                        or "no trained fold", expected=", ".join(f"fold_{fold}" for fold in available)
                        or "at least one trained fold",
                        fix="train it with medsegdiff_train, or choose trained folds with -f")
    return list(folds or available)


def load_model(folder: Path, folds: list[int | str] | None = None,
               checkpoint_name: str = "checkpoint_final.pth", use_fitted: bool = True) -> TrainedModel:
    """Loads every fold's averaged weights on the CPU, and what ``medsegdiff_calibrate`` fitted unless told otherwise.

    Args:
        folder: or a model file, which is unpacked when it is used for the first time.

    Raises:
        UserError: the model or a fold is missing, a file is damaged, or the files are not of one training by this
            package.
    """
    folder = unpacked(folder) if folder.is_file() else folder
    folds = require_folds(folder, folds, checkpoint_name)
    plans, (dataset_json, findings) = read_plans(folder / "plans.json"), read_dataset_json(folder)
    for error in errors_among(findings):
        raise error.as_user_error()
    require_known_reader(dataset_json)
    files = [folder / f"fold_{fold}" / checkpoint_name for fold in folds]
    checkpoints = {file: read_trained_fold(file) for file in files}
    try:
        model = _assembled(folder, tuple(folds), plans, dataset_json, checkpoints, use_fitted)
    except (UserError, OSError, MemoryError):
        raise
    except Exception as failure:  # values that no check knows fail in any way
        raise UserError(f"{folder} cannot be used as a model.",
                        found=f"{type(failure).__name__}: {failure}".splitlines()[0][:200],
                        expected="plans.json, dataset.json and checkpoints of one training",
                        fix="copy the whole folder again from where it was trained") from failure
    return replace(model, checkpoints=checkpoint_checksums(folder, folds, checkpoint_name))


def _assembled(folder: Path, folds: tuple[int | str, ...], plans: dict, dataset_json: dict,
               checkpoints: dict[Path, dict], use_fitted: bool) -> TrainedModel:
    """The model of files that were read, after checking that they belong together."""
    configuration = require_one_training(checkpoints, plans, dataset_json)
    plans_manager = PlansManager(plans)
    configuration_manager = plans_manager.get_configuration(configuration)
    build = partial(nnUNetTrainerMedSegDiff.build_network_architecture, plans_manager, configuration_manager,
                    determine_num_input_channels(plans_manager, configuration_manager, dataset_json),
                    plans_manager.get_label_manager(dataset_json).num_segmentation_heads, enable_deep_supervision=False)
    with torch.device("meta"):  # plans of a network that is too large for the machine have no such weights
        planned = build()
    for file, checkpoint in checkpoints.items():
        require_fitting_weights(planned, checkpoint, file)
    network = build()
    diffusion = diffusion_configuration(configuration_manager)
    mirroring_axes = [require_mirroring(checkpoint, len(configuration_manager.patch_size), file)
                      for file, checkpoint in checkpoints.items()]
    model = TrainedModel(folder, folds, plans_manager, configuration_manager, diffusion, dataset_json, network,
                         [checkpoint["network_weights"] for checkpoint in checkpoints.values()], mirroring_axes[0],
                         validation_dice=validation_dice(checkpoints.values(), dataset_json))
    fitted = read_fitted_sampling(folder) if use_fitted else None
    return model if fitted is None else model.with_fitted(fitted)


def validation_dice(checkpoints: Iterable[dict], dataset_json: dict) -> dict[str, float]:
    """Dice of every structure on the validation patches of the last epoch, the mean of the folds, [0, 1]; structures
    that were in none of the patches, and those of checkpoints that do not tell, are left out.
    """
    structures = structures_of(dataset_json)
    logged = [checkpoint.get("logging", {}).get("dice_per_class_or_region") or [[]] for checkpoint in checkpoints]
    of_folds = [epochs[-1] for epochs in logged if len(epochs[-1]) == len(structures)]
    first = min((structure.channel for structure in structures), default=0)  # the background is in no row
    means = {structure.name: mean_without_nan(row[structure.channel - first] for row in of_folds)
             for structure in structures}
    return {name: mean for name, mean in means.items() if not math.isnan(mean)}
