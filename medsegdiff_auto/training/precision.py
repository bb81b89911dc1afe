"""Half precision on the devices that compute faster in it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

HALF_PRECISION = {"cuda": torch.float16}


def half_precision(device: torch.device) -> AbstractContextManager:
    """nnU-Net's autocast, but without its cache of half-precision weights; nothing on other devices.

    A recycled step first runs the denoiser without gradients. torch before its change 165068 (2.10 still) keeps the
    weights that were cast in that run for the next one, where they then carry no gradient: the denoiser would hardly
    learn from the step. Every weight is used once in a run, so that a cache saves next to nothing.
    """
    dtype = HALF_PRECISION.get(device.type)
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype, cache_enabled=False)
