"""The one place where a diffusion section becomes a network."""

from __future__ import annotations

from typing import Any

from medsegdiff_auto.diffusion.configuration import DiffusionConfiguration
from medsegdiff_auto.networks.image_network import concatenated_network, two_encoder_network
from medsegdiff_auto.networks.medsegdiff import MedSegDiff
from medsegdiff_auto.networks.sampling_network import SamplingNetwork


def build_network(unet: Any, num_outputs: int, configuration: DiffusionConfiguration,
                  deep_supervision: bool, num_inputs: int) -> SamplingNetwork:
    """The network of a plan around, or with the topology of, nnU-Net's planned network.

    Args:
        unet: nnU-Net's network; ``conditioned`` contains it, the others read its strides and kernels.
        num_inputs: image channels; ``conditioned`` knows them from ``unet``.
    """
    if configuration.network.architecture == "conditioned":
        return MedSegDiff(unet, num_outputs, configuration, deep_supervision)
    build = {"two_encoders": two_encoder_network,
             "concatenated": concatenated_network}[configuration.network.architecture]
    strides, kernel_sizes = ([tuple(values) for values in rows]
                             for rows in (unet.encoder.strides, unet.encoder.kernel_sizes))
    return build(num_inputs, num_outputs, strides, kernel_sizes, configuration, deep_supervision)
