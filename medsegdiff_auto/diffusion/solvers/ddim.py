"""DDIM, and DDPM's step as its stochastic end."""

from __future__ import annotations

import torch
from torch import Tensor

from medsegdiff_auto.diffusion.solver import Solver, Step


def ddim_step(step: Step, eta: float = 0.0) -> Tensor:
    """x_s = alpha_s x_0 + sqrt(sigma_s^2 - d^2) eps + d z, with d = eta (sigma_s / sigma_t) sqrt(1 - (alpha_t /
    alpha_s)^2).

    Song et al. 2021, eq. 12 and 16; the noise z is needed where eta > 0. As eps = (x_t - alpha_t x_0) / sigma_t, the
    step is a weighted sum of x_t, x_0 and z.
    """
    (alpha_t, sigma_t), (alpha_s, sigma_s) = step.schedule.alpha_sigma(step.t), step.schedule.alpha_sigma(step.s)
    stochastic = eta * (sigma_s / sigma_t) * (1 - (alpha_t / alpha_s) ** 2).clamp(min=0).sqrt()
    of_x_t = (sigma_s ** 2 - stochastic ** 2).clamp(min=0).sqrt() / sigma_t
    x_s = torch.add(of_x_t.item() * step.x_t, step.x_start, alpha=(alpha_s - of_x_t * alpha_t).item())
    if eta == 0:
        return x_s
    assert step.noise is not None, f"a step with eta {eta} takes noise"
    return torch.add(x_s, step.noise, alpha=stochastic.item())


EQUATION = ("x<sub>s</sub> = α<sub>s</sub> x̂<sub>0</sub> + σ<sub>s</sub> ε̂, &nbsp; "
            "ε̂ = (x<sub>t</sub> − α<sub>t</sub> x̂<sub>0</sub>) / σ<sub>t</sub>")
SOLVER = Solver("Song et al. 2021, “Denoising diffusion implicit models”, equation 12 without new noise", EQUATION,
                ddim_step)
