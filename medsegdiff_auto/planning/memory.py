"""Peak memory of a training step, counted on the meta device: no memory, no arithmetic, no GPU.

A whole step (forward, both losses, backward, both optimizers) runs on tensors without content; every storage that comes
to life adds its bytes, every one that dies takes them away. What the counter cannot see is the scratch memory inside one
operator (cuDNN, oneDNN) and the fragmentation of an allocator.
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


def training_step(network: SamplingNetwork, optimizers: list[torch.optim.Optimizer], image: Tensor, x_start: Tensor,
                  targets: list[Tensor], loss: nn.Module, autocast) -> None:
    """One step as the trainer takes it."""
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    t = torch.full((len(image),), 0.5, dtype=torch.float64)
    with autocast:
        step = network(image, x_start, t, torch.empty_like(x_start), None)
        total = denoiser_loss(step.output.float(), x_start, step.x_t, step.log_snr, network.configuration)
        if network.has_conditioner:
            total = total + loss(step.logits, targets)
    total.backward()
    for optimizer in optimizers:
        optimizer.step()


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
        average = [torch.empty_like(p) for p in network.parameters()]
        for parameter in network.parameters():
            memory.count(parameter)
        optimizers = [torch.optim.AdamW(network.denoiser.parameters(), 1e-3)]
        if network.has_conditioner:
            optimizers.append(torch.optim.SGD(network.conditioner.parameters(), 1e-2, momentum=0.99, nesterov=True))
        image = torch.empty(batch_size, num_inputs, *patch_size)
        x_start = torch.empty(batch_size, num_outputs, *patch_size)
        targets = meta_targets(batch_size, num_outputs, patch_size, strides, regions)
        loss = conditioner_loss(regions, strides)
        for _ in range(2):  # the optimizers' states come to life in the first step
            autocast = torch.autocast("cpu", torch.bfloat16) if half_precision else nullcontext()
            training_step(network, optimizers, image, x_start, targets, loss, autocast)
        del average
    return memory.peak_bytes / BYTES_PER_GB
