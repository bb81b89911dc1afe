"""Samplers: from noise to a mask in a few steps.

    code            paper      meaning
    predict_x_start x_theta    the network, (x_t, t) -> predicted x_0 in [-1, 1]
    times           t_i        decreasing, the last is 0 ("trailing" spacing: the first is the start time itself)
    eta             eta        0: deterministic DDIM; 1: DDPM's ancestral step (Song et al. 2021)

The state is float64 (float32 on devices without float64). The network and the noise are injected.
"""

from __future__ import annotations

from typing import Callable

import torch
from torch import Tensor

from medsegdiff_auto.diffusion.process import per_sample
from medsegdiff_auto.diffusion.schedules import Schedule

PredictXStart = Callable[[Tensor, Tensor], Tensor]
DrawNoise = Callable[[], Tensor]
NO_SIGNAL_LOG_SNR = -60.0  # alpha below 1e-13: pure noise, whose half-log-SNR is minus infinity
SOLVERS = ("ddim", "ddpm", "dpm_solver_pp_2m")
REMEMBERING_SOLVERS = ("dpm_solver_pp_2m",)  # a step takes the prediction of the step before


def trailing_times(num_steps: int, start_time: float = 1.0) -> Tensor:
    """t_0 = start_time > t_1 > ... > t_num_steps = 0, evenly spaced, float64."""
    if num_steps < 1:
        raise ValueError(f"num_steps is {num_steps}, expected at least 1")
    return torch.linspace(start_time, 0, num_steps + 1, dtype=torch.float64)


def is_pure_noise(t: Tensor, schedule: Schedule) -> bool:
    """Whether a state at t holds nothing of x_0: the signal-to-noise ratio is zero within float64."""
    return bool(schedule.log_snr(t) < NO_SIGNAL_LOG_SNR)


def ddim_step(x_t: Tensor, x_start: Tensor, t: Tensor, s: Tensor, schedule: Schedule,
              eta: float = 0.0, noise: Tensor | None = None) -> Tensor:
    """x_s = alpha_s x_0 + sqrt(sigma_s^2 - d^2) eps + d z, with d = eta (sigma_s / sigma_t) sqrt(1 - (alpha_t / alpha_s)^2).

    Song et al. 2021, eq. 12 and 16. t > s are scalars; ``noise`` z is needed where eta > 0. As eps = (x_t - alpha_t x_0) / sigma_t,
    the step is a weighted sum of x_t, x_0 and z; its weights are computed in float64.
    """
    (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule.alpha_sigma(t), schedule.alpha_sigma(s)
    if s == 0:
        return x_start
    stochastic = eta * (sigma_s / sigma_t) * (1 - (alpha_t / alpha_s) ** 2).clamp(min=0).sqrt()
    of_x_t = (sigma_s ** 2 - stochastic ** 2).clamp(min=0).sqrt() / sigma_t
    x_s = torch.add(of_x_t.item() * x_t, x_start, alpha=(alpha_s - of_x_t * alpha_t).item())
    return x_s if eta == 0 else torch.add(x_s, noise, alpha=stochastic.item())


def dpm_solver_pp_2m_step(x_t: Tensor, x_start: Tensor, previous_x_start: Tensor | None, previous_t: Tensor | None,
                          t: Tensor, s: Tensor, schedule: Schedule) -> Tensor:
    """One step of DPM-Solver++(2M) (Lu et al. 2022, algorithm 2), first order where there is no finite history.

    x_s = (sigma_s / sigma_t) x_t - alpha_s (exp(-h) - 1) D, h = (lambda_s - lambda_t) / 2 in the paper's half-log-SNR,
    D = (1 + 1 / (2 r)) x_0 - 1 / (2 r) x_0_previous, r = h_previous / h.
    """
    if s == 0:
        return x_start
    half = [schedule.log_snr(time) / 2 for time in (t, s)]
    (_, sigma_t), (alpha_s, sigma_s) = schedule.alpha_sigma(t), schedule.alpha_sigma(s)
    h = half[1] - half[0]
    estimate = x_start
    if previous_x_start is not None and not is_pure_noise(previous_t, schedule):
        ratio = (half[0] - schedule.log_snr(previous_t) / 2) / h
        estimate = (1 + 1 / (2 * ratio)) * x_start - 1 / (2 * ratio) * previous_x_start
    return per_sample(sigma_s / sigma_t, x_t) * x_t - per_sample(alpha_s * torch.expm1(-h), x_t) * estimate


class Solver:
    """The steps of one state by a solver's name; ``dpm_solver_pp_2m`` remembers the prediction of the step before."""

    def __init__(self, name: str, schedule: Schedule):
        if name not in SOLVERS:
            raise ValueError(f"solver is {name!r}, expected one of {SOLVERS}")
        self.name, self.schedule = name, schedule
        self.previous_x_start: Tensor | None = None
        self.previous_t: Tensor | None = None

    @property
    def is_stochastic(self) -> bool:
        """Whether a step takes new noise."""
        return self.name == "ddpm"

    @property
    def remembers(self) -> bool:
        """Whether a step takes the prediction of the step before."""
        return self.name in REMEMBERING_SOLVERS

    def __call__(self, x_t: Tensor, x_start: Tensor, t: Tensor, s: Tensor, noise: Tensor | None = None) -> Tensor:
        """x_s from x_t and the predicted x_0; x_0 itself where s is 0."""
        x_s = self.step(x_t, x_start, t, s, noise, self.previous_x_start, self.previous_t)
        if self.remembers:
            self.previous_x_start, self.previous_t = x_start, t
        return x_s

    def step(self, x_t: Tensor, x_start: Tensor, t: Tensor, s: Tensor, noise: Tensor | None,
             previous_x_start: Tensor | None, previous_t: Tensor | None) -> Tensor:
        """The same for who keeps the previous prediction himself; None where there is none."""
        if self.remembers:
            return dpm_solver_pp_2m_step(x_t, x_start, previous_x_start, previous_t, t, s, self.schedule)
        return ddim_step(x_t, x_start, t, s, self.schedule, eta=float(self.is_stochastic), noise=noise)


def sample(predict_x_start: PredictXStart, x_t: Tensor, times: Tensor, schedule: Schedule, solver: str = "ddim",
           draw_noise: DrawNoise | None = None) -> Tensor:
    """Runs a solver from x_t at times[0] to 0 and returns the last predicted x_0, in the state's precision.

    Args:
        predict_x_start: called once per step with the state and a scalar float64 t.
        x_t: (B, K, *spatial), the state at times[0]; pure noise where times[0] is 1.
        times: (num_steps + 1,), decreasing to 0.
        draw_noise: gives the standard normal noise of one ``ddpm`` step, shaped as x_t.
    """
    steps = Solver(solver, schedule)
    for t, s in zip(times[:-1], times[1:]):
        x_start = predict_x_start(x_t, t).to(x_t)
        x_t = steps(x_t, x_start, t, s, draw_noise() if steps.is_stochastic and s > 0 else None)
    return x_start
