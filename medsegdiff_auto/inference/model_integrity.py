"""Whether the files of a model folder belong together: plans, ``dataset.json`` and the checkpoint of every fold."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from medsegdiff_auto.diffusion.configuration import PLANS_KEY
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.nnunet.inheritance import INHERITS, resolved
from medsegdiff_auto.nnunet.plans import read_section
from medsegdiff_auto.training.checkpoints import load_safely, require_keys
from medsegdiff_auto.training.trainer import nnUNetTrainerMedSegDiff

OF_TRAINING_ONLY = {INHERITS, "data_identifier", "batch_size", "batch_dice", "median_image_size_in_voxels"}
OF_ALL_CONFIGURATIONS = ("transpose_forward", "transpose_backward", "foreground_intensity_properties_per_channel")
OF_DATASET = ("channel_names", "labels", "regions_class_order")


def read_trained_fold(file: Path) -> dict:
    """The checkpoint of a fold that this package trained.

    Raises:
        UserError: it is damaged, incomplete, or of another trainer.
    """
    checkpoint = load_safely(file)
    require_keys(checkpoint, file, {"trainer_name": str, "network_weights": dict, "init_args": dict})
    trainer_name = checkpoint["trainer_name"]
    if not trainer_name.startswith(nnUNetTrainerMedSegDiff.__name__):
        raise UserError("The model was not trained by MedSegDiff-Auto.", found=trainer_name,
                        expected=f"{nnUNetTrainerMedSegDiff.__name__} or a variant of it",
                        fix="predict with nnUNetv2_predict")
    return checkpoint


def require_one_training(checkpoints: dict[Path, dict], plans: dict, dataset_json: dict) -> str:
    """Checks that all folds were trained with these plans and labels, as one configuration; returns its name.

    Values that only training or sampling depends on may differ.

    Raises:
        UserError: one was not.
    """
    configurations = {checkpoint["init_args"].get("configuration") for checkpoint in checkpoints.values()}
    configuration = next(iter(configurations))
    if len(configurations) > 1 or configuration not in plans["configurations"]:
        raise UserError("The folds are not of one configuration of plans.json.",
                        found=", ".join(sorted(map(str, configurations))),
                        expected=f"one of {', '.join(plans['configurations'])}",
                        fix="put back the checkpoints, or the plans.json, of the training")
    for file, checkpoint in checkpoints.items():
        trained_with = checkpoint["init_args"]
        for name, here, there in (
                ("plans.json", _of_prediction(plans, configuration), _of_prediction(trained_with["plans"],
                                                                                    configuration)),
                ("dataset.json", _of_labels(dataset_json), _of_labels(trained_with["dataset_json"]))):
            changed = sorted(key for key in here.keys() | there.keys() if here.get(key) != there.get(key))
            if changed:
                raise UserError(f"{name} is not the one that {file} was trained with.",
                                found=f"other values of {', '.join(changed)}",
                                expected=f"the {name} that the training wrote beside its folds",
                                fix=f"put the {name} of the training back, or train anew")
    return configuration


def require_fitting_weights(network: nn.Module, checkpoint: dict, file: Path) -> None:
    """Checks that the weights of a fold are those of the planned network, and numbers.

    Raises:
        UserError: they are not.
    """
    weights, planned = checkpoint["network_weights"], network.state_dict()
    wrong = [f"{name} is missing" for name in planned if name not in weights]
    wrong += [f"{name} is not planned" for name in weights if name not in planned]
    wrong += [f"{name} is of shape {tuple(weights[name].shape)}, not {tuple(value.shape)}"
              for name, value in planned.items() if name in weights and weights[name].shape != value.shape]
    if wrong:
        raise UserError(f"The weights in {file} are not those of the planned network.", found="; ".join(wrong[:3]),
                        expected=f"the {len(planned)} tensors of the network in plans.json",
                        fix="put back the checkpoint, or the plans.json, of the training")
    broken = [name for name, value in weights.items() if value.is_floating_point() and not value.isfinite().all()]
    if broken:
        raise UserError(f"The weights in {file} are not finite.",
                        found=f"NaN or infinite values in {len(broken)} of {len(weights)} tensors",
                        expected="finite numbers", fix="predict with another checkpoint (-chk), or train the fold anew")


def require_mirroring(checkpoint: dict, num_axes: int, file: Path) -> tuple[int, ...] | None:
    """The axes along which a fold was mirrored; None for none.

    Raises:
        UserError: they are not axes of its patch.
    """
    axes = checkpoint.get("inference_allowed_mirroring_axes")
    if axes is None or (isinstance(axes, (list, tuple)) and all(axis in range(num_axes) for axis in axes)
                        and len(set(axes)) == len(axes)):
        return axes
    raise UserError(f"The axes to mirror in {file} are not axes of the patch.", found=repr(axes),
                    expected=f"some of 0 to {num_axes - 1}", fix="put back the checkpoint of the training")


def _of_prediction(plans: dict, configuration: str) -> dict:
    """What a prediction depends on, key by key."""
    section = {key: value for key, value in resolved(plans, configuration).items() if key not in OF_TRAINING_ONLY}
    diffusion = read_section(section.pop(PLANS_KEY, {}))
    section |= {key: plans.get(key) for key in OF_ALL_CONFIGURATIONS}
    return section | {f"diffusion.{key}": getattr(diffusion, key) for key in ("target", "network", "noise")}


def _of_labels(dataset_json: dict) -> dict:
    """What the channels of image and prediction mean; the order of regions is part of it."""
    content = {key: dataset_json.get(key) for key in OF_DATASET}
    if dataset_json.get("regions_class_order") is not None:
        content["labels"] = list(dataset_json["labels"].items())
    return content
