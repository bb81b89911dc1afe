"""Seconds of a case: fused samples with uncertainty beside nnU-Net's default prediction of the same network and plan.

Both predict the same preprocessed cases in turn, from the same tiles; nnU-Net mirrors along every axis it trained with.
"""

from __future__ import annotations

from time import perf_counter, process_time
from typing import NamedTuple
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from medsegdiff_auto import paths
from medsegdiff_auto.benchmarks.trained_model import model_of, model_parser
from medsegdiff_auto.benchmarks.training_time import median_ratio
from medsegdiff_auto.cores import compute_on_cpu
from medsegdiff_auto.evaluation.audit import validation_cases
from medsegdiff_auto.decision.decoder import labels_by_channel
from medsegdiff_auto.decision.fused_mean import LABELS, FusedMean
from medsegdiff_auto.inference.model import TrainedModel
from medsegdiff_auto.inference.plain_network import plain_of_ours
from medsegdiff_auto.inference.predictor import MedSegDiffPredictor, SamplingOptions
from medsegdiff_auto.decision.uncertainty import entropy_map

NNUNET = "nnU-Net"


class Setting(NamedTuple):
    """Samples, and network evaluations of each."""

    num_samples: int
    num_steps: int


def competitors(model: TrainedModel, device: torch.device, counts: list[int],
                steps: list[int]) -> dict[str | Setting, Callable]:
    """What is timed: nnU-Net, and ours by samples and steps, from the image to fused probabilities, label maps of the
    samples where they come as such, and the entropy.
    """
    nnunet = plain_of_ours(model, 0, device).predictor

    def ours(setting: Setting) -> Callable:
        predictor = MedSegDiffPredictor(model, SamplingOptions(*setting), device)

        def decode(states: Tensor) -> Tensor:
            return labels_by_channel(states.unbind(1), predictor.label_manager, even=0.0)

        def predict(image: np.ndarray) -> None:
            mean = FusedMean(model.diffusion.sampling.conditioner_weight)
            for kind, volume in predictor.draw_case(image, "case", fused=True, decode=decode):
                if kind != LABELS:
                    mean.add(kind, volume)
            entropy_map(mean.finish(), model.diffusion.target == "regions")

        return predict

    def default(image: np.ndarray) -> None:
        nnunet.predict_logits_from_preprocessed_data(torch.from_numpy(image))

    settings = [Setting(count, num_steps) for num_steps in steps for count in counts]
    return {NNUNET: default} | {setting: ours(setting) for setting in settings}


def paired_seconds(methods: dict[str | Setting, Callable], images: list[np.ndarray], num_rounds: int,
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


def extra_sample(seconds: dict[str | Setting, np.ndarray], num_steps: int, num_views: int) -> np.ndarray:
    """What one more sample costs, from the fewest to the most samples, in forwards of nnU-Net's network; one value per
    image.
    """
    few, many = (choose(setting for setting in seconds
                        if isinstance(setting, Setting) and setting.num_steps == num_steps) for choose in (min, max))
    return (seconds[many] - seconds[few]) / (many.num_samples - few.num_samples) / (seconds[NNUNET] / num_views)


def middle_of(image: np.ndarray, size: list[int] | None) -> np.ndarray:
    """The middle of an image (C, *spatial), at most of this size; None for all of it."""
    starts = [max(0, (n - m) // 2) for n, m in zip(image.shape[1:], size or image.shape[1:])]
    return image[(slice(None), *(slice(start, start + m) for start, m in zip(starts, size or image.shape[1:])))]


def main() -> None:
    parser = model_parser(__doc__)
    parser.add_argument("-f", default="0", help="fold, or all")
    parser.add_argument("--cases", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--crop", type=int, nargs=3, metavar="VOXELS",
                        help="only the middle of each case: large ones have hundreds of tiles")
    parser.add_argument("--samples", type=int, nargs="+", default=[8, 16])
    parser.add_argument("--steps", type=int, nargs="+", help="default: the plan's")
    parser.add_argument("--cpu_seconds", action="store_true",
                        help="of one thread: what other work beside it disturbs least")
    parser.add_argument("-device", default="cpu", choices=("cpu", "cuda"))
    args = parser.parse_args()
    compute_on_cpu(1 if args.cpu_seconds else None)
    fold = int(args.f) if args.f.isdigit() else args.f
    model = model_of(args, fold)
    cases = validation_cases(model, paths.preprocessed_folder(args.d), 0 if fold == "all" else fold)
    images = [middle_of(image, args.crop) for _, (_, image, _, _) in zip(range(args.cases), cases)]
    steps = args.steps or [model.diffusion.sampling.num_steps]
    methods = competitors(model, torch.device(args.device), args.samples, steps)
    rows = paired_seconds(methods, images, args.rounds, process_time if args.cpu_seconds else perf_counter)
    print("| method | seconds a case, median | ratio to nnU-Net in a pair, median (95 %) |\n|---|---|---|")
    for column, method in enumerate(methods):
        ratio, low, high = median_ratio(rows[:, [0, column]])
        label = method if method == NNUNET else f"{method.num_samples} samples x {method.num_steps} steps"
        print(f"| {label} | {np.median(rows[:, column]):.3f} | {ratio:.3f} ({low:.3f} to {high:.3f}) |")
    if len(args.samples) > 1:
        num_views = 2 ** len(model.mirroring_axes or ())
        for num_steps in steps:
            extra = extra_sample(dict(zip(methods, rows.T)), num_steps, num_views)
            print(
                f"One more sample of {num_steps} steps: {np.median(extra):.3f} forwards of nnU-Net's network (median)")


if __name__ == "__main__":
    main()
