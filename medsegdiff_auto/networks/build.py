"""The one place where a diffusion section becomes a network."""

from __future__ import annotations

from torch import nn

from medsegdiff_auto.diffusion.configuration import DiffusionConfiguration
from medsegdiff_auto.networks.medsegdiff import MedSegDiff
from medsegdiff_auto.networks.paper import MedSegDiffPaper
from medsegdiff_auto.networks.sampling_network import SamplingNetwork

PREDICTED_BY_PRESET = {"auto": "x_start", "paper": "noise"}


def build_network(unet: nn.Module, num_outputs: int, configuration: DiffusionConfiguration,
                  deep_supervision: bool, num_inputs: int) -> SamplingNetwork:
    """The network of a preset around, or with the topology of, nnU-Net's planned network.

    Args:
        unet: nnU-Net's network; ``auto`` contains it, ``paper`` reads its strides and kernels.
        num_inputs: image channels; ``auto`` knows them from ``unet``.

    Raises:
        ValueError: the preset has no network, or predicts something else.
    """
    c = configuration
    if c.preset not in PREDICTED_BY_PRESET:
        raise ValueError(f"preset is {c.preset!r}, expected one of {tuple(PREDICTED_BY_PRESET)}")
    if c.parameterisation != PREDICTED_BY_PRESET[c.preset]:
        raise ValueError(f"parameterisation is {c.parameterisation!r}, expected {PREDICTED_BY_PRESET[c.preset]!r} "
                         f"for preset {c.preset!r}")
    if c.preset == "auto":
        return MedSegDiff(unet, num_outputs, c, deep_supervision)
    return MedSegDiffPaper(num_inputs, num_outputs, c.features_per_stage, unet.encoder.strides,
                           unet.encoder.kernel_sizes, c, deep_supervision)
