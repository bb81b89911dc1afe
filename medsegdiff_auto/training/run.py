"""From a command line's wishes to a finished fold: checks first, then nnU-Net's sequence of calls."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from batchgenerators.utilities.file_and_folder_operations import load_json

from medsegdiff_auto.cores import compute_on_cpu
from medsegdiff_auto.diffusion.configuration import PLANS_KEY
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.nnunet.plain_pickle import require_plain
from medsegdiff_auto.paths import model_name
from medsegdiff_auto.nnunet.plans import differing_keys
from medsegdiff_auto.nnunet.dataset_files import NUM_FOLDS, SPLITS_FILE, is_divisible, next_stage_folder
from medsegdiff_auto.nnunet.inheritance import DATA, resolved
from medsegdiff_auto.nnunet.known_names import read_plans
from medsegdiff_auto.nnunet.managers import PlansManager
from medsegdiff_auto.planning.raters import SUFFIX as RATERS
from medsegdiff_auto.files.provenance import recorded
from medsegdiff_auto.planning.made_from import require_preprocessed
from medsegdiff_auto.training.batches import seed_everything
from medsegdiff_auto.training.checkpoints import load_nnunet
from medsegdiff_auto.training.folds import folds_of, require_same_folds
from medsegdiff_auto.training.interruptible import InterruptibleTrainer
from medsegdiff_auto.training.plain import nnUNetTrainer
from medsegdiff_auto.training.schedule import TrainingLength
from medsegdiff_auto.training.termination import TerminationRequest, end_paused
from medsegdiff_auto.training.trainer import nnUNetTrainerMedSegDiff
from medsegdiff_auto.training.twin import nnUNetTrainerMedSegDiffTwin, without_state

logger = logging.getLogger(__name__)

TRAINERS = {trainer.__name__: trainer
            for trainer in (nnUNetTrainerMedSegDiff, nnUNetTrainerMedSegDiffTwin, nnUNetTrainer)}
CHECKPOINTS_TO_CONTINUE = ("checkpoint_final.pth", "checkpoint_latest.pth", "checkpoint_best.pth")


@dataclass(frozen=True)
class TrainingRequest:
    """What to train. ``fold`` is a number or ``all``; ``trainer`` a key of :data:`TRAINERS`.

    Without a ``length`` a new training has nnU-Net's, a continued one that of its checkpoint. An automatic request is
    for :func:`left_to_do`.
    """

    dataset_name: str
    configuration: str
    fold: int | str
    plans_identifier: str
    trainer: str
    device: str
    length: TrainingLength | None = None
    max_hours: float | None = None
    pause_after_hours: float | None = None
    seed: int | None = None
    continue_training: bool = False
    is_automatic: bool = False
    only_validate: bool = False
    validate_best: bool = False
    save_probabilities: bool = False
    overwrite: bool = False
    conditioner_checkpoint: Path | None = None

    def fold_folder(self, results_folder: Path) -> Path:
        """Where nnU-Net keeps the fold."""
        model = model_name(self.trainer, self.plans_identifier, self.configuration)
        return results_folder / self.dataset_name / model / f"fold_{self.fold}"


def require_device(name: str | None) -> torch.device:
    """The torch device; without a name cuda where there is one, else the CPU, which the log then says.

    Raises:
        UserError: this machine does not have it.
    """
    if name is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        logger.info("There is no CUDA device: the CPU computes.")
        return torch.device("cpu")
    available = ["cpu"] + ["cuda"] * torch.cuda.is_available() + ["mps"] * torch.backends.mps.is_available()
    if name not in available:
        repair = "" if len(available) > 1 else ", or repair the GPU driver (nvidia-smi shows its state)"
        raise UserError("The device is not available.", found=name, expected=" or ".join(available),
                        fix=f"add -device {available[-1]}{repair}")
    return torch.device(name)


def load_plans(preprocessed_folder: Path, plans_identifier: str, configuration: str) -> dict:
    """The plans of a preprocessed dataset that has data for this configuration.

    Raises:
        UserError: there are no such plans, no such configuration, or it is not preprocessed.
    """
    file = preprocessed_folder / f"{plans_identifier}.json"
    dataset_id = int(preprocessed_folder.name[7:10])
    if not file.is_file():
        present = sorted(f.stem for f in preprocessed_folder.glob("*Plans*.json") if not f.stem.endswith("_run"))
        raise UserError(f"{preprocessed_folder.name} has no plans of this name.", found=plans_identifier,
                        expected=" or ".join(present) or "plans in the preprocessed folder",
                        fix=f"run medsegdiff_plan_and_preprocess -d {dataset_id}")
    plans = read_plans(file)
    planned = plans["configurations"]
    if configuration not in planned:
        raise UserError(f"The plans {plans_identifier} have no configuration {configuration}.", found=configuration,
                        expected=" or ".join(planned), fix="choose one of these")
    data_identifier = resolved(plans, configuration)[DATA]
    if not (preprocessed_folder / data_identifier).is_dir():
        raise UserError(f"{configuration} is planned but not preprocessed.",
                        found=f"no folder {data_identifier} in {preprocessed_folder}",
                        expected="the preprocessed cases",
                        fix=f"run medsegdiff_plan_and_preprocess -d {dataset_id} -c {configuration}")
    return plans


def require_fold(preprocessed_folder: Path, fold: int | str) -> None:
    """Checks that the fold exists in the split, or in nnU-Net's default of five.

    Raises:
        UserError: it does not, or there are fewer cases than folds.
    """
    if fold == "all":
        return
    splits_file = preprocessed_folder / SPLITS_FILE
    if not is_divisible(preprocessed_folder):
        raise UserError(f"There are too few cases for {NUM_FOLDS} folds.", found=f"fold {fold}",
                        expected="fold all, or a split with fewer folds",
                        fix=f"train fold all, or write {splits_file}: [{{\"train\": [...], \"val\": [...]}}, ...]")
    num_folds = len(load_json(str(splits_file))) if splits_file.is_file() else NUM_FOLDS
    if not 0 <= fold < num_folds:
        raise UserError("The fold does not exist.", found=str(fold), expected=f"0 to {num_folds - 1}, or all",
                        fix=f"choose one of these, or add the fold to {splits_file}")


def build_trainer(request: TrainingRequest, preprocessed_folder: Path, model_folder: Path) -> InterruptibleTrainer:
    """A trainer of the requested class with the requested length; nothing is trained yet."""
    plans = load_plans(preprocessed_folder, request.plans_identifier, request.configuration)
    require_fold(preprocessed_folder, request.fold)
    section = resolved(plans, request.configuration)
    dataset_json = load_json(str(preprocessed_folder / "dataset.json"))
    require_preprocessed(preprocessed_folder, plans, section[DATA], dataset_json)
    if issubclass(TRAINERS[request.trainer], nnUNetTrainerMedSegDiff) and PLANS_KEY not in section:
        raise UserError(f"The plans {request.plans_identifier} have no diffusion section.",
                        found="plans of plain nnU-Net", expected="plans by medsegdiff_plan_and_preprocess",
                        fix="plan with medsegdiff_plan_and_preprocess, or train with -tr nnUNetTrainer")
    data_folder = preprocessed_folder / section[DATA]
    require_plain([*data_folder.glob("*.pkl"), *Path(f"{data_folder}{RATERS}").glob("*/*.pkl")])
    require_fitting_patch(plans, request.configuration)
    require_previous_stage(request, section)
    if request.trainer == nnUNetTrainerMedSegDiffTwin.__name__:
        without_state(plans)
    require_same_plan(model_folder, plans, request.configuration)
    device = require_device(request.device)
    plans["continue_training"] = request.continue_training
    trainer = TRAINERS[request.trainer](plans, request.configuration, request.fold, dataset_json, device)
    if request.conditioner_checkpoint is not None:
        trainer.conditioner_checkpoint = str(request.conditioner_checkpoint)
    set_length(trainer, request.length, request.max_hours)
    return trainer


def require_fitting_patch(plans: dict, configuration: str) -> None:
    """Checks that the network can halve the patch as often as it is built to: plans are also edited by hand.

    Raises:
        UserError: an axis of the patch is no multiple of the product of its strides.
    """
    configuration_manager = PlansManager(plans).get_configuration(configuration)
    strides = np.prod(configuration_manager.network_arch_init_kwargs["strides"], axis=0).tolist()
    patch_size = list(configuration_manager.patch_size)
    if any(size % stride for size, stride in zip(patch_size, strides)):
        raise UserError(f"The patch of {configuration} does not fit the network.", found=f"patch_size {patch_size}",
                        expected=f"multiples of {strides}, the products of the strides along each axis",
                        fix="correct patch_size in the plans, or plan anew")


def require_previous_stage(request: TrainingRequest, section: dict) -> None:
    """Checks that a cascade finds the predictions of its first stage.

    Raises:
        UserError: they are missing.
    """
    previous = section.get("previous_stage")
    if previous is None:
        return
    from nnunetv2.paths import nnUNet_results

    model = model_name(request.trainer, request.plans_identifier, previous)
    folder = next_stage_folder(Path(nnUNet_results) / request.dataset_name / model, request.configuration)
    if not folder.is_dir():
        raise UserError("The cascade needs the predictions of its first stage.", found=f"no folder {folder}",
                        expected=f"{previous} trained and validated in all folds",
                        fix=f"run medsegdiff_train {request.dataset_name} {previous} FOLD for every fold")


def require_same_plan(model_folder: Path, plans: dict, configuration: str) -> None:
    """Checks that the folds that are trained already share this plan: one model has one plan.

    Raises:
        UserError: the configuration was planned anew since.
    """
    trained = sorted(file.parent.name for file in model_folder.glob("fold_*/checkpoint_final.pth"))
    if not trained or not (model_folder / "plans.json").is_file():
        return
    theirs = load_json(str(model_folder / "plans.json"))["configurations"].get(configuration, {})
    changed = differing_keys(plans["configurations"][configuration], theirs)
    if changed:
        raise UserError(f"The plan of {configuration} has changed since {', '.join(trained)} were trained.",
                        found=f"other values of {', '.join(changed)}",
                        expected=f"the plan in {model_folder / 'plans.json'}",
                        fix="plan under another name with -overwrite_plans_name and train with -p, "
                            "or move the old model away")


def set_length(trainer: InterruptibleTrainer, length: TrainingLength | None, max_hours: float | None) -> None:
    """Sets the length of either trainer; nnU-Net's own knows no limit in hours."""
    if max_hours is not None and isinstance(trainer, nnUNetTrainer):
        raise UserError("nnUNetTrainer cannot end by the clock.", found=f"--max_hours {max_hours:g}",
                        expected="--epochs or --iterations with -tr nnUNetTrainer",
                        fix="leave out --max_hours; --pause_after stops it until it is continued")
    trainer.max_hours = max_hours
    if length is not None:
        trainer.set_length(length)


def checkpoint_to_load(fold_folder: Path, request: TrainingRequest) -> Path | None:
    """The checkpoint that continuing or validating starts from; None for a new training.

    Raises:
        UserError: there is none to continue from, the training to validate is not finished, or a finished
            training would be overwritten.
    """
    if request.continue_training:
        found = [fold_folder / name for name in CHECKPOINTS_TO_CONTINUE if (fold_folder / name).is_file()]
        if not found:
            raise UserError("There is no checkpoint to continue from.", found=f"no checkpoint in {fold_folder}",
                            expected=" or ".join(CHECKPOINTS_TO_CONTINUE), fix="start the training without --c")
        return found[0]
    final = fold_folder / "checkpoint_final.pth"
    if request.only_validate:
        wanted = fold_folder / "checkpoint_best.pth" if request.validate_best else final
        if not wanted.is_file():
            raise UserError("The training to validate is not finished.", found=f"no {wanted.name} in {fold_folder}",
                            expected="a finished training", fix="finish it with --c, or validate with --val --val_best")
        return wanted
    if final.is_file() and not request.overwrite:
        raise UserError("This fold is already trained.", found=str(final),
                        expected="a fold without checkpoint_final.pth",
                        fix="--val validates it again, --c resumes it, --overwrite trains it anew")
    return None


def left_to_do(request: TrainingRequest, fold_folder: Path, num_cases: int) -> TrainingRequest | None:
    """The request as far as it is not done: all of it, from the latest checkpoint on, or the validation; None where
    nothing is left.

    Args:
        num_cases: validation cases of the fold.
    """
    final = fold_folder / "checkpoint_final.pth"
    if final.is_file() and is_at_its_end(final, request):
        return None if is_validated(fold_folder, num_cases) else replace(request, continue_training=False,
                                                                         only_validate=True)
    has_begun = any((fold_folder / name).is_file() for name in CHECKPOINTS_TO_CONTINUE)
    return replace(request, continue_training=has_begun)


def require_same_seed(checkpoint: Path, seed: int | None) -> None:
    """Checks that a training goes on, or counts, with the seed that it was begun with; None and nnU-Net's own agree.

    Raises:
        UserError: it was begun with another one.
    """
    if seed is None:
        return
    begun_with = load_nnunet(checkpoint).get("seed")
    if begun_with not in (None, seed):
        raise UserError("The fold was begun with another seed.",
                        found=f"--seed {seed}, and {begun_with} in {checkpoint}",
                        expected=f"--seed {begun_with}, or none",
                        fix="leave out --seed, or train the fold anew with --overwrite")


def is_at_its_end(final: Path, request: TrainingRequest) -> bool:
    """Whether a finished training is as long as the request wants it: one that was stopped, or that was asked to be
    shorter, is not. A limit in hours ends it where it did.
    """
    checkpoint = load_nnunet(final)
    length = request.length or TrainingLength()
    planned = checkpoint.get("length", [length.num_epochs, length.num_iterations_per_epoch])  # nnU-Net does not tell
    if request.length is not None and planned[0] * planned[1] < length.num_epochs * length.num_iterations_per_epoch:
        return False
    return request.max_hours is not None or checkpoint["current_epoch"] >= planned[0]


def num_validation_cases(request: TrainingRequest, preprocessed_folder: Path) -> int:
    """Cases that the fold is validated on; all that there are for fold ``all``."""
    plans = load_plans(preprocessed_folder, request.plans_identifier, request.configuration)
    data_identifier = resolved(plans, request.configuration)[DATA]
    if request.fold == "all":
        return len(list((preprocessed_folder / data_identifier).glob("*.pkl")))
    require_fold(preprocessed_folder, request.fold)
    return len(folds_of(preprocessed_folder, data_identifier)[int(request.fold)]["val"])


def is_validated(fold_folder: Path, num_cases: int) -> bool:
    """Whether the validation is whole and not older than the finished training."""
    summary, final = fold_folder / "validation" / "summary.json", fold_folder / "checkpoint_final.pth"
    if not summary.is_file() or summary.stat().st_mtime < final.stat().st_mtime:
        return False
    try:
        return len(load_json(str(summary))["metric_per_case"]) == num_cases
    except (ValueError, KeyError, TypeError):  # cut off while it was written
        return False


def train(request: TrainingRequest, preprocessed_folder: Path, results_folder: Path) -> Path:
    """Trains and validates one fold as nnU-Net does and returns its folder.

    Raises:
        SystemExit: SIGTERM came, or it is to pause; the code is that of a pause.
    """
    with TerminationRequest(end_paused):  # a training answers it with a checkpoint first
        return _train(request, preprocessed_folder, results_folder)


def _train(request: TrainingRequest, preprocessed_folder: Path, results_folder: Path) -> Path:
    if request.device == "cuda":
        torch.backends.cudnn.benchmark = True  # as nnU-Net sets it: all patches are of one size
    elif request.device == "cpu" and not torch.distributed.is_initialized():
        compute_on_cpu()
    fold_folder, is_done = request.fold_folder(results_folder), False
    if request.is_automatic:
        left = left_to_do(request, fold_folder, num_validation_cases(request, preprocessed_folder))
        request, is_done = left or replace(request, only_validate=True, continue_training=False), left is None
    checkpoint = checkpoint_to_load(fold_folder, request)
    if checkpoint is not None and (request.continue_training or request.is_automatic):
        require_same_seed(checkpoint, request.seed)
    if request.seed is not None:
        seed_everything(request.seed)
    trainer = build_trainer(request, preprocessed_folder, fold_folder.parent)
    splits = folds_of(preprocessed_folder, trainer.configuration_manager.data_identifier)
    require_same_folds(fold_folder.parent, splits, but=request.fold if checkpoint is None else None)
    if is_done:  # with the plan and the folds of now
        logger.info("%s is trained and validated: nothing is left to do.", fold_folder)
        return fold_folder
    if request.seed is not None:
        trainer.seed = request.seed
    trainer.pause_after_hours = request.pause_after_hours
    if checkpoint is not None:
        trainer.load_checkpoint(str(checkpoint))
    if not request.only_validate:
        with recorded(fold_folder, **({} if request.fold == "all" else splits[int(request.fold)])):
            trainer.run_training()
        if request.validate_best:
            trainer.load_checkpoint(str(fold_folder / "checkpoint_best.pth"))
    trainer.keeps_validated = request.is_automatic
    trainer.perform_actual_validation(request.save_probabilities)
    return fold_folder
