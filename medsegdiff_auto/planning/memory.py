"""Peak memory of a training step, counted on the meta device: no memory, no arithmetic, no GPU.

A step (forward, both losses, backward) runs on tensors without content, beside the weights, their average and the
optimizers' states; every storage that comes to life adds its bytes, every one that dies takes them away. What the
counter cannot see is the scratch memory inside one operator (cuDNN, oneDNN) and the fragmentation of an allocator.
"""

from __future__ import annotations

import weakref
from contextlib import nullcontext
from typing import Sequence

import numpy as np
import torch
from nnunetv2.training.loss.compound_losses import DC_and_BCE_loss, DC_and_CE_loss
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from medsegdiff_auto.diffusion.configuration import DiffusionConfiguration
from medsegdiff_auto.diffusion.objective import denoiser_loss
from medsegdiff_auto.networks.build import build_network
from medsegdiff_auto.networks.sampling_network import SamplingNetwork

BYTES_PER_GB = 1e9
KEPT_PER_WEIGHT = 3  # the weight average and AdamW's two moments


class LiveMemory(TorchDispatchMode):
    """Counts the bytes of all storages that live at the same time while it is active."""

    def __init__(self):
        super().__init__()
        self.live_bytes = self.peak_bytes = 0
        self._counted: dict[int, int] = {}

    def count(self, tensor: Tensor) -> None:
        """Counts a tensor's storage until it dies, once."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._counted:
            return
        self._counted[key] = storage.nbytes()
        self.live_bytes += storage.nbytes()
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)
        weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self.live_bytes -= self._counted.pop(key)

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        result = function(*arguments, **(keywords or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self.count(leaf)
        return result


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
    t = torch.full((len(image),), 0.5, dtype=torch.float64)
    step = network(image, x_start, t, torch.empty_like(x_start), None)
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
