"""The steps of ``first_light`` with one planned and preprocessed dataset: training, masks, seconds, memory."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np
import torch

from medsegdiff_auto.training.planned_training import read_plans
from medsegdiff_auto.planning.memory import predicted_peak_gb
from medsegdiff_auto.benchmarks.prediction_time import NNUNET, competitors, middle_of
from medsegdiff_auto.benchmarks.prediction_time import paired_seconds as paired_seconds_of_cases
from medsegdiff_auto.benchmarks.training_memory import CPU, allocated_peak_gb, train
from medsegdiff_auto.benchmarks.training_time import median_ratio
from medsegdiff_auto.benchmarks.training_time import paired_seconds as paired_seconds_of_steps
from medsegdiff_auto.decision.decoder import by_mean, label_maps
from medsegdiff_auto.evaluation.audit import dice_to_own, validation_cases
from medsegdiff_auto.inference.model import TrainedModel, load_model
from medsegdiff_auto.inference.options import SamplingOptions
from medsegdiff_auto.inference.predictor import CaseDistribution, MedSegDiffPredictor
from medsegdiff_auto.nnunet.managers import LabelManager, PlansManager
from medsegdiff_auto.nnunet.structures import Structure, structures_of
from medsegdiff_auto.overlap import dice
from medsegdiff_auto.paths import OUR_TRAINER, model_name
from medsegdiff_auto.planning.memory import BYTES_PER_GB
from medsegdiff_auto.sampling.case_size import CaseSize
from medsegdiff_auto.training.step import HALF_PRECISION
from medsegdiff_auto.training.run import TrainingRequest, build_trainer
from medsegdiff_auto.training.batches import seed_everything
from medsegdiff_auto.training.schedule import TrainingLength

FOLD, CHECKPOINT, OURS = 0, "checkpoint_final.pth", "MedSegDiff-Auto"
COMPILED_MODELS, PLAIN_MODELS = "compiled", "not_compiled"
LARGEST_CHECKPOINT_BYTES = 16 * 2 ** 20
NUM_SLICES = 4  # of a volume that a 2-D plan predicts slice by slice


class Measurement(NamedTuple):
    """One value with its unit; ``low`` and ``high`` are its 95 % interval."""

    what: str
    value: float
    unit: str = ""
    low: float | None = None
    high: float | None = None


@dataclass
class Measured:
    """What a step gives: measurements, and beside them what they were computed from, of types that JSON knows."""

    measurements: list[Measurement]
    recorded: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Subject:
    """One configuration of a preprocessed dataset."""

    preprocessed: Path
    configuration: str
    plans: str

    @property
    def name(self) -> str:
        """The dataset's."""
        return self.preprocessed.name

    @property
    def plans_file(self) -> Path:
        return self.preprocessed / f"{self.plans}.json"


@dataclass(frozen=True)
class Amount:
    """How much is done.

    Attributes:
        iterations: of each training.
        pairs: of training steps, nnU-Net's and ours.
        cases: validation cases.
        rounds: predictions of each case by each method.
        samples: two numbers of samples; the first is drawn for the masks.
        workers: that load the training's batches.
    """

    iterations: int
    pairs: int
    cases: int
    rounds: int
    samples: tuple[int, int]
    workers: int


@dataclass(frozen=True)
class Settings:
    """What holds for all steps.

    Attributes:
        work: folder of the trained models, gone at the end.
        output: folder of what stays.
    """

    device: torch.device
    seed: int
    amount: Amount
    work: Path
    output: Path


def results_folder(settings: Settings, is_compiled: bool) -> Path:
    """Where models are trained that are compiled, or those that are not."""
    return settings.work / (COMPILED_MODELS if is_compiled else PLAIN_MODELS)


def train_model(subject: Subject, settings: Settings, is_compiled: bool) -> Measured:
    """Trains fold 0 as the command does, with loaders, epochs and checkpoints, but without nnU-Net's final validation.

    Raises:
        FloatingPointError: a loss is not finite.
    """
    length = TrainingLength.of_iterations(settings.amount.iterations)
    request = TrainingRequest(subject.name, subject.configuration, FOLD, subject.plans, OUR_TRAINER,
                              settings.device.type, length, seed=settings.seed)
    folder = request.fold_folder(results_folder(settings, is_compiled))
    seed_everything(settings.seed)
    trainer = build_trainer(request, subject.preprocessed, folder.parent)
    trainer.seed = settings.seed
    begin = perf_counter()
    trainer.run_training()
    seconds, num_iterations = perf_counter() - begin, length.num_epochs * length.num_iterations_per_epoch
    losses = {"loss": [float(loss) for loss in trainer.logger.get_value("train_losses", step=None)],
              "denoiser_loss": trainer.denoiser_losses}
    if not np.isfinite([*losses.values()]).all():
        raise FloatingPointError(f"a loss is not finite: {losses}")
    scale = trainer.grad_scaler.get_scale() if trainer.grad_scaler is not None else None
    of_losses = [Measurement(f"{name} of the {which} epoch", values[epoch])
                 for name, values in losses.items() for which, epoch in (("first", 0), ("last", -1))]
    return Measured(
        [Measurement("an iteration, loading, checkpoints and compilation included", seconds / num_iterations, "s"),
         *of_losses],
        {"seconds": seconds, "iterations": num_iterations, **losses, "scale_of_gradients": scale,
         "precision": str(HALF_PRECISION.get(settings.device.type, torch.float32)),
         "checkpoint": kept(folder / CHECKPOINT, subject, settings.output, is_compiled)})


def kept(checkpoint: Path, subject: Subject, output: Path, is_compiled: bool) -> dict:
    """Copies a checkpoint into the output folder, unless it is too large to be carried back; says which."""
    name = "__".join((subject.name, subject.configuration, COMPILED_MODELS if is_compiled else PLAIN_MODELS))
    size = checkpoint.stat().st_size
    if size <= LARGEST_CHECKPOINT_BYTES:
        shutil.copyfile(checkpoint, output / f"{name}.pth")
    return {"file": f"{name}.pth" if size <= LARGEST_CHECKPOINT_BYTES else None, "bytes": size}


def trained(subject: Subject, settings: Settings) -> TrainedModel:
    """The model, not compiled where there is one.

    Raises:
        FileNotFoundError: no training has come to its end.
    """
    name = model_name(OUR_TRAINER, subject.plans, subject.configuration)
    for is_compiled in (False, True):
        folder = results_folder(settings, is_compiled) / subject.name / name
        if (folder / f"fold_{FOLD}" / CHECKPOINT).is_file():
            return load_model(folder, [FOLD])
    raise FileNotFoundError(f"no training of {subject.name} {subject.configuration} has come to its end")


def cases_of(subject: Subject, settings: Settings, model: TrainedModel) -> list[tuple[str, np.ndarray]]:
    """Validation cases by name: the middle (C, *spatial) of each, one patch, but two along the last axis."""
    *others, last = model.configuration_manager.patch_size
    size = [NUM_SLICES] * (2 - len(others)) + [*others, 2 * last]
    found = islice(validation_cases(model, subject.preprocessed, FOLD), settings.amount.cases)
    return [(name, middle_of(image, size)) for name, image, _, _ in found]


def agreement(first: CaseDistribution, second: CaseDistribution, labels: LabelManager,
              structures: Sequence[Structure]) -> dict:
    """How alike two predictions of a case are: Dice by structure, equal voxels, differences of probabilities.

    Two empty masks have a Dice of 1; ``voxels`` says how large the second one's structures are.
    """
    fused, others = first.fused, second.fused
    mask, other = by_mean(fused, labels), by_mean(others, labels)
    samples, other_samples = label_maps(first.samples, labels), label_maps(second.samples, labels)
    return {"dice": {one.name: dice(one.mask(mask), one.mask(other), both_empty=1.0) for one in structures},
            "voxels": {one.name: int(one.mask(other).sum()) for one in structures},
            "equal": float((mask == other).mean()),
            "difference": float((fused - others).abs().max()),
            "plain_difference": float((first.conditioner - second.conditioner).abs().max()),
            "sample_dice": {one.name: dice_to_own(other_samples, samples, one) for one in structures},
            "sample_equal": float((samples == other_samples).mean())}


def compare_masks(solver: str, subject: Subject, settings: Settings, is_compiled: bool) -> Measured:
    """The device's masks beside the CPU's: the same weights, cases, noise and solver."""
    options = SamplingOptions(settings.amount.samples[0], solver=solver, seed=settings.seed)

    model = trained(subject, settings)
    images = cases_of(subject, settings, model)

    def drawn(device: torch.device) -> list[CaseDistribution]:
        predictor = MedSegDiffPredictor(trained(subject, settings), options, device)
        return [predictor.sample_case(image, name) for name, image in images]

    labels, structures = model.plans_manager.get_label_manager(model.dataset_json), structures_of(model.dataset_json)
    cases = {name: agreement(first, second, labels, structures)
             for (name, _), first, second in zip(images, drawn(settings.device), drawn(CPU))}
    rows = list(cases.values())
    of_structures = [Measurement(f"{what}, {one.name}, Dice with the CPU's, lowest of the cases",
                                 min(row[key][one.name] for row in rows))
                     for key, what in (("dice", "mask"), ("sample_dice", "samples")) for one in structures]
    return Measured(
        [*of_structures,
         *(Measurement(f"mask, {one.name}, size of the CPU's", sum(row["voxels"][one.name] for row in rows), "voxels")
           for one in structures),
         *(Measurement(f"{what}, share of voxels with the CPU's label", float(np.mean([row[key] for row in rows])))
           for key, what in (("equal", "mask"), ("sample_equal", "samples"))),
         *(Measurement(f"probabilities, {what}, largest difference from the CPU's", max(row[key] for row in rows))
           for key, what in (("difference", "fused"), ("plain_difference", "plain network")))],
        {"solver": solver, "cases": cases, "model": str(model.folder.relative_to(settings.work))})


def in_pairs(seconds: dict[str, np.ndarray]) -> Measured:
    """Median seconds of each method, and each one's ratio to the first, median of the pairs with its interval."""
    first, *others = seconds
    return Measured(
        [*(Measurement(f"{method}, median", float(np.median(column)), "s") for method, column in seconds.items()),
         *(Measurement(f"{method} / {first}, median of pairs", *_ratio(seconds[first], seconds[method]))
           for method in others)],
        {"seconds": {method: column.tolist() for method, column in seconds.items()}})


def _ratio(first: np.ndarray, other: np.ndarray) -> tuple[float, str, float, float]:
    ratio, low, high = median_ratio(np.stack([first, other], axis=1))
    return ratio, "", low, high


def time_training(subject: Subject, settings: Settings, is_compiled: bool) -> Measured:
    """A training step of ours beside nnU-Net's, both networks compiled or neither."""
    seconds = paired_seconds_of_steps(subject.plans_file, subject.configuration, settings.amount.pairs, settings.device)
    return in_pairs({NNUNET: seconds[:, 0], OURS: seconds[:, 1]})


def time_prediction(subject: Subject, settings: Settings, is_compiled: bool) -> Measured:
    """A case beside nnU-Net's default prediction, whose network is compiled or not; ours never is."""
    model = trained(subject, settings)
    methods = competitors(model, settings.device, list(settings.amount.samples), [model.diffusion.sampling.num_steps])
    images = [image for _, image in cases_of(subject, settings, model)]
    seconds = paired_seconds_of_cases(methods, images, settings.amount.rounds)
    labels = [method if method == NNUNET else f"{method.num_samples} samples x {method.num_steps} steps"
              for method in methods]
    return in_pairs(dict(zip(labels, seconds.T)))


def peaks(predicted_gb: float, measured_gb: float) -> Measured:
    """A planned peak of memory beside the allocator's."""
    return Measured([Measurement("peak, measured", measured_gb, "GB"), Measurement("peak, planned", predicted_gb, "GB"),
                     Measurement("planned / measured", predicted_gb / measured_gb)])


def memory_of_training(subject: Subject, settings: Settings, is_compiled: bool) -> Measured:
    """The planner's peak of training beside the allocator's over two steps."""
    plans, dataset_json = read_plans(subject.plans_file)
    manager, device = PlansManager(plans), settings.device
    predicted = predicted_peak_gb(manager, manager.get_configuration(subject.configuration), dataset_json,
                                  half_precision=device.type in HALF_PRECISION)
    measured = allocated_peak_gb(lambda: train(plans, subject.configuration, dataset_json, device), device)
    return peaks(predicted, measured)


def memory_of_prediction(subject: Subject, settings: Settings, is_compiled: bool) -> Measured:
    """The memory plan's peak of a case on the device beside the allocator's, both without the weights."""
    model = trained(subject, settings)
    options = SamplingOptions(settings.amount.samples[1], seed=settings.seed)
    predictor = MedSegDiffPredictor(model, options, settings.device)
    name, image = cases_of(subject, settings, model)[0]
    shape = image.shape[1:]
    plan = predictor.memory_plan(CaseSize(len(image), predictor.label_manager.num_segmentation_heads, shape, shape))

    def draw() -> None:
        for _ in predictor.draw_case(image, name, plan):
            pass

    return peaks(plan.device_bytes / BYTES_PER_GB, allocated_peak_gb(draw, settings.device))


class Step(NamedTuple):
    """A row of :data:`STEPS`.

    Attributes:
        measure: of a subject, the settings, and whether networks are compiled.
        compiles: whether it is done once with and once without compilation.
    """

    measure: Callable[[Subject, Settings, bool], Measured]
    compiles: bool = True


STEPS = {"training": Step(train_model),
         "masks, ddim": Step(partial(compare_masks, "ddim"), compiles=False),
         "masks, dpm_solver_pp_2m": Step(partial(compare_masks, "dpm_solver_pp_2m"), compiles=False),
         "training step": Step(time_training),
         "prediction of a case": Step(time_prediction),
         "memory of training": Step(memory_of_training),
         "memory of prediction": Step(memory_of_prediction, compiles=False)}
