"""What the networks cost, counted on the meta device (no memory, no weights): arithmetic, and bytes that live together.

Every storage that comes to life adds its bytes, every one that dies takes them away. What the counter cannot see is the
scratch memory inside one operator (cuDNN, oneDNN) and the fragmentation of an allocator.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from medsegdiff_auto.diffusion.configuration import DiffusionConfiguration
from medsegdiff_auto.networks.build import build_network


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


def relative_denoiser_cost(unet: nn.Module, num_inputs: int, num_outputs: int, patch_size: Sequence[int],
                           configuration: DiffusionConfiguration) -> float:
    """Multiply-adds of one denoiser evaluation over those of one forward of nnU-Net's network.

    What the denoiser computes of the image alone is not counted: it is computed once for all samples and steps. Of one
    that sees no state that is nearly all, and is counted: the cost of a view, however many samples are drawn of it.

    Call it under ``torch.device("meta")`` with a ``unet`` built there. Convolutions and matrix products count;
    the Fourier transforms and element-wise operations do not.
    """
    network = build_network(unet, num_outputs, configuration, deep_supervision=False, num_inputs=num_inputs).eval()
    image = torch.empty(1, num_inputs, *patch_size)
    with torch.no_grad():
        with FlopCounterMode(display=False) as unet_counter:
            unet.eval()(image)
        condition = network.condition(image)
        terms = network.image_terms(condition)
        with FlopCounterMode(display=False) as denoiser_counter:
            if not configuration.network.sees_state:
                network.image_terms(condition)
            network.denoise(torch.empty(1, num_outputs, *patch_size), torch.empty(1), terms,
                            network.empty_latents(1, patch_size))
    return denoiser_counter.get_total_flops() / unet_counter.get_total_flops()
