"""A trained model folder, loaded without running code from its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from batchgenerators.utilities.file_and_folder_operations import load_json
from torch import nn

from medsegdiff_auto.diffusion.configuration import DiffusionConfiguration
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.decision.fitted_sampling import FittedSampling, read_fitted_sampling
from medsegdiff_auto.training.checkpoints import load_safely
from medsegdiff_auto.nnunet.managers import ConfigurationManager, PlansManager, determine_num_input_channels
from medsegdiff_auto.nnunet.plans import diffusion_configuration
from medsegdiff_auto.training.trainer import nnUNetTrainerMedSegDiff


@dataclass(frozen=True)
class TrainedModel:
    """Plans, labels and the averaged weights of every fold; ``network`` has the weights of none of them yet."""

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

    @property
    def temperature(self) -> float:
        """Temperature of the fused probabilities, as fitted; 1 where nothing is."""
        return self.fitted.temperature if self.fitted is not None else 1.0


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

    Raises:
        UserError: the model or a fold is missing, or it was not trained by this package.
    """
    folds = require_folds(folder, folds, checkpoint_name)
    checkpoints = [load_safely(folder / f"fold_{fold}" / checkpoint_name) for fold in folds]
    trainer_name = checkpoints[0]["trainer_name"]
    if not trainer_name.startswith(nnUNetTrainerMedSegDiff.__name__):
        raise UserError("The model was not trained by MedSegDiff-Auto.", found=trainer_name,
                        expected=f"{nnUNetTrainerMedSegDiff.__name__} or a variant of it",
                        fix="predict with nnUNetv2_predict")
    dataset_json = load_json(str(folder / "dataset.json"))
    plans_manager = PlansManager(load_json(str(folder / "plans.json")))
    configuration_manager = plans_manager.get_configuration(checkpoints[0]["init_args"]["configuration"])
    network = nnUNetTrainerMedSegDiff.build_network_architecture(
        plans_manager, configuration_manager,
        determine_num_input_channels(plans_manager, configuration_manager, dataset_json),
        plans_manager.get_label_manager(dataset_json).num_segmentation_heads, enable_deep_supervision=False)
    diffusion = diffusion_configuration(configuration_manager)
    fitted = read_fitted_sampling(folder) if use_fitted else None
    if fitted is not None:
        diffusion = network.configuration = fitted.applied_to(diffusion)
    return TrainedModel(folder, tuple(folds), plans_manager, configuration_manager, diffusion, dataset_json, network,
                        [checkpoint["network_weights"] for checkpoint in checkpoints],
                        checkpoints[0]["inference_allowed_mirroring_axes"], fitted)
