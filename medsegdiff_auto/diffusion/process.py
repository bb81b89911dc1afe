"""The forward process and the exact conversions between what a network may predict.

    code        paper     meaning
    x_start     x_0       clean state, in [-1, 1]
    noise       eps       standard normal
    v           v         alpha_t eps - sigma_t x_0 (Salimans and Ho 2022)

Shapes: x_start, x_t, noise, v are (B, K, *spatial); alpha and sigma are (B,), float64 on the CPU: only what multiplies
a state goes to its device.
"""

from __future__ import annotations

import torch
from torch import Tensor

from medsegdiff_auto.diffusion.transfer import on_device


def per_sample(values: Tensor, like: Tensor) -> Tensor:
    """(B,) broadcast over (B, C, *spatial), on the device and in the precision of ``like``."""
    return on_device(values.to(like.dtype), like.device).reshape(-1, *[1] * (like.ndim - 1))


def q_sample(x_start: Tensor, noise: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """x_t = alpha_t x_0 + sigma_t eps (Ho et al. 2020, eq. 4)."""
    return per_sample(alpha, x_start) * x_start + per_sample(sigma, x_start) * noise


def noise_from_x_start(x_start: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """eps = (x_t - alpha_t x_0) / sigma_t."""
    return (x_t - per_sample(alpha, x_t) * x_start) / per_sample(sigma, x_t)


def x_start_from_noise(noise: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """x_0 = (x_t - sigma_t eps) / alpha_t."""
    return (x_t - per_sample(sigma, x_t) * noise) / per_sample(alpha, x_t)


def velocity(x_start: Tensor, noise: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """v = alpha_t eps - sigma_t x_0 (Salimans and Ho 2022, section 4)."""
    return per_sample(alpha, noise) * noise - per_sample(sigma, x_start) * x_start


def v_from_x_start(x_start: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """v of the noise that lies between x_0 and x_t."""
    return velocity(x_start, noise_from_x_start(x_start, x_t, alpha, sigma), alpha, sigma)


def x_start_from_v(v: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """x_0 = alpha_t x_t - sigma_t v."""
    return per_sample(alpha, x_t) * x_t - per_sample(sigma, x_t) * v


def noise_from_v(v: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """eps = sigma_t x_t + alpha_t v."""
    return per_sample(sigma, x_t) * x_t + per_sample(alpha, x_t) * v


def x_start_from_output(output: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor, parameterisation: str) -> Tensor:
    """x_0 of what a network predicts, not clipped."""
    if parameterisation == "noise":
        return x_start_from_noise(output, x_t, alpha, sigma)
    if parameterisation == "v":
        return x_start_from_v(output, x_t, alpha, sigma)
    assert parameterisation == "x_start", parameterisation
    return output


def output_from_x_start(x_start: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor, parameterisation: str) -> Tensor:
    """What a perfect network predicts for a state x_t of x_0: the inverse of :func:`x_start_from_output`."""
    if parameterisation == "noise":
        return noise_from_x_start(x_start, x_t, alpha, sigma)
    if parameterisation == "v":
        return v_from_x_start(x_start, x_t, alpha, sigma)
    assert parameterisation == "x_start", parameterisation
    return x_start


def uniform_times(batch_size: int, generator: torch.Generator | None = None) -> Tensor:
    """Stratified uniform t in (0, 1], (B,), float64: one draw, spread evenly over the batch (Kingma et al. 2021)."""
    offset = torch.rand((), generator=generator, dtype=torch.float64)
    return 1 - (offset + torch.arange(batch_size, dtype=torch.float64) / batch_size) % 1


def random_rows(batch_size: int, share: float) -> list[int]:
    """Random entries of a batch, in order: as near to ``share`` of it as whole numbers allow, on average just that."""
    drawn = torch.randperm(batch_size) < int(share * batch_size + torch.rand(()).item())
    return drawn.nonzero().flatten().tolist()
