"""What happens while samples are drawn: the states, the predictions and the fusion of every step.

The samples are drawn by the predictor's own code; it is watched, not repeated. So the last prediction of a trajectory
is the sample.
"""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from medsegdiff_auto.explanation.case import Tile
from medsegdiff_auto.explanation.plane import Plane
from medsegdiff_auto.sampling.coherent import shown_samples
from medsegdiff_auto.inference.predictor import MedSegDiffPredictor
from medsegdiff_auto.networks.conditioner import Condition
from medsegdiff_auto.networks.dynamic_encoding import DynamicConditionalEncoding
from medsegdiff_auto.networks.medsegdiff_v2 import AnchorAttention
from medsegdiff_auto.networks.paper import InlineConditionalEncoding
from medsegdiff_auto.networks.sampling_network import Observe


@dataclass(frozen=True)
class RecordedStep:
    """One step of a sample in the plane: time, state x_t and predicted x_0, both (K, height, width) float32."""

    t: float
    x_t: np.ndarray
    x_start: np.ndarray


@dataclass(frozen=True)
class Trajectory:
    """A sample: its steps, and the probabilities that came out, (K, *patch)."""

    steps: list[RecordedStep]
    probabilities: np.ndarray


@dataclass
class Gate:
    """What a fusion multiplies with, step by step, in the plane.

    Attributes:
        kind: ``fusion`` (the mean over the channels of |LN(m_I) * LN(m_x)|, divided by its largest value in the plane)
            or ``anchor`` (the mean over the channels of the sigmoid).
        size: of the feature maps, (*spatial).
        maps: one (height, width) per step, in [0, 1]; a single one of a denoiser that sees no state.
    """

    kind: str
    size: tuple[int, ...] = ()
    maps: list[np.ndarray] = field(default_factory=list)


@dataclass(frozen=True)
class Drawing:
    """The samples of a tile, the plain network's probabilities (None without one), and the first sample's gates.

    Attributes:
        condition: what the denoiser is given of the image.
    """

    trajectories: list[Trajectory]
    plain: np.ndarray | None
    gates: list[Gate]
    condition: Condition


@torch.inference_mode()
def draw(predictor: MedSegDiffPredictor, tile: Tile) -> Drawing:
    """Draws one sample per noise of the tile with the predictor's network."""
    network = predictor.network
    condition = predictor.condition_on(tile.image[None])
    plain = network.conditioner_probabilities(condition)[0].float().cpu().numpy() if network.has_conditioner else None
    trajectories, gates = [], []
    for number, noise in enumerate(tile.noise):
        steps: list[RecordedStep] = []
        shown = shown_samples(network, (number,), 1, 0, predictor.num_steps)
        shown_first = None if shown == (number,) else tile.noise[list(shown)]
        with recorded_gates(network, tile.plane) if number == 0 else nullcontext() as recorded:
            probabilities = predictor.draw(
                condition, noise[None], observe=observer(steps, tile.plane), shown_first=shown_first,
                latent_of=None if tile.latent_of is None else partial(tile.latent_of, number))[0]
        gates = gates if recorded is None else recorded
        trajectories.append(Trajectory(steps, probabilities.numpy()))
    return Drawing(trajectories, plain, gates, condition)


def on_plane(values: Tensor, plane: Plane) -> np.ndarray:
    """The plane of a tensor, float32 on the CPU."""
    return plane.cut(values).float().cpu().numpy()


def observer(steps: list[RecordedStep], plane: Plane) -> Observe:
    """Fills the list with the steps of the first sample of the batch."""
    return lambda t, x_t, x_start: steps.append(
        RecordedStep(t.item(), on_plane(x_t[0], plane), on_plane(x_start[0], plane)))


@contextmanager
def recorded_gates(network: nn.Module, plane: Plane) -> Iterator[list[Gate]]:
    """Fills one gate per fusion of the network, finest stage first, at every step; empty where it has no fusion."""
    gates, hooks = [], []
    for module in network.modules():
        if isinstance(module, (DynamicConditionalEncoding, InlineConditionalEncoding)):
            gate = Gate("fusion")
            hooks += watch_fusion(module, gate, plane)
        elif isinstance(module, AnchorAttention):
            gate = Gate("anchor")
            hooks.append(module.register_forward_hook(
                lambda module, inputs, output, gate=gate: add_map(gate, inputs[1][0].float(), plane)))
        else:
            continue
        gates.append(gate)
    try:
        yield gates
    finally:
        for hook in hooks:
            hook.remove()


def watch_fusion(module: nn.Module, gate: Gate, plane: Plane) -> list:
    """Hooks on the two normalisations of an attentive fusion, whose product is its gate; that of the image may run
    once.
    """
    normalised = {}

    def keep(name: str):
        return lambda module, inputs, output: normalised.update({name: output[0].float()})

    def combine(module, inputs, output) -> None:
        product = (normalised["image"] * normalised["mask"]).abs()
        add_map(gate, product, plane)
        gate.maps[-1] /= max(gate.maps[-1].max(), np.finfo(np.float32).tiny)

    return [
        module.norm_image.register_forward_hook(keep("image")),
        module.norm_mask.register_forward_hook(keep("mask")),
        module.register_forward_hook(combine)
    ]


def add_map(gate: Gate, values: Tensor, plane: Plane) -> None:
    """The mean over the channels of (C, *spatial), in the plane, as the gate's next step."""
    gate.size = tuple(values.shape[1:])
    gate.maps.append(on_plane(values.mean(0), plane))
