"""Price and memory by the number of classes: eight samples beside nnU-Net's default prediction of the same plan.

The models are planned for phantoms of a CT and not trained, as in ``prediction_memory``; the seconds are of one volume
of noise in the network's grid. Memory, disk and evaluations of nnU-Net's network are what the command would state for a
CT of another size, where not everything is kept.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time

import numpy as np
import torch

from medsegdiff_auto.benchmarks.prediction_memory import untrained_model
from medsegdiff_auto.benchmarks.prediction_time import competitors, paired_seconds
from medsegdiff_auto.benchmarks.training_time import median_ratio
from medsegdiff_auto.cores import compute_on_cpu
from medsegdiff_auto.inference.expected_cost import CallCost, case_cost
from medsegdiff_auto.inference.model import TrainedModel, load_model
from medsegdiff_auto.inference.predictor import MedSegDiffPredictor, SamplingOptions
from medsegdiff_auto.sampling.case_size import CaseSize
from medsegdiff_auto.sampling.memory_plan import GB

IMPOSSIBLE = -30.0  # as a logit
ALL_VIEWS = 8  # of nnU-Net's mirroring in 3-D


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--classes", type=int, nargs="+", default=[4, 30, 60, 104])
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--possible", type=int, metavar="N",
                        help="classes that are possible, as in a tile of a trained network (default: all)")
    parser.add_argument("--resources", choices=("gpu", "cpu", "tiny"), default="tiny",
                        help="that the model is planned for")
    parser.add_argument("-size", type=int, nargs=3, default=(96, 96, 96), metavar=("Z", "Y", "X"), help="that is timed")
    parser.add_argument("--stated_size", type=int, nargs=3, default=(300, 512, 512), metavar=("Z", "Y", "X"))
    parser.add_argument("--max_memory", type=float, default=16.0, metavar="GB")
    parser.add_argument("--folder", type=Path, help="of volumes that the memory does not hold")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cpu_seconds", action="store_true", help="of one thread")
    args = parser.parse_args()
    compute_on_cpu(1 if args.cpu_seconds else None)
    image = np.random.default_rng(0).normal(size=(1, *args.size)).astype(np.float32)
    print("| classes | nnU-Net, s | ratio in a pair, median (95 %) | stated peak, GB | stated disk, GB | samples at a "
          "time | forwards over nnU-Net's |\n|---|---|---|---|---|---|---|", flush=True)
    for num_classes in args.classes:
        with TemporaryDirectory() as folder:
            model = load_model(untrained_model(Path(folder) / "model", num_classes, args.resources), [0])
            model = replace(model, mirroring_axes=(0, 1, 2))  # an untrained checkpoint names none
            if args.possible:
                without_others(model, args.possible)
            methods = competitors(model, torch.device("cpu"), [args.samples], [model.diffusion.sampling.num_steps])
            rows = paired_seconds(methods, [image], args.rounds, process_time if args.cpu_seconds else perf_counter)
            ratio, low, high = median_ratio(rows)
            predictor = MedSegDiffPredictor(model, SamplingOptions(args.samples, max_memory_gb=args.max_memory))
            plan = predictor.memory_plan(CaseSize(1, num_classes, tuple(args.stated_size), tuple(args.stated_size)),
                                         args.folder)
            cost = case_cost(predictor, (1, *args.stated_size), CallCost(0, 0, predictor.tile_memory.terms), plan)
            forwards = cost.num_forwards / (cost.num_tiles * ALL_VIEWS)
        print(f"| {num_classes} | {np.median(rows[:, 0]):.1f} | {ratio:.3f} ({low:.3f} to {high:.3f}) | "
              f"{plan.peak_bytes / GB:.1f} | {plan.disk_bytes / GB:.0f} | {plan.samples_together} | {forwards:.2f} |",
              flush=True)


def without_others(model: TrainedModel, number: int) -> None:
    """Makes all but the first classes impossible to the network of a model."""
    for weights in model.fold_weights:
        for name in weights:
            if "seg_layers" in name and name.endswith("bias"):
                weights[name][number:] = IMPOSSIBLE


if __name__ == "__main__":
    main()
