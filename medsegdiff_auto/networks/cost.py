"""Arithmetic cost of the networks, counted on the meta device (no memory, no weights)."""

from __future__ import annotations

from typing import Sequence

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from medsegdiff_auto.diffusion.configuration import DiffusionConfiguration
from medsegdiff_auto.networks.build import build_network


def relative_denoiser_cost(unet: nn.Module, num_inputs: int, num_outputs: int, patch_size: Sequence[int],
                           configuration: DiffusionConfiguration) -> float:
    """Multiply-adds of one denoiser evaluation over those of one forward of nnU-Net's network.

    What the denoiser computes of the image alone is not counted: it is computed once for all samples and steps.

    Call it under ``torch.device("meta")`` with a ``unet`` built there. Convolutions and matrix products count;
    the Fourier transforms and element-wise operations do not.
    """
    network = build_network(unet, num_outputs, configuration, deep_supervision=False, num_inputs=num_inputs).eval()
    image = torch.empty(1, num_inputs, *patch_size)
    with torch.no_grad():
        with FlopCounterMode(display=False) as unet_counter:
            unet.eval()(image)
        terms = network.image_terms(network.condition(image))
        with FlopCounterMode(display=False) as denoiser_counter:
            network.denoiser(torch.empty(1, num_outputs, *patch_size), torch.empty(1), terms)
    return denoiser_counter.get_total_flops() / unet_counter.get_total_flops()
