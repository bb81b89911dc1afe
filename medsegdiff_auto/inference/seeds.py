"""Noise that depends on the seed, the case and the number of the sample, and on nothing else."""

from __future__ import annotations

import hashlib
from typing import Sequence

import torch
from torch import Tensor


def sample_seed(seed: int, case: str, sample: int, step: int = 0) -> int:
    """A 63-bit seed from these; SHA-256, the same on every machine. Step 0 is the start of a sample."""
    return _hashed(f"{seed}/{case}/{sample}" + (f"/{step}" if step else ""))


def field_seed(seed: int, case: str, sample: int) -> int:
    """The seed of a sample's smooth field, unrelated to that of its noise."""
    return _hashed(f"{seed}/{case}/{sample}/field")


def noise_volume(shape: Sequence[int], seed: int, case: str, sample: int, step: int = 0) -> Tensor:
    """Standard normal noise of the whole volume, float32 on the CPU, (K, *spatial); later steps of stochastic solvers take
    their own."""
    generator = torch.Generator().manual_seed(sample_seed(seed, case, sample, step))
    return torch.randn(tuple(shape), generator=generator)


def _hashed(words: str) -> int:
    return int.from_bytes(hashlib.sha256(words.encode()).digest()[:8], "big") >> 1
