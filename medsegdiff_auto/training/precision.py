"""Half precision on the devices that compute faster in it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

HALF_PRECISION = {"cuda": torch.float16}


def half_precision(device: torch.device) -> AbstractContextManager:
    """nnU-Net's autocast, but without its cache of half-precision weights; nothing on other devices.

    A recycled step first runs the denoiser without gradients. torch before its change 165068 keeps the weights that were cast in
    that run for the next one, where they carry no gradient either: the denoiser would learn next to nothing from the step.
    Every weight is used once in a run, so that there is nothing to gain from a cache.
    """
    dtype = HALF_PRECISION.get(device.type)
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype, cache_enabled=False)
