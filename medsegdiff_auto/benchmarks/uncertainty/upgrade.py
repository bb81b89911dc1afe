"""What an upgrade adds to a trained nnU-Net: accuracy, calibration and joint samples beside its cheap competitors.

Every scalar (temperature, dispersion, weight) is fitted on every second validation case and judged on the others.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from collections.abc import Callable, Iterator

import numpy as np
import torch
from acvl_utils.cropping_and_padding.padding import pad_nd_image
from torch import Tensor

from medsegdiff_auto import paths
from medsegdiff_auto.training.planned_training import initialized_trainer
from medsegdiff_auto.benchmarks.uncertainty.stochastic_segmentation import (LowRankGaussianHead, sampled_probabilities,
                                                                            train_head)
from medsegdiff_auto.benchmarks.trained_model import case_means, model_of, model_parser
from medsegdiff_auto.cores import compute_on_cpu
from medsegdiff_auto.evaluation.audit import scores, validation_cases
from medsegdiff_auto.selection.dispersion import CaseSampler, FoldCases, best_dispersion, fit_dispersion
from medsegdiff_auto.selection.drawn_cases import volume_margins
from medsegdiff_auto.selection.sampling_fit import best_weight, weights_scored
from medsegdiff_auto.evaluation.paired import compare_paired
from medsegdiff_auto.nnunet.structures import structures_of
from medsegdiff_auto.selection.temperature_fit import TEMPERATURES
from medsegdiff_auto.decision.conformal import Margins, margin_for, sample_quantiles, widened
from medsegdiff_auto.decision.decoder import label_maps
from medsegdiff_auto.inference.model import TrainedModel
from medsegdiff_auto.inference.predictor import CaseDistribution, MedSegDiffPredictor, SamplingOptions
from medsegdiff_auto.decision.temperature import scaled
from medsegdiff_auto.networks.conditioner import Conditioner
from medsegdiff_auto.training.step import reference_state
from medsegdiff_auto.training.trainer import nnUNetTrainerMedSegDiff

NUM_SAMPLES, SAMPLE_SEED, TRAINING_SEED = 8, 0, 0
COLUMNS = {"dice": "Dice", "ece": "ECE", "nll": "NLL", "expected_dice_between_samples": "between samples",
           "expected_dice_sample_reference": "sample-reference", "in_interval": "in interval", "sample_width": "width",
           "conformal": "in conformal", "conformal_width": "its width"}
Distribution = Callable[[str, np.ndarray], CaseDistribution]


def certain(probabilities: Tensor) -> CaseDistribution:
    """One answer without samples."""
    return CaseDistribution(probabilities, probabilities[None].half(), 1.0)


def tempered(probabilities: Tensor, temperature: float, target: str) -> Tensor:
    """Temperature scaling of probabilities (K, *spatial), of certain voxels too."""
    return torch.from_numpy(scaled(probabilities.numpy(), temperature, target == "regions"))


def judged(distribution: Distribution, cases: list[tuple], model: TrainedModel, margins: dict[str, Margins],
           temperature: float = 1.0) -> list[dict]:
    """Rows of all cases and structures; ``conformal`` and ``conformal_width`` are of the interval with its margin."""
    rows = []
    for case, image, reference, _ in cases:
        drawn = distribution(case, image)
        rows += [
            row | interval
            for row, interval in zip(scores(case, drawn, reference, model, drawn.conditioner_weight, temperature),
                                     intervals(drawn, reference, model, margins))
        ]
    return rows


def intervals(drawn: CaseDistribution, reference: np.ndarray, model: TrainedModel,
              margins: dict[str, Margins]) -> Iterator[dict]:
    """Whether a structure's interval of sizes holds the reference, and its width over the size of the reference."""
    label_manager = model.plans_manager.get_label_manager(model.dataset_json)
    maps = label_maps(drawn.samples, label_manager)
    for structure in structures_of(model.dataset_json):
        lower, middle, upper = sample_quantiles(structure.mask(maps).reshape(len(maps), -1).sum(1))
        size, row = float(structure.mask(reference).sum()), {}
        for kind, margin in (("in_interval", None), ("conformal", margin_for(margins.get(structure.name), len(maps)))):
            low, high = widened(lower, middle, upper, margin)
            known = size > 0 and (kind == "in_interval" or margin is not None)
            row[kind] = float(low <= size <= high) if known else float("nan")
            row[kind.replace("in_interval", "sample") + "_width"] = (high - low) / size if known else float("nan")
        yield row


def temperature_of_plain(plain: dict[str, Tensor], cases: list[tuple], model: TrainedModel) -> float:
    """The temperature of the smallest negative log-likelihood on the cases to fit on."""
    def nll(temperature: float) -> float:
        return float(np.nanmean([row["nll"] for case, _, reference, _ in cases for row in scores(
            case, certain(tempered(plain[case], temperature, model.diffusion.target)), reference, model, 1.0)]))

    return float(min(TEMPERATURES, key=nll))


def gaussian_head_distribution(model: TrainedModel, configuration: str, num_iterations: int,
                               preprocessed: Path) -> Distribution:
    """Trains the baseline on the frozen network of an upgraded model."""
    plans = dict(model.plans_manager.plans)
    trainer = initialized_trainer(nnUNetTrainerMedSegDiff, plans, configuration, model.dataset_json,
                                  torch.device("cpu"), preprocessed / model.configuration_manager.data_identifier)
    trainer.fold, trainer.seed = model.folds[0], TRAINING_SEED
    torch.manual_seed(TRAINING_SEED)
    model.network.load_state_dict(model.fold_weights[0])
    conditioner = Conditioner(model.network.conditioner.unet, first_stage=0).eval()
    head = LowRankGaussianHead(conditioner.unet.decoder.seg_layers[-1])
    batches, _ = trainer.get_dataloaders()
    losses = train_head(head, batches, lambda image: conditioner(image).pyramid[0], num_iterations,
                        model.diffusion.target, lambda target: reference_state(target, trainer.label_manager)[0])
    print(f"Gaussian head: loss {np.mean(losses[:20]):.4f} -> {np.mean(losses[-20:]):.4f}", flush=True)

    predictor = MedSegDiffPredictor(model)
    return lambda case, image: gaussian_samples(head, conditioner, image, predictor)


@torch.inference_mode()
def gaussian_samples(head: LowRankGaussianHead, conditioner: Conditioner, data: np.ndarray,
                     predictor: MedSegDiffPredictor) -> CaseDistribution:
    """The head's samples blended over the tiles of a case; one draw of factors per sample serves all tiles."""
    patch, target = predictor.configuration_manager.patch_size, predictor.diffusion.target
    image, revert_padding = pad_nd_image(torch.from_numpy(data).float(), patch, "constant", {"value": 0}, True, None)
    tiles = predictor.tiles_of(image.shape[1:])
    num_outputs = predictor.label_manager.num_segmentation_heads

    def of_tile(index: int) -> Tensor:
        return sampled_probabilities(head,
                                     conditioner(tiles.cut(image, index)[None]).pyramid[0], NUM_SAMPLES, target,
                                     SAMPLE_SEED)

    samples = tiles.blended((NUM_SAMPLES, num_outputs), of_tile)[(slice(None), slice(None), *revert_padding[1:])]
    return CaseDistribution(samples.mean(0), samples.half(), 0.0)


def main() -> None:
    parser = model_parser(__doc__)
    parser.add_argument("-f", type=int, default=0, help="fold")
    parser.add_argument("--iterations", type=int, required=True, help="of the Gaussian head")
    parser.add_argument("--only_ours", action="store_true", help="without temperature, twin and Gaussian head")
    parser.add_argument("--steps", type=int, help="network evaluations per sample")
    args = parser.parse_args()
    preprocessed = paths.preprocessed_folder(args.d)
    compute_on_cpu()
    model, twin = (model_of(args, args.f, trainer=trainer)
                   for trainer in (paths.OUR_TRAINER, f"{paths.OUR_TRAINER}Twin"))
    cases = list(validation_cases(model, preprocessed, args.f))
    to_fit, to_judge = cases[::2], cases[1::2]
    table = {label: judged(distribution, to_judge, model, margins)
             for label, distribution, margins in methods(model, twin, to_fit, cases, preprocessed, args)}
    print(f"| on {len(to_judge)} cases | {' | '.join(COLUMNS.values())} | Dice - checkpoint (95 %) "
          f"|\n|{'---|' * (len(COLUMNS) + 2)}")
    reference = case_means(table["checkpoint, all mirrors"], lambda row: row["dice"])
    for label, rows in table.items():
        difference = compare_paired(case_means(rows, lambda row: row["dice"]), reference)
        means = " | ".join(f"{np.nanmean([row[column] for row in rows]):.4f}" if any(
            not np.isnan(row[column]) for row in rows) else "-" for column in COLUMNS)
        print(f"| {label} | {means} | {difference.mean_difference:+.4f} ({difference.low:+.4f} to "
              f"{difference.high:+.4f}) |")


def methods(model: TrainedModel, twin: TrainedModel, to_fit: list[tuple], cases: list[tuple], preprocessed: Path,
            args) -> Iterator[tuple[str, Distribution, dict[str, float]]]:
    """Label, distribution and volume margins of every competitor, fitted on ``to_fit``."""
    num_views = 2 ** len(model.configuration_manager.patch_size)
    for label, num_mirrors in (("checkpoint, no mirrors", 1), ("checkpoint, all mirrors", num_views)):
        predictor = MedSegDiffPredictor(model, SamplingOptions(1, 1, num_mirrors))
        plain = {case: predictor.sample_case(image, case).conditioner for case, image, _, _ in cases}
        yield label, lambda case, _, plain=plain: certain(plain[case]), {}
    if not args.only_ours:
        temperature = temperature_of_plain(plain, to_fit, model)
        yield (f"checkpoint, all mirrors, temperature {temperature:.2f}",
               lambda case, _: certain(tempered(plain[case], temperature, model.diffusion.target)), {})
        of_twin = MedSegDiffPredictor(twin, SamplingOptions(1))
        yield "no-diffusion twin", lambda case, image: of_twin.sample_case(image, case), {}
        yield "Gaussian head", gaussian_head_distribution(model, args.c, args.iterations, preprocessed), {}
    predictor = MedSegDiffPredictor(model, SamplingOptions(NUM_SAMPLES, args.steps))
    yield "upgraded, as planned", lambda case, image: predictor.sample_case(image, case), {}
    sampler = CaseSampler([FoldCases(predictor, model, to_fit)])
    planned = model.diffusion.sampling
    tau = best_dispersion(fit_dispersion(sampler.measure, planned.dispersion))
    weight = best_weight(weights_scored(sampler.best_cases, planned.conditioner_weight), planned.conditioner_weight)
    predictor.network.configuration = predictor.network.configuration.changed(dispersion=tau)
    yield (f"upgraded, dispersion {tau:.2f}, weight {weight:g}",
           lambda case, image: replace(predictor.sample_case(image, case), conditioner_weight=weight),
           volume_margins(sampler.best_cases))


if __name__ == "__main__":
    main()
