"""DPM-Solver++(2M): second order from the prediction of the step before."""

from __future__ import annotations

import torch
from torch import Tensor

from medsegdiff_auto.diffusion.solver import Solver, Step


def dpm_solver_pp_2m_step(step: Step) -> Tensor:
    """One step of DPM-Solver++(2M) (Lu et al. 2022, algorithm 2), first order where there is no finite history.

    x_s = (sigma_s / sigma_t) x_t - alpha_s (exp(-h) - 1) D, h = (lambda_s - lambda_t) / 2 in the paper's half-log-SNR,
    D = (1 + 1 / (2 r)) x_0 - 1 / (2 r) x_0_previous, r = h_previous / h.
    """
    schedule, previous, estimate = step.schedule, step.previous, step.x_start
    half_t, half_s = schedule.log_snr(step.t) / 2, schedule.log_snr(step.s) / 2
    (_, sigma_t), (alpha_s, sigma_s) = schedule.alpha_sigma(step.t), schedule.alpha_sigma(step.s)
    h = half_s - half_t
    if previous is not None and not schedule.is_pure_noise(previous.t):
        ratio = (half_t - schedule.log_snr(previous.t) / 2) / h
        of_previous = (1 / (2 * ratio)).item()
        estimate = (1 + of_previous) * step.x_start - of_previous * previous.x_start
    return (sigma_s / sigma_t).item() * step.x_t - (alpha_s * torch.expm1(-h)).item() * estimate


SOLVER = Solver("Lu et al. 2022, “DPM-Solver++”, algorithm 2 (2M)",
                "x<sub>s</sub> = (σ<sub>s</sub> / σ<sub>t</sub>) x<sub>t</sub> − α<sub>s</sub> (e<sup>−h</sup> − 1) D, "
                "&nbsp; "
                "h = (λ<sub>s</sub> − λ<sub>t</sub>) / 2", dpm_solver_pp_2m_step, takes_previous=True,
                remark="<i>D</i> is <i>x̂</i><sub>0</sub>, extrapolated with the one of the step before.")
