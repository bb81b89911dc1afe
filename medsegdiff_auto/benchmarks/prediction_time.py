"""Seconds of a case: fused samples with uncertainty beside nnU-Net's default prediction of the same network and plan.

Both predict the same preprocessed cases in turn, from the same tiles; nnU-Net mirrors along every axis it trained with.
"""

from __future__ import annotations

import argparse
from time import perf_counter, process_time
from typing import Callable

import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels

from medsegdiff_auto import paths
from medsegdiff_auto.benchmarks.training_time import median_ratio
from medsegdiff_auto.cores import num_cores
from medsegdiff_auto.evaluation.audit import validation_cases
from medsegdiff_auto.inference.model import TrainedModel, load_model
from medsegdiff_auto.inference.predictor import MedSegDiffPredictor, SamplingOptions
from medsegdiff_auto.inference.uncertainty import normalised_entropy


def nnunet_of(model: TrainedModel, fold: int, device: torch.device) -> nnUNetPredictor:
    """nnU-Net's predictor with the conditioner's weights: what nnU-Net itself would have been."""
    predictor = nnUNetPredictor(device=device, perform_everything_on_device=device.type == "cuda", allow_tqdm=False)
    weights = {name.removeprefix("conditioner.unet."): value for name, value in model.fold_weights[fold].items()
               if name.startswith("conditioner.unet.")}
    unet = nnUNetTrainer.build_network_architecture(
        model.plans_manager, model.configuration_manager,
        determine_num_input_channels(model.plans_manager, model.configuration_manager, model.dataset_json),
        model.plans_manager.get_label_manager(model.dataset_json).num_segmentation_heads, enable_deep_supervision=False)
    predictor.manual_initialization(unet.to(device), model.plans_manager, model.configuration_manager, [weights],
                                    model.dataset_json, "", model.mirroring_axes)
    return predictor


def competitors(model: TrainedModel, device: torch.device, counts: list[int]) -> dict[str, Callable]:
    """What is timed, by name: nnU-Net first, then ours by the number of samples."""
    nnunet = nnunet_of(model, 0, device)

    def ours(num_samples: int) -> Callable:
        predictor = MedSegDiffPredictor(model, SamplingOptions(num_samples), device)

        def predict(image: np.ndarray) -> None:
            distribution = predictor.sample_case(image, "case")
            normalised_entropy(distribution.fused.numpy(), model.diffusion.target == "regions")

        return predict

    def default(image: np.ndarray) -> None:
        nnunet.predict_logits_from_preprocessed_data(torch.from_numpy(image))

    return {"nnU-Net": default} | {f"{count} samples": ours(count) for count in counts}


def paired_seconds(methods: dict[str, Callable], images: list[np.ndarray], num_rounds: int,
                   clock: Callable[[], float] = perf_counter) -> np.ndarray:
    """Seconds, (images x rounds, methods): every method on the same image before the next, in an order that rotates."""
    for predict in methods.values():
        predict(images[0])
    rows = []
    for number, image in enumerate(images * num_rounds):
        seconds = np.empty(len(methods))
        for column in np.roll(np.arange(len(methods)), number):
            begin = clock()
            list(methods.values())[column](image)
            seconds[column] = clock() - begin
        rows.append(seconds)
    return np.array(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-d", required=True, help="dataset")
    parser.add_argument("-c", required=True, help="configuration")
    parser.add_argument("-p", default="MedSegDiffPlans", help="plans of the model")
    parser.add_argument("-f", default="0", help="fold, or all")
    parser.add_argument("--cases", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--samples", type=int, nargs="+", default=[8, 16])
    parser.add_argument("--cpu_seconds", action="store_true", help="of one thread: what other work beside it disturbs least")
    parser.add_argument("-device", default="cpu", choices=("cpu", "cuda"))
    args = parser.parse_args()
    name, device = paths.resolve_dataset(args.d), torch.device(args.device)
    preprocessed, results = paths.require_folder("nnUNet_preprocessed") / name, paths.require_folder("nnUNet_results") / name
    torch.set_num_threads(1 if args.cpu_seconds else num_cores())
    fold = int(args.f) if args.f.isdigit() else args.f
    model = load_model(results / f"nnUNetTrainerMedSegDiff__{args.p}__{args.c}", [fold], use_fitted=False)
    images = [image for _, (_, image, _, _) in zip(range(args.cases), validation_cases(model, preprocessed, 0 if fold == "all" else fold))]
    methods = competitors(model, device, args.samples)
    seconds = paired_seconds(methods, images, args.rounds, process_time if args.cpu_seconds else perf_counter)
    print("| method | seconds a case, median | ratio to nnU-Net in a pair, median (95 %) |\n|---|---|---|")
    for column, label in enumerate(methods):
        ratio, low, high = median_ratio(seconds[:, [0, column]])
        print(f"| {label} | {np.median(seconds[:, column]):.3f} | {ratio:.3f} ({low:.3f} to {high:.3f}) |")


if __name__ == "__main__":
    main()
