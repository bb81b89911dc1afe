"""Seconds of a training iteration, measured on this machine with the planned network before any hour is spent."""

from __future__ import annotations

import json
import math
from pathlib import Path
from statistics import median

import numpy as np
import torch

from medsegdiff_auto.chain.steps import Chain
from medsegdiff_auto.crossval.methods import METHODS, OURS
from medsegdiff_auto.nnunet.dataset_files import FINGERPRINT_FILE
from medsegdiff_auto.nnunet.managers import PlansManager
from medsegdiff_auto.training.planned_training import initialized_trainer, random_batch, read_plans, seconds_of_step
from medsegdiff_auto.training.schedule import VALIDATION_SHARE
from medsegdiff_auto.training.trainer import nnUNetTrainerMedSegDiff
from medsegdiff_auto.writing import write_json

FILE = "pace.json"
NUM_STEPS = 3  # behind a first one, which warms up
LOOKS_OF_A_TILE = 8
"""Forwards of nnU-Net's network that a tile costs at most: an ensemble takes no more than nnU-Net's eight mirrors."""
FORWARD_SHARE = 1 / 3  # of a training step: the backward pass takes two


def known_pace(chain: Chain, configuration: str) -> float | None:
    """The measured seconds of an iteration, its share of validation included; None before it is measured."""
    file = chain.place.root / FILE
    if not file.is_file():
        return None
    measured = json.loads(file.read_text(encoding="utf-8"))
    return measured.get(chain.training.device, {}).get(configuration)


def measure_pace(chain: Chain) -> None:
    """Times a few steps on random patches of the planned size, for every configuration that is not measured yet.

    What the batches cost is not in it: other processes draw them.
    """
    request, file = chain.training, chain.place.root / FILE
    measured = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    of_device = measured.setdefault(request.device, {})
    lacking = [configuration for configuration in request.configurations if configuration not in of_device]
    for configuration in lacking:
        of_device[configuration] = _seconds_of_an_iteration(_plans_file(chain), configuration,
                                                            torch.device(request.device))
    if lacking:
        write_json(measured, file)


def _plans_file(chain: Chain) -> Path:
    return chain.training.preprocessed / f"{METHODS[OURS].plans(chain.training.plans)}.json"


def _seconds_of_an_iteration(plans_file: Path, configuration: str, device: torch.device) -> float:
    state = torch.random.get_rng_state()
    plans, dataset_json = read_plans(plans_file)
    trainer = initialized_trainer(nnUNetTrainerMedSegDiff, plans, configuration, dataset_json, device)
    batch = random_batch(trainer, seed=0)
    seconds = [seconds_of_step(trainer, batch, device) for _ in range(1 + NUM_STEPS)][1:]
    torch.random.set_rng_state(state)
    return median(seconds) * (1 + VALIDATION_SHARE * FORWARD_SHARE)


def seconds_of_a_case(chain: Chain, configuration: str, pace: float) -> float:
    """What a fold needs for a case of the median size at most, in the networks: its tiles, overlapping by half."""
    plans, _ = read_plans(_plans_file(chain))
    section = PlansManager(plans).get_configuration(configuration)
    fingerprint = json.loads((chain.training.preprocessed / FINGERPRINT_FILE).read_text(encoding="utf-8"))
    patch = section.patch_size
    sizes = np.median(fingerprint["shapes_after_crop"], axis=0)
    num_slices = sizes[0] if len(patch) == 2 else 1
    of_axes = (max(0, math.ceil(2 * size / tile) - 2) + 1
               for size, tile in zip(section.median_image_size_in_voxels[-len(patch):], patch))
    return num_slices * math.prod(of_axes) * LOOKS_OF_A_TILE * FORWARD_SHARE * pace / section.batch_size
