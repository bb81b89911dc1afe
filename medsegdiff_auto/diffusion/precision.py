"""In which precision the parts of a network compute under autocast.

nnU-Net's network is normalised after every convolution, and float16 holds its values. The denoiser's residual stream is
normalised only where a block reads it, and grows beyond 65,504, where float16 ends: after a dozen iterations with seven
stages (``results/gpu.md``). It computes in bfloat16, which has the range of float32, or in float32.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

Values = TypeVar("Values")
NO_AUTOCAST = ("meta", )  # on which costs are counted


def without_autocast(device: torch.device) -> AbstractContextManager:
    """Switches autocast off: float32, also within a step in half precision."""
    return nullcontext() if device.type in NO_AUTOCAST else torch.autocast(device.type, enabled=False)


def wide_range(device: torch.device) -> AbstractContextManager:
    """Under autocast to float16 that to :func:`wide_type`, else nothing.

    It keeps no cast weights: torch would hand out those of float16.
    """
    is_narrow = (device.type not in NO_AUTOCAST and torch.is_autocast_enabled(device.type)
                 and torch.get_autocast_dtype(device.type) == torch.float16)
    if not is_narrow:
        return nullcontext()
    dtype = wide_type(device)
    return torch.autocast(device.type, None if dtype == torch.float32 else dtype, enabled=dtype != torch.float32,
                          cache_enabled=False)


def wide_type(device: torch.device) -> torch.dtype:
    """bfloat16, or float32 on GPUs (before compute capability 8.0) that only emulate it."""
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.float32
    return torch.bfloat16


def at_least_float32(x: Tensor) -> Tensor:
    """Half precision as float32: 1 - p of a sigmoid in float16 has steps of 0.0005, and logits beyond 8 are lost."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def widened(values: Values) -> Values:
    """Tensors of float16, in any containers, in float32: no part of the denoiser takes them."""
    return tree_map(lambda x: x.float() if isinstance(x, Tensor) and x.dtype == torch.float16 else x, values)
