"""Noise that depends on the seed, the case and the number of the sample, and on nothing else."""

from __future__ import annotations

import hashlib
from typing import Sequence

import torch
from torch import Tensor


def sample_seed(seed: int, case: str, sample: int) -> int:
    """A 63-bit seed from the three; SHA-256, the same on every machine."""
    digest = hashlib.sha256(f"{seed}/{case}/{sample}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def noise_volume(shape: Sequence[int], seed: int, case: str, sample: int) -> Tensor:
    """Standard normal noise of the whole volume, float32 on the CPU, (K, *spatial)."""
    generator = torch.Generator().manual_seed(sample_seed(seed, case, sample))
    return torch.randn(tuple(shape), generator=generator)
