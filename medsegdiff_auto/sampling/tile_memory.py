"""What the network needs for one tile, counted on the meta device: no memory, no arithmetic."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from collections.abc import Sequence

import torch
from torch import nn

from medsegdiff_auto.sampling.conditions import num_bytes
from medsegdiff_auto.networks.cost import LiveMemory
from medsegdiff_auto.networks.sampling_network import SamplingNetwork

SCRATCH = 1.3  # of what is counted: oneDNN's and cuDNN's own, and copies into another memory order


@dataclass(frozen=True)
class TileMemory:
    """Bytes.

    Attributes:
        look: at the peak of nnU-Net's network and the image terms, for one view.
        terms: of one view, which may be kept.
        step: at the peak of one evaluation of the denoiser, for one sample.
        latent_cell: voxels per axis of one position of the latent noise, no bytes; empty without.
    """

    look: float
    terms: float
    step: float
    latent_cell: tuple[int, ...] = ()


def without_content(network: SamplingNetwork) -> SamplingNetwork:
    """A copy on the meta device; the weights are not copied."""
    empty = {id(value): nn.Parameter(torch.empty_like(value, device="meta"), False) for value in network.parameters()}
    empty |= {id(value): torch.empty_like(value, device="meta") for value in network.buffers()}
    return copy.deepcopy(network, empty)


@torch.no_grad()
def tile_memory(network: SamplingNetwork, num_inputs: int, num_outputs: int, patch_size: Sequence[int]) -> TileMemory:
    """What this network would need."""
    network = without_content(network)
    with torch.device("meta"):
        with LiveMemory() as look:
            terms = network.image_terms(network.condition(torch.empty(1, num_inputs, *patch_size)))
            if network.has_expected_mask:
                network.expected_probabilities(terms)
        x_t = torch.empty(1, num_outputs, *patch_size)
        with LiveMemory() as step:
            latent = network.empty_latents(1, patch_size)
            if network.configuration.network.sees_state:
                network.predict_x_start(x_t, torch.tensor(0.5, dtype=torch.float64, device="cpu"), terms, latent=latent)
            else:
                network.predict_draws(network.silent_latents(1, patch_size, torch.device("meta")), terms)
    return TileMemory(SCRATCH * look.peak_bytes, num_bytes(terms), SCRATCH * step.peak_bytes + num_bytes(x_t),
                      network.cell if network.has_latent_noise else ())
