"""Noise that depends on the seed, the case and the number of the sample, and on nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor


def sample_seed(seed: int, case: str, sample: int, step: int = 0) -> int:
    """A 63-bit seed from these; SHA-256, the same on every machine. Step 0 is the start of a sample."""
    return _hashed(f"{seed}/{case}/{sample}" + (f"/{step}" if step else ""))


def latent_seed(seed: int, case: str, sample: int, step: int) -> int:
    """The seed of a sample's latent noise at a step."""
    return _hashed(f"{seed}/{case}/{sample}/{step}/latent")


def noise_volume(shape: Sequence[int], seed: int, case: str, sample: int, step: int = 0,
                 rows: slice = slice(None)) -> Tensor:
    """Standard normal noise of some slices of the first spatial axis, float32 on the CPU, (K, rows, *rest).

    Every slice has a seed of its own, so that a slab is the same alone and within the whole volume. Later steps of
    stochastic solvers take their own noise.

    Args:
        shape: of the whole volume, (K, *spatial).
    """
    of_sample, generator = sample_seed(seed, case, sample, step), torch.Generator()
    slices = [torch.randn((shape[0], *shape[2:]), generator=generator.manual_seed(_hashed(f"{of_sample}/{number}")))
              for number in range(*rows.indices(shape[1]))]
    return torch.stack(slices, 1)


def _hashed(words: str) -> int:
    return int.from_bytes(hashlib.sha256(words.encode()).digest()[:8], "big") >> 1
