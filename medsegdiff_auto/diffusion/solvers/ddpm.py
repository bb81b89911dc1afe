"""DDPM's ancestral step (Ho et al. 2020), which is DDIM's with eta = 1."""

from __future__ import annotations

from functools import partial

from medsegdiff_auto.diffusion.solver import Solver
from medsegdiff_auto.diffusion.solvers.ddim import EQUATION, ddim_step

SOLVER = Solver(
    "Ho et al. 2020, algorithm 2, as the η = 1 case of Song et al. 2021, equations 12 and 16", EQUATION,
    partial(ddim_step, eta=1.0), takes_noise=True,
    remark="A part of ε̂ is replaced by new noise at every step, as much as the forward process has between "
    "<i>s</i> and <i>t</i>.")
