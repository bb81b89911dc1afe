"""The one place where a diffusion section becomes a network."""

from __future__ import annotations

from torch import nn

from medsegdiff_auto.diffusion.configuration import DiffusionConfiguration
from medsegdiff_auto.networks.medsegdiff import MedSegDiff


def build_network(unet: nn.Module, num_outputs: int, configuration: DiffusionConfiguration,
                  deep_supervision: bool) -> nn.Module:
    """The network of a preset around nnU-Net's planned network.

    Raises:
        ValueError: the preset has no network.
    """
    if configuration.preset == "auto":
        return MedSegDiff(unet, num_outputs, configuration, deep_supervision)
    raise ValueError(f"preset is {configuration.preset!r}, expected 'auto'")
