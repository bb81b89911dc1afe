"""Noise schedules in the log signal-to-noise ratio.

Notation (Kingma et al. 2021; Hoogeboom et al. 2023, "simple diffusion"):

    code          paper       meaning
    t             t           time in [0, 1]; 0 is the clean mask, 1 is pure noise
    log_snr       lambda_t    log(alpha_t^2 / sigma_t^2)
    alpha, sigma  alpha_t,    x_t = alpha_t x_0 + sigma_t eps, alpha_t^2 + sigma_t^2 = 1
                  sigma_t
    shift         2 log(ref/d) in the paper's 2-D; here the sum over the spatial axes of log(ref / d_i)

All values are float64: near t = 0 and t = 1 one of alpha, sigma is below the resolution of float32.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from collections.abc import Sequence

import torch
from torch import Tensor

BETA_FIRST, BETA_LAST = 1e-4, 0.02
SCHEDULES = ("cosine", "linear")
SHIFT_DECIMALS = 3  # of a plan
NO_SIGNAL_LOG_SNR = -60.0  # alpha below 1e-13: pure noise, whose half-log-SNR is minus infinity


def cosine_log_snr(t: Tensor, shift: float = 0.0) -> Tensor:
    """lambda_t = -2 log tan(pi t / 2) + shift ("simple diffusion", eq. of section 3.1).

    At t = 1 the signal-to-noise ratio is zero within float64 (alpha below 1e-16).
    """
    t = t.double()
    return -2 * torch.log(torch.tan(math.pi * t / 2)) + shift


def linear_log_snr(t: Tensor, num_train_steps: int) -> Tensor:
    """lambda of DDPM's linear betas (Ho et al. 2020): abar_i = prod_{j <= i} (1 - beta_j), i = round(t T), t > 0.

    The betas run from 1e-4 to 0.02 for T = 1000 and scale with 1000 / T otherwise, so that the end is as noisy.
    """
    scale = 1000 / num_train_steps
    betas = torch.linspace(scale * BETA_FIRST, min(scale * BETA_LAST, 0.999), num_train_steps, dtype=torch.float64,
                           device=t.device)
    log_abar = torch.log1p(-betas).cumsum(0)
    index = (t.double() * num_train_steps).round().long()
    log_abar = torch.cat([log_abar.new_full((1,), -1e-12), log_abar])[index.clamp(0, num_train_steps)]
    return log_abar - torch.log(-torch.expm1(log_abar))


def log_snr_shift(diameter_vox: Sequence[float], reference_vox: float) -> float:
    """sum_i log(ref / d_i): a structure of diameter d_i voxels is denoised by averaging d_i voxels along axis i."""
    return sum(math.log(reference_vox / diameter) for diameter in diameter_vox)


def alpha_sigma(log_snr: Tensor) -> tuple[Tensor, Tensor]:
    """alpha^2 = sigmoid(lambda), sigma^2 = sigmoid(-lambda)."""
    return torch.sigmoid(log_snr).sqrt(), torch.sigmoid(-log_snr).sqrt()


@dataclass(frozen=True)
class Schedule:
    """A noise schedule by name: ``cosine`` with a shift, or ``linear`` with T steps, which keeps alpha = 0.006 at its
    end.

    Times stay on the CPU in float64, whatever device the states are on: Apple's mps has no float64.
    """

    name: str
    shift: float = 0.0
    num_train_steps: int = 1000

    def __post_init__(self):
        if self.name not in SCHEDULES:
            raise ValueError(f"schedule is {self.name!r}, expected one of {', '.join(SCHEDULES)}")

    def log_snr(self, t: Tensor) -> Tensor:
        """lambda_t for t in [0, 1], float64."""
        if self.name == "cosine":
            return cosine_log_snr(t, self.shift)
        return linear_log_snr(t, self.num_train_steps)

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(alpha_t, sigma_t), float64, shaped as t."""
        return alpha_sigma(self.log_snr(t))

    def is_pure_noise(self, t: Tensor) -> bool:
        """Whether a state at t, a scalar, holds nothing of x_0: the signal-to-noise ratio is zero within float64."""
        return bool(self.log_snr(t) < NO_SIGNAL_LOG_SNR)

    def discrete(self, t: Tensor) -> Tensor:
        """The nearest of 1/T, 2/T, ..., 1 for the linear schedule, which is defined there only; else t itself."""
        if self.name != "linear":
            return t
        return (t * self.num_train_steps).round().clamp(min=1) / self.num_train_steps


def trailing_times(num_steps: int) -> Tensor:
    """t_0 = 1 > t_1 > ... > t_num_steps = 0, evenly spaced, float64 ("trailing" spacing: the first is pure noise).

    Raises:
        ValueError: there is no step.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps is {num_steps}, expected at least 1")
    return torch.linspace(1, 0, num_steps + 1, dtype=torch.float64, device="cpu")
