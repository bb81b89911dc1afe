"""Peak memory of training: the planner's prediction beside the allocator's record, and the process's own peak."""

from __future__ import annotations

import argparse
import gc
from collections.abc import Callable
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from medsegdiff_auto.training.planned_training import initialized_trainer, random_batch, read_plans
from medsegdiff_auto.planning.memory import predicted_peak_gb
from medsegdiff_auto.nnunet.managers import PlansManager
from medsegdiff_auto.planning.memory import BYTES_PER_GB
from medsegdiff_auto.sampling.process_memory import peak_resident_bytes
from medsegdiff_auto.training.trainer import nnUNetTrainerMedSegDiff

ALLOCATION = "[memory]"
CPU = torch.device("cpu")


def allocated_peak_gb(run: Callable[[], object], device: torch.device = CPU) -> float:
    """Peak of torch's allocator during a call beside what it holds already, in 1e9 bytes.

    On the CPU from the record of every allocation; a GPU's allocator counts by itself.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        return (torch.cuda.max_memory_allocated(device) - before) / BYTES_PER_GB
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        run()
    level = peak = 0
    for event in record.profiler.kineto_results.events():
        if event.name() == ALLOCATION:
            level += event.nbytes()
            peak = max(peak, level)
    return peak / BYTES_PER_GB


def train(plans: dict, configuration: str, dataset_json: dict, device: torch.device = CPU) -> None:
    """Two steps: the optimizers' states come to life in the first.

    Of a short training: the model counts AdamW's two moments for both networks, where a long one has SGD's one.
    """
    trainer = initialized_trainer(nnUNetTrainerMedSegDiff, plans, configuration, dataset_json, device, num_epochs=1)
    for step in range(2):
        trainer.train_step(random_batch(trainer, step))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("plans", type=Path, help="plans JSON with dataset.json beside it")
    parser.add_argument("-c", required=True, metavar="CONFIGURATION")
    args = parser.parse_args()
    plans, dataset_json = read_plans(args.plans)
    manager = PlansManager(plans)
    predicted = predicted_peak_gb(manager, manager.get_configuration(args.c), dataset_json, half_precision=False)
    gc.collect()
    before = peak_resident_bytes()

    measured = allocated_peak_gb(lambda: train(plans, args.c, dataset_json))
    print(f"| {args.plans.parent.name} | {args.plans.stem} | {args.c} | {predicted:.3f} | {measured:.3f} | "
          f"{predicted / measured - 1:+.1%} | {(peak_resident_bytes() - before) / BYTES_PER_GB:.3f} |")


if __name__ == "__main__":
    main()
