"""What makes a CPU compute the same values faster: its instance norm, and the order of convolution weights in memory.

* nnU-Net's instance norm is computed as torch's group norm of one channel per group. torch's instance norm copies its
  input and calls batch norm, which takes three times as long (``results/cost_inference.md``).
* Convolutions in 3-D take channels-last memory, which is slower in 2-D (``results/cost_training.md``). It is for
  networks of group norms, which take it as it is; instance norms copy it, which costs more than the convolutions gain.

Values stay within 1e-6, and weights and their names as they are.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class _OnCPUAsGroupNorm(nn.modules.instancenorm._InstanceNorm):
    """For a subclass of torch's instance norm that keeps no running statistics."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *spatial), every channel of every entry to mean 0 and variance 1, then scale and shift."""
        if x.device.type != "cpu" or self.track_running_stats or x.dim() < 3:
            return super().forward(x)
        # contiguous: of channels-last memory group norm adds up less exactly, 3e-4 for 800,000 voxels
        return nn.functional.group_norm(x.contiguous(), x.shape[1], self.weight, self.bias, self.eps)


class InstanceNorm2d(_OnCPUAsGroupNorm, nn.InstanceNorm2d):
    """Instance norm of images (B, C, H, W)."""


class InstanceNorm3d(_OnCPUAsGroupNorm, nn.InstanceNorm3d):
    """Instance norm of volumes (B, C, D, H, W)."""


def _dotted(norm: type) -> str:
    return f"{norm.__module__}.{norm.__qualname__}"


FASTER_NORMS = {_dotted(norm): _dotted(faster) for norm, faster in ((nn.InstanceNorm2d, InstanceNorm2d),
                                                                   (nn.InstanceNorm3d, InstanceNorm3d))}
"""Names of torch's norms, as nnU-Net's plans have them, and of those that stand in for them."""


def channels_last(network: nn.Module) -> None:
    """Reorders the weights of all 3-D convolutions in place; their outputs, and what follows, take the same order."""
    for module in network.modules():
        if type(module) in (nn.Conv3d, nn.ConvTranspose3d):
            module.to(memory_format=torch.channels_last_3d)
