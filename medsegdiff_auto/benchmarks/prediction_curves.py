"""How the cost of a case grows with samples, steps and volume, and what MedSegDiff's own sampler settings cost on the
same network.

All in forwards of nnU-Net's network on one tile, measured in the same run.
"""

from __future__ import annotations

from pathlib import Path
from time import perf_counter, process_time
from collections.abc import Callable

import matplotlib
import numpy as np
import torch

from medsegdiff_auto.inference.plain_network import plain_of_ours
from medsegdiff_auto.benchmarks.trained_model import model_of, model_parser
from medsegdiff_auto.cores import compute_on_cpu
from medsegdiff_auto.inference.model import TrainedModel
from medsegdiff_auto.decision.fused_mean import FusedMean
from medsegdiff_auto.inference.predictor import MedSegDiffPredictor, SamplingOptions

SAMPLES, STEPS, TILES = (1, 2, 4, 8, 16, 32), (1, 2, 3, 4, 8, 16), (1, 2, 3, 4)
PUBLISHED = (("MedSegDiff: 5 samples x 1000 steps, ddpm", SamplingOptions(5, 1000, 1, "ddpm")),
             ("MedSegDiff: 5 samples x 50 steps, dpm_solver_pp_2m", SamplingOptions(5, 50, 1, "dpm_solver_pp_2m")),
             ("MedSegDiff: 25 samples x 50 steps, dpm_solver_pp_2m", SamplingOptions(25, 50, 1, "dpm_solver_pp_2m")))


def seconds_of(function: Callable[[], None], rounds: int, clock: Callable[[], float] = perf_counter) -> float:
    """Median over the rounds, after one that is not counted; with one round only, that one."""
    seconds = []
    for _ in range(rounds + (rounds > 1)):
        begin = clock()
        function()
        seconds.append(clock() - begin)
    return float(np.median(seconds[rounds > 1:]))


def drawing(predictor: MedSegDiffPredictor, image: np.ndarray) -> Callable[[], None]:
    """Draws and fuses a case."""
    def draw() -> None:
        mean = FusedMean(predictor.diffusion.sampling.conditioner_weight)
        for kind, probabilities in predictor.draw_case(image, "case"):
            mean.add(kind, probabilities)

    return draw


def image_of(model: TrainedModel, num_tiles: int) -> np.ndarray:
    """Noise of so many tiles in a row along the last axis, at half a tile's steps."""
    patch = list(model.configuration_manager.patch_size)
    patch[-1] += (num_tiles - 1) * (patch[-1] // 2)
    shape = patch if len(patch) == 3 else [1, *patch]
    return np.random.default_rng(0).standard_normal((len(model.dataset_json["channel_names"]), *shape), np.float32)


def draw_curves(curves: dict[str, list[tuple[float, float]]], path: Path) -> None:
    """One panel per curve."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(curves), figsize=(4 * len(curves), 3.2))
    for axis, (name, points) in zip(axes, curves.items()):
        axis.plot(*zip(*points), marker="o")
        axis.set_xlabel(name), axis.set_ylim(0), axis.grid(alpha=0.3)
    axes[0].set_ylabel("forwards of nnU-Net's network")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = model_parser(__doc__)
    parser.add_argument("-f", type=int, default=0, help="fold")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--published", action="store_true",
                        help="MedSegDiff's own sampler settings too: minutes to hours")
    parser.add_argument("--cpu_seconds", action="store_true",
                        help="of one thread: what other work beside it disturbs least")
    parser.add_argument("-o", help="picture to write")
    args = parser.parse_args()
    compute_on_cpu(1 if args.cpu_seconds else None)
    clock = process_time if args.cpu_seconds else perf_counter
    model = model_of(args, args.f)
    nnunet, one = plain_of_ours(model, 0, torch.device("cpu")).predictor, image_of(model, 1)
    nnunet.allowed_mirroring_axes = None
    forward = seconds_of(lambda: nnunet.predict_logits_from_preprocessed_data(torch.from_numpy(one)), args.rounds,
                         clock)

    def cost(image: np.ndarray, options: SamplingOptions, rounds: int = args.rounds) -> tuple[float, int, int]:
        predictor = MedSegDiffPredictor(model, options)
        return seconds_of(drawing(predictor, image), rounds,
                          clock) / forward, predictor.num_forwards, predictor.num_evaluations

    series = {
        "samples": [(n, one, SamplingOptions(n)) for n in SAMPLES],
        "steps": [(n, one, SamplingOptions(8, n)) for n in STEPS],
        "tiles": [(n, image_of(model, n), SamplingOptions(8)) for n in TILES]
    }
    curves = {}
    print(f"one forward: {forward:.3f} s\n\n| | | nnU-Net's forwards | denoiser evaluations | cost in forwards "
          "|\n|---|---|---|---|---|")
    for name, points in series.items():
        curves[name] = []
        for number, image, options in points:
            relative, forwards, evaluations = cost(image, options)
            curves[name].append((number, relative))
            print(f"| {name} | {number} | {forwards} | {evaluations} | {relative:.2f} |", flush=True)
    if args.published:
        for name, options in PUBLISHED:
            relative, forwards, evaluations = cost(one, options, 1)
            print(f"| {name} | | {forwards} | {evaluations} | {relative:.1f} |", flush=True)
    if args.o:
        draw_curves(curves, Path(args.o))


if __name__ == "__main__":
    main()
