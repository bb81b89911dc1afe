"""The forward process and the exact conversions between what a network may predict.

Shapes: x_start, x_t, noise are (B, K, *spatial); alpha and sigma are (B,). x_start lies in [-1, 1].
"""

from __future__ import annotations

import torch
from torch import Tensor


def per_sample(values: Tensor, like: Tensor) -> Tensor:
    """(B,) broadcast over (B, C, *spatial), on the device and in the precision of ``like``."""
    return values.to(like).reshape(-1, *[1] * (like.ndim - 1))


def q_sample(x_start: Tensor, noise: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """x_t = alpha_t x_0 + sigma_t eps."""
    return per_sample(alpha, x_start) * x_start + per_sample(sigma, x_start) * noise


def noise_from_x_start(x_start: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """eps = (x_t - alpha_t x_0) / sigma_t."""
    return (x_t - per_sample(alpha, x_t) * x_start) / per_sample(sigma, x_t)


def x_start_from_noise(noise: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """x_0 = (x_t - sigma_t eps) / alpha_t."""
    return (x_t - per_sample(sigma, x_t) * noise) / per_sample(alpha, x_t)


def v_from_x_start(x_start: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """v = alpha_t eps - sigma_t x_0 (Salimans and Ho 2022), with eps from x_0 and x_t."""
    noise = noise_from_x_start(x_start, x_t, alpha, sigma)
    return per_sample(alpha, x_t) * noise - per_sample(sigma, x_t) * x_start


def x_start_from_v(v: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """x_0 = alpha_t x_t - sigma_t v."""
    return per_sample(alpha, x_t) * x_t - per_sample(sigma, x_t) * v


def uniform_times(batch_size: int, generator: torch.Generator | None = None) -> Tensor:
    """Stratified uniform t in (0, 1], (B,), float64: one draw, spread evenly over the batch (Kingma et al. 2021)."""
    offset = torch.rand((), generator=generator, dtype=torch.float64)
    return 1 - (offset + torch.arange(batch_size, dtype=torch.float64) / batch_size) % 1
