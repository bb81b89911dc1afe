"""Peak memory of a training step, counted on the meta device: no memory, no arithmetic, no GPU.

A step (forward, both losses, backward) runs on tensors without content, beside the weights, their average and the
optimizers' states, under :class:`~medsegdiff_auto.networks.cost.LiveMemory`.
"""

from __future__ import annotations

from contextlib import nullcontext
from collections.abc import Sequence

import numpy as np
import torch
from nnunetv2.training.loss.compound_losses import DC_and_BCE_loss, DC_and_CE_loss
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from torch import Tensor, nn

from medsegdiff_auto.diffusion.configuration import DiffusionConfiguration
from medsegdiff_auto.diffusion.objective import denoiser_loss
from medsegdiff_auto.networks.build import build_network
from medsegdiff_auto.networks.cost import LiveMemory
from medsegdiff_auto.networks.sampling_network import SamplingNetwork
from medsegdiff_auto.nnunet.managers import (ConfigurationManager, PlansManager, determine_num_input_channels,
                                             planned_network)
from medsegdiff_auto.nnunet.plans import diffusion_configuration

BYTES_PER_GB = 1e9
KEPT_PER_WEIGHT = 3  # the weight average and AdamW's two moments


def conditioner_loss(regions: bool, strides: Sequence[Sequence[int]]) -> nn.Module:
    """nnU-Net's deep-supervised Dice and cross-entropy, as its trainer builds them."""
    dice = {"batch_dice": True, "smooth": 1e-5, "do_bg": regions, "ddp": False}
    if regions:
        loss = DC_and_BCE_loss({}, dice, dice_class=MemoryEfficientSoftDiceLoss)
    else:
        loss = DC_and_CE_loss(dice, {}, dice_class=MemoryEfficientSoftDiceLoss)
    weights = np.array([1 / 2 ** i for i in range(len(strides) - 1)])
    weights[-1] = 1e-6
    return DeepSupervisionWrapper(loss, weights / weights.sum())


def meta_targets(batch_size: int, num_outputs: int, patch_size: Sequence[int], strides: Sequence[Sequence[int]],
                 regions: bool) -> list[Tensor]:
    """Labels (B, 1, *spatial) or regions (B, K, *spatial) at every deep-supervised resolution."""
    targets, size = [], list(patch_size)
    for stride in strides[:-1]:
        size = [n // s for n, s in zip(size, stride)]
        targets.append(torch.empty(batch_size, num_outputs if regions else 1, *size))
    return targets


def training_loss(network: SamplingNetwork, image: Tensor, x_start: Tensor, targets: list[Tensor],
                  loss: nn.Module) -> Tensor:
    """Both losses, as the trainer adds them."""
    step = network(image, x_start, [0.5] * len(image), torch.empty_like(x_start))
    of_denoiser = denoiser_loss(step.output.float(), x_start, step.x_t, step.log_snr, network.configuration)
    return of_denoiser + loss(step.logits, targets) if network.has_conditioner else of_denoiser


def training_peak_gb(unet: nn.Module, num_inputs: int, num_outputs: int, patch_size: Sequence[int], batch_size: int,
                     configuration: DiffusionConfiguration, half_precision: bool) -> float:
    """Peak memory of training in 1e9 bytes: weights, their average, gradients, optimizer states, activations.

    Call it under ``torch.device("meta")`` with a ``unet`` built there.

    Args:
        half_precision: under autocast, as on a GPU (counted with torch's CPU rules and bfloat16); else float32.
    """
    regions = configuration.target == "regions"
    strides = [tuple(stride) for stride in unet.encoder.strides]
    memory = LiveMemory()
    with memory:
        network = build_network(unet, num_outputs, configuration, deep_supervision=True, num_inputs=num_inputs).train()
        kept = [torch.empty_like(p) for p in network.parameters() for _ in range(KEPT_PER_WEIGHT)]
        for parameter in network.parameters():
            memory.count(parameter)
        image = torch.empty(batch_size, num_inputs, *patch_size)
        x_start = torch.empty(batch_size, num_outputs, *patch_size)
        targets = meta_targets(batch_size, num_outputs, patch_size, strides, regions)
        with torch.autocast("cpu", torch.bfloat16) if half_precision else nullcontext():
            loss = training_loss(network, image, x_start, targets, conditioner_loss(regions, strides))
        loss.backward()
        del kept
    return memory.peak_bytes / BYTES_PER_GB


def predicted_peak_gb(plans_manager: PlansManager, configuration_manager: ConfigurationManager, dataset_json: dict,
                      half_precision: bool) -> float:
    """The planner's memory model for one configuration of finished plans, in 1e9 bytes."""
    num_inputs = determine_num_input_channels(plans_manager, configuration_manager, dataset_json)
    num_outputs = plans_manager.get_label_manager(dataset_json).num_segmentation_heads
    with torch.device("meta"):
        unet = planned_network(configuration_manager.configuration, num_inputs, num_outputs)
        return training_peak_gb(unet, num_inputs, num_outputs, configuration_manager.patch_size,
                                configuration_manager.batch_size, diffusion_configuration(configuration_manager),
                                half_precision)
