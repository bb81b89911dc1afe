"""Plans for upgrading a trained nnU-Net: its own plans with a diffusion section for its configuration."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

from medsegdiff_auto.diffusion.configuration import PLANS_KEY
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.nnunet.inheritance import NETWORK, holder, resolved
from medsegdiff_auto.nnunet.known_names import read_plans
from medsegdiff_auto.paths import UPGRADED_PLANS
from medsegdiff_auto.planning.fingerprint import MedSegDiffFingerprintExtractor
from medsegdiff_auto.planning.planner import MedSegDiffPlanner
from medsegdiff_auto.planning.resources import RESOURCES
from medsegdiff_auto.writing import write_json


@dataclass(frozen=True)
class NnUNetModel:
    """A trained fold of nnU-Net: its checkpoint and the plans beside it."""

    checkpoint: Path
    plans: dict
    fold: str


def read_nnunet_model(checkpoint: Path) -> NnUNetModel:
    """The model that a checkpoint in nnU-Net's result folder belongs to.

    Raises:
        UserError: the file is missing, or does not lie in ``model/fold_k`` beside the model's plans.
    """
    if not checkpoint.is_file():
        raise UserError("The checkpoint to upgrade does not exist.", found=str(checkpoint),
                        expected="a checkpoint_final.pth of nnU-Net", fix="correct --upgrade")
    plans_file = checkpoint.parent.parent / "plans.json"
    if not checkpoint.parent.name.startswith("fold_") or not plans_file.is_file():
        raise UserError("The checkpoint does not lie in a model folder of nnU-Net.", found=str(checkpoint),
                        expected="MODEL/fold_K/checkpoint_final.pth with MODEL/plans.json",
                        fix="give the checkpoint where nnU-Net trained it, or unpack the whole exported model")
    return NnUNetModel(checkpoint, read_plans(plans_file), checkpoint.parent.name.removeprefix("fold_"))


def require_fitting_model(model: NnUNetModel, dataset_name: str, configuration: str, fold: int | str) -> None:
    """Checks that the model is of this dataset, configuration and fold.

    Raises:
        UserError: it is not; another fold's network has seen the validation cases of this one.
    """
    for what, found, expected in (("dataset", model.plans["dataset_name"], dataset_name), ("fold", model.fold,
                                                                                           str(fold))):
        if found != expected:
            raise UserError(f"The checkpoint to upgrade is of another {what}.", found=found, expected=expected,
                            fix=f"give the checkpoint of this {what} with --upgrade")
    if configuration not in model.plans["configurations"]:
        raise UserError("The checkpoint to upgrade has no such configuration.", found=configuration,
                        expected=" or ".join(model.plans["configurations"]), fix="choose one of these")


def write_upgrade_plans(model: NnUNetModel, preprocessed_folder: Path, configuration: str) -> str:
    """Writes the model's plans with a diffusion section beside the preprocessed data and returns their name.

    The data is what the model was trained on: nothing is preprocessed again.
    """
    name = preprocessed_folder.name
    MedSegDiffFingerprintExtractor(name, 1).run(overwrite_existing=False)
    planner = MedSegDiffPlanner(name, "auto", RESOURCES["gpu"])
    plans = copy.deepcopy(model.plans)
    plans["plans_name"] = UPGRADED_PLANS + model.plans["plans_name"]
    owner = holder(plans, configuration, NETWORK)
    plans["configurations"][owner][PLANS_KEY] = planner.diffusion_section(resolved(
        plans, owner)).changed(frozen_conditioner=True).to_plan()
    write_json(plans, preprocessed_folder / f"{plans['plans_name']}.json")
    return plans["plans_name"]
