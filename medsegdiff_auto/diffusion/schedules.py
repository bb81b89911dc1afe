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
from typing import Sequence

import torch
from torch import Tensor

BETA_FIRST, BETA_LAST = 1e-4, 0.02
SMALLEST_ALPHA = 1e-16


def cosine_log_snr(t: Tensor, shift: float = 0.0) -> Tensor:
    """lambda_t = -2 log tan(pi t / 2) + shift ("simple diffusion", eq. of section 3.1).

    At t = 1 the signal-to-noise ratio is zero within float64 (alpha below 1e-16).
    """
    t = t.double()
    return -2 * torch.log(torch.tan(math.pi * t / 2)) + shift


def with_zero_terminal_snr(log_abar: Tensor) -> Tensor:
    """sqrt(abar_i) shifted to end at zero and scaled to keep its first value (Lin et al. 2024, algorithm 1).

    The last value becomes 1e-16 instead of 0, as at t = 1 of the cosine: its logarithm has to be finite.
    """
    alpha = (log_abar / 2).exp()
    alpha = (alpha - alpha[-1]) * alpha[0] / (alpha[0] - alpha[-1])
    return 2 * alpha.clamp(min=SMALLEST_ALPHA).log()


def linear_log_snr(t: Tensor, num_train_steps: int, zero_terminal_snr: bool = False) -> Tensor:
    """lambda of DDPM's linear betas (Ho et al. 2020): abar_i = prod_{j <= i} (1 - beta_j), i = round(t T), t > 0.

    The betas run from 1e-4 to 0.02 for T = 1000 and scale with 1000 / T otherwise, so that the end is as noisy.
    """
    scale = 1000 / num_train_steps
    betas = torch.linspace(scale * BETA_FIRST, min(scale * BETA_LAST, 0.999), num_train_steps, dtype=torch.float64)
    log_abar = torch.log1p(-betas).cumsum(0).to(t.device)
    log_abar = with_zero_terminal_snr(log_abar) if zero_terminal_snr else log_abar
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
    """A noise schedule by name: ``cosine`` with a shift, or ``linear`` with T steps.

    ``zero_terminal_snr`` makes the linear one end in pure noise, as the cosine does in any case; DDPM's own keeps
    alpha = 0.006 at its end.
    """

    name: str
    shift: float = 0.0
    num_train_steps: int = 1000
    zero_terminal_snr: bool = False

    def __post_init__(self):
        if self.name not in ("cosine", "linear"):
            raise ValueError(f"schedule is {self.name!r}, expected 'cosine' or 'linear'")

    def log_snr(self, t: Tensor) -> Tensor:
        """lambda_t for t in [0, 1], float64."""
        if self.name == "cosine":
            return cosine_log_snr(t, self.shift)
        return linear_log_snr(t, self.num_train_steps, self.zero_terminal_snr)

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(alpha_t, sigma_t), float64, shaped as t."""
        return alpha_sigma(self.log_snr(t))
