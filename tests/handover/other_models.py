"""The kept model with another number of channels or another target; its weights are cut or repeated to fit."""

import json
import shutil
from pathlib import Path

import torch
from small_model import KEPT

from medsegdiff_auto.nnunet.managers import PlansManager
from medsegdiff_auto.training.trainer import nnUNetTrainerMedSegDiff


def two_channels(plans: dict, dataset_json: dict) -> None:
    dataset_json["channel_names"] = {"0": "T1", "1": "FLAIR"}
    configuration = plans["configurations"]["2d"]
    for key in ("normalization_schemes", "use_mask_for_norm"):
        configuration[key] *= 2
    found = plans["foreground_intensity_properties_per_channel"]
    found["1"] = dict(found["0"])


def regions(plans: dict, dataset_json: dict) -> None:
    plans["configurations"]["2d"]["diffusion"]["target"] = "regions"
    dataset_json |= {"labels": {"background": 0, "whole": [1, 2], "lesion": [2]}, "regions_class_order": [1, 2]}


def write_other_model(folder: Path, change) -> Path:
    """One fold of the model with its plans and labels changed."""
    shutil.copytree(KEPT, folder)
    plans, dataset_json = (json.loads((KEPT / name).read_text(encoding="utf-8")) for name in (
        "plans.json", "dataset.json"))
    change(plans, dataset_json)
    checkpoint = torch.load(KEPT / "fold_0" / "checkpoint_final.pth", weights_only=False)
    manager = PlansManager(plans)
    network = nnUNetTrainerMedSegDiff.build_network_architecture(
        manager, manager.get_configuration("2d"), len(dataset_json["channel_names"]),
        manager.get_label_manager(dataset_json).num_segmentation_heads, False)
    kept = checkpoint["network_weights"]
    checkpoint["network_weights"] = {name: fitted(kept[name], value.shape)
                                     for name, value in network.state_dict().items()}
    checkpoint["init_args"] |= {"plans": plans, "dataset_json": dataset_json}
    torch.save(checkpoint, folder / "fold_0" / "checkpoint_final.pth")
    (folder / "plans.json").write_text(json.dumps(plans), encoding="utf-8")
    (folder / "dataset.json").write_text(json.dumps(dataset_json), encoding="utf-8")
    return folder


def fitted(weight: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """The first values along every axis; where there are too few, they come again, halved and of the other sign."""
    for axis, length in enumerate(shape):
        times = torch.arange(length) // weight.shape[axis]
        weight = weight.index_select(axis, torch.arange(length) % weight.shape[axis])
        weight = weight * ((-0.5) ** times).reshape(-1, *[1] * (len(shape) - axis - 1)) if times.any() else weight
    return weight.clone()
