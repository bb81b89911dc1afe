"""What the median case of the training data will cost a container at every ``--speed``: planned, not measured.

The seconds are of the networks on the CPU that exports, the bytes those of the memory plan for a card. The time on a
card cannot be known without one.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, prod
from pathlib import Path
from tempfile import gettempdir

import torch

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.inference.expected_cost import CallCost, case_cost, time_calls
from medsegdiff_auto.inference.model import TrainedModel
from medsegdiff_auto.inference.options import SPEEDS, SamplingOptions
from medsegdiff_auto.inference.predictor import MedSegDiffPredictor
from medsegdiff_auto.inference.speed import at_speed
from medsegdiff_auto.sampling.case_memory import CaseMemory
from medsegdiff_auto.sampling.case_size import CaseSize
from medsegdiff_auto.sampling.memory_plan import GB, memory_plan

CARD_GB, LIMIT_S = 16, 20 * 60


@dataclass(frozen=True)
class Planned:
    """A median case at one speed.

    Attributes:
        cpu_s: in the networks on this CPU, at most.
        card_gb: on a card of :data:`CARD_GB`, with the weights. Both are infinite where neither that memory nor the
            disk of this machine holds the case.
    """

    speed: str
    cpu_s: float
    card_gb: float

    @property
    def row(self) -> str:
        """Row of the README's table."""
        in_time, on_card = ("yes" if fits else "no" for fits in (self.cpu_s <= LIMIT_S, self.card_gb <= CARD_GB))
        return f"| {self.speed} | {self.cpu_s:.2f} s | {in_time} | {self.card_gb:.2f} GB | {on_card} |"


def planned_costs(model: TrainedModel) -> list[Planned]:
    """A row for every speed, the fastest first."""
    size = median_case(model)
    calls = time_calls(MedSegDiffPredictor(model))
    return [_planned(model, speed, size, calls) for speed in SPEEDS]


def median_case(model: TrainedModel) -> CaseSize:
    """The median of the training data by the plans, on its own grid and on the network's."""
    configuration, plans = model.configuration_manager.configuration, model.plans_manager.plans
    patch = list(configuration["patch_size"])
    shape = [round(one) for one in configuration.get("median_image_size_in_voxels", patch)]
    image = plans.get("original_median_shape_after_transp", [1, *shape][-3:])
    if len(shape) == 2:
        shape = [round(image[0]), *shape]
    return CaseSize(len(model.dataset_json["channel_names"]),
                    model.plans_manager.get_label_manager(model.dataset_json).num_segmentation_heads,
                    tuple(round(one) for one in image), tuple(shape))


def _planned(model: TrainedModel, speed: str, size: CaseSize, calls: CallCost) -> Planned:
    predictor = MedSegDiffPredictor(model, at_speed(speed, SamplingOptions(max_memory_gb=CARD_GB), model))
    try:
        return _within(predictor, speed, size, calls)
    except UserError:  # of the case, not of the export
        return Planned(speed, inf, inf)


def _within(predictor: MedSegDiffPredictor, speed: str, size: CaseSize, calls: CallCost) -> Planned:
    cost = case_cost(predictor, (size.num_channels, *size.shape), calls, predictor.memory_plan(size))
    memory = CaseMemory(size, predictor.tiles_of(size.shape), len(predictor.list_of_parameters), predictor.num_samples,
                        len(predictor.views), predictor.diffusion, predictor.solver, predictor.tile_memory,
                        predictor.samples_per_call, predictor.fusion)
    on_card = memory_plan(memory, torch.device("cuda"), predictor.baseline_bytes, CARD_GB, Path(gettempdir()))
    weights = sum(value.element_size() * prod(value.shape) for value in predictor.network.state_dict().values())
    return Planned(speed, cost.seconds(calls), (on_card.device_bytes + weights) / GB)
