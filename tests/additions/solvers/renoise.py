"""Multistep consistency sampling: every step goes back to the predicted mask and puts new noise on it."""

from __future__ import annotations

import torch
from torch import Tensor

from medsegdiff_auto.diffusion.solver import Solver, Step


def renoise_step(step: Step) -> Tensor:
    """x_s = alpha_s x_0 + sigma_s z (Song et al. 2023, algorithm 1)."""
    assert step.noise is not None, "new noise at every step"
    alpha_s, sigma_s = step.schedule.alpha_sigma(step.s)
    return torch.add(alpha_s.item() * step.x_start, step.noise, alpha=sigma_s.item())


SOLVER = Solver("Song et al. 2023, “Consistency models”, algorithm 1",
                "x<sub>s</sub> = α<sub>s</sub> x̂<sub>0</sub> + σ<sub>s</sub> z", renoise_step, takes_noise=True,
                remark="<i>z</i> is new noise: nothing of the state is kept but what the network saw in it.")
