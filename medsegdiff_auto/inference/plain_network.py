"""nnU-Net's own prediction: its predictor, its network, all mirrors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import Tensor

from medsegdiff_auto.checks.dataset_json import read_dataset_json
from medsegdiff_auto.diffusion.state import probabilities_from_logits
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.findings import errors_among
from medsegdiff_auto.inference.model import TrainedModel
from medsegdiff_auto.nnunet.known_names import read_plans, require_known_reader
from medsegdiff_auto.nnunet.managers import ConfigurationManager, PlansManager, determine_num_input_channels
from medsegdiff_auto.training.checkpoints import load_nnunet

OF_CONDITIONER = "conditioner.unet."


@dataclass(frozen=True)
class PlainModel:
    """nnU-Net's network of one fold in its predictor."""

    folder: Path
    plans_manager: PlansManager
    configuration_manager: ConfigurationManager
    dataset_json: dict
    predictor: nnUNetPredictor

    @torch.inference_mode()
    def probabilities(self, image: np.ndarray) -> Tensor:
        """Predicts a preprocessed image (C, *spatial) with all mirrors: (K, *spatial) float32 in [0, 1], on the CPU."""
        logits = self.predictor.predict_sliding_window_return_logits(torch.from_numpy(np.asarray(image)).float())
        labels = self.plans_manager.get_label_manager(self.dataset_json)
        target = "regions" if labels.has_regions else "classes"
        return probabilities_from_logits(logits.float().cpu()[None], target)[0]


def plain_of_ours(model: TrainedModel, number: int, device: torch.device) -> PlainModel:
    """The network in one of our checkpoints, which is what nnU-Net itself would have been: it has nnU-Net's loss, and
    the denoiser beside it gives it no gradient.

    Args:
        number: the how manyeth of the model's folds.

    Raises:
        UserError: the preset has no network of nnU-Net.
    """
    weights = {name.removeprefix(OF_CONDITIONER): value for name, value in model.fold_weights[number].items()
               if name.startswith(OF_CONDITIONER)}
    if not weights:
        raise UserError("The model has no network of nnU-Net.", found=f"preset {model.diffusion.preset}",
                        expected="a preset with nnU-Net's network, such as auto", fix="compare with nnunet instead")
    predictor = _predictor(weights, model.plans_manager, model.configuration_manager, model.dataset_json,
                           model.mirroring_axes, device)
    return PlainModel(model.folder, model.plans_manager, model.configuration_manager, model.dataset_json, predictor)


def plain_of_nnunet(folder: Path, fold: int, device: torch.device,
                    checkpoint_name: str = "checkpoint_final.pth") -> PlainModel:
    """A fold that ``nnUNetTrainer`` trained, loaded without running code from its files.

    Raises:
        UserError: the fold is not trained, or a file is damaged.
    """
    file = folder / f"fold_{fold}" / checkpoint_name
    plans, (dataset_json, findings) = read_plans(folder / "plans.json"), read_dataset_json(folder)
    for error in errors_among(findings):
        raise error.as_user_error()
    require_known_reader(dataset_json)
    plans_manager, checkpoint = PlansManager(plans), load_nnunet(file)
    configuration_manager = plans_manager.get_configuration(folder.name.rsplit("__", 1)[1])
    predictor = _predictor(checkpoint["network_weights"], plans_manager, configuration_manager, dataset_json,
                           checkpoint.get("inference_allowed_mirroring_axes"), device)
    return PlainModel(folder, plans_manager, configuration_manager, dataset_json, predictor)


def _predictor(weights: dict, plans_manager: PlansManager, configuration_manager: ConfigurationManager,
               dataset_json: dict, mirroring_axes: tuple[int, ...] | None, device: torch.device) -> nnUNetPredictor:
    predictor = nnUNetPredictor(device=device, perform_everything_on_device=device.type == "cuda", allow_tqdm=False)
    unet = nnUNetTrainer.build_network_architecture(
        plans_manager, configuration_manager,
        determine_num_input_channels(plans_manager, configuration_manager, dataset_json),
        plans_manager.get_label_manager(dataset_json).num_segmentation_heads, enable_deep_supervision=False)
    unet.load_state_dict(weights)
    predictor.manual_initialization(unet.to(device).eval(), plans_manager, configuration_manager, [weights],
                                    dataset_json, "", mirroring_axes)
    return predictor
