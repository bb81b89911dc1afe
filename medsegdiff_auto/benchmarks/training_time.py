"""Seconds of a training step of MedSegDiff-Auto beside nnU-Net's: same plan, same batches, taken in turn."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from medsegdiff_auto.cores import compute_on_cpu
from medsegdiff_auto.training.planned_training import initialized_trainer, random_batch, read_plans, seconds_of_step
from medsegdiff_auto.training.trainer import nnUNetTrainerMedSegDiff

NUM_WARM_UP, NUM_RESAMPLES = 2, 10_000


def paired_seconds(plans_file: Path, configuration: str, num_steps: int, device: torch.device) -> np.ndarray:
    """Seconds, (num_steps, 2): nnU-Net's and ours, alternately first."""
    plans, dataset_json = read_plans(plans_file)
    trainers = [initialized_trainer(c, plans, configuration, dataset_json, device)
                for c in (nnUNetTrainer, nnUNetTrainerMedSegDiff)]
    seconds = np.empty((num_steps + NUM_WARM_UP, 2))
    for step in range(len(seconds)):
        batch = random_batch(trainers[0], step)
        for column in (0, 1) if step % 2 else (1, 0):
            seconds[step, column] = seconds_of_step(trainers[column], batch, device)
    return seconds[NUM_WARM_UP:]


def median_ratio(seconds: np.ndarray, seed: int = 0) -> tuple[float, float, float]:
    """Median of ours / nnU-Net's over the pairs, with its 95 % bootstrap interval."""
    ratios = seconds[:, 1] / seconds[:, 0]
    generator = np.random.default_rng(seed)
    medians = np.median(generator.choice(ratios, (NUM_RESAMPLES, len(ratios))), axis=1)
    return float(np.median(ratios)), *map(float, np.quantile(medians, [0.025, 0.975]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("plans", type=Path, nargs="+", help="plans JSON with dataset.json beside it")
    parser.add_argument("-c", required=True, metavar="CONFIGURATION")
    parser.add_argument("--steps", type=int, default=20, help="pairs of steps (default: 20)")
    parser.add_argument("-device", default="cpu", choices=("cpu", "cuda"))
    args = parser.parse_args()
    compute_on_cpu()
    print("| dataset | configuration | nnU-Net, s | MedSegDiff-Auto, s | ratio of a pair, median (95 %) "
          "|\n|---|---|---|---|---|")
    for plans_file in args.plans:
        seconds = paired_seconds(plans_file, args.c, args.steps, torch.device(args.device))
        ratio, low, high = median_ratio(seconds)
        nnunet, ours = np.median(seconds, axis=0)
        print(f"| {plans_file.parent.name} | {args.c} | {nnunet:.3f} | {ours:.3f} | {ratio:.2f} ({low:.2f} to "
              f"{high:.2f}) |", flush=True)


if __name__ == "__main__":
    main()
