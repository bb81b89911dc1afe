"""The forward process of the reference: what noise leaves of it, and what averaging brings back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import uniform_filter
from torch import Tensor

from medsegdiff_auto.diffusion.configuration import DiffusionConfiguration
from medsegdiff_auto.diffusion.process import q_sample
from medsegdiff_auto.diffusion.schedules import Schedule
from medsegdiff_auto.explanation.case import Tile
from medsegdiff_auto.explanation.colours import legend_of, state_as_colours
from medsegdiff_auto.explanation.layout import Panels, title
from medsegdiff_auto.explanation.words import Section, equation, log_snr_words, number, section, source, text

TIMES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
TITLE_INCHES, HEADLINE_INCHES = 0.5, 0.28


@dataclass(frozen=True)
class ForwardState:
    """x_t = alpha x_0 + sigma eps at a time, (K, *patch) float64."""

    t: float
    log_snr: float
    alpha: float
    sigma: float
    x_t: Tensor

    def words(self) -> str:
        """The numbers, for the title of a panel."""
        return (f"$t$ = {number(self.t)}\n$\\lambda$ = {log_snr_words(self.log_snr)}\n"
                f"$\\alpha$ = {self.alpha:.2f}, $\\sigma$ = {self.sigma:.2f}")


def forward_states(x_start: Tensor, noise: Tensor, schedule: Schedule, times=TIMES) -> list[ForwardState]:
    """The states of one mask (K, *patch) and one noise at several times."""
    states = []
    for t in times:
        log_snr = schedule.log_snr(torch.tensor([t], dtype=torch.float64))
        alpha, sigma = schedule.alpha_sigma(torch.tensor([t], dtype=torch.float64))
        x_t = q_sample(x_start[None].double(), noise[None].double(), alpha, sigma)[0]
        states.append(ForwardState(t, log_snr.item(), alpha.item(), sigma.item(), x_t))
    return states


def box_of(diameter_vox: tuple[float, ...]) -> tuple[int, ...]:
    """An odd number of voxels per axis, about half a structure's diameter."""
    return tuple(2 * int(diameter // 4) + 1 for diameter in diameter_vox)


def guess_by_averaging(state: ForwardState, box: tuple[int, ...]) -> np.ndarray:
    """alpha m / (alpha^2 + sigma^2 / n), m the mean of x_t over a box of n voxels: the best linear guess of x_0 there.
    """
    mean = np.stack([uniform_filter(channel, box, mode="nearest") for channel in state.x_t.numpy()])
    return state.alpha * mean / (state.alpha ** 2 + state.sigma ** 2 / np.prod(box))


def draw_forward(tile: Tile, c: DiffusionConfiguration) -> bytes:
    """The states under the plan's schedule and, where it is shifted, under the cosine without a shift; guesses below.
    """
    schedules = {"The plan's schedule": c.noise.law}
    if c.noise.log_snr_shift:
        schedules = {"Cosine schedule without a shift": Schedule("cosine"),
                     f"The plan's schedule, shifted by {number(c.noise.log_snr_shift)}": c.noise.law}
    box = box_of(c.noise.structure_diameter_vox)
    above = TITLE_INCHES + HEADLINE_INCHES
    panels = Panels([1] * len(TIMES), [1] * 2 * len(schedules), tile.plane.height_over_width, 1.0,
                    [above, 0] * len(schedules), largest_inches=1.6)
    for block, (name, schedule) in enumerate(schedules.items()):
        panels.headline(2 * block, 0.1, name, above - 0.02)
        panels.row_label(2 * block, "state\n$x_t$")
        panels.row_label(2 * block + 1, "guess by\naveraging")
        for column, state in enumerate(forward_states(tile.x_start, tile.noise[0], schedule)):
            axes = panels.panel(2 * block, column)
            tile.plane.show(axes, state_as_colours(tile.plane.cut(state.x_t.numpy()), tile))
            title(axes, state.words(), 8)
            guess = guess_by_averaging(state, box)
            tile.plane.show(panels.panel(2 * block + 1, column), state_as_colours(tile.plane.cut(guess), tile))
    return panels.png(legend_of(tile))


def forward_section(tile: Tile, c: DiffusionConfiguration) -> Section:
    """The section about the forward process."""
    box = box_of(c.noise.structure_diameter_vox)
    before = text("Training adds noise to the reference mask and teaches the network to undo it. The reference is "
                  f"scaled to one channel per {'class' if tile.target == 'classes' else 'region'}, −1 outside and +1 "
                  "inside; a colour stands for each, mixed in the shares (<i>x</i> + 1) / 2.")
    before += equation("x<sub>t</sub> = α<sub>t</sub> x<sub>0</sub> + σ<sub>t</sub> ε, &nbsp; ε ~ N(0, 1)")
    before += text(
        "Below each state stands what no network is needed for: the best linear guess of "
        f"<i>x</i><sub>0</sub> from the mean <i>m</i> over a box of <i>n</i> = {' · '.join(map(str, box))} = "
        f"{int(np.prod(box))} voxels, about half a structure wide. An even colour is no idea.")
    before += equation("x̂<sub>0</sub> = α<sub>t</sub> m / (α<sub>t</sub><sup>2</sup> + σ<sub>t</sub><sup>2</sup> / n)")
    after = ""
    if c.noise.log_snr_shift:
        after = text(
            "Without the shift the guess keeps the shape of the mask until almost the end of the schedule: "
            "there is nothing to learn at most times. With it the mask is gone earlier, and the network has to "
            "look at the image.")
    after += source("Ho et al. 2020, equation 4, in the notation of Hoogeboom et al. 2023; the guess is the linear "
                    "least-squares estimate for a mask of unit variance that is even within the box.")
    return section("forward", "The forward process of the reference", before, draw_forward(tile, c),
                   "The reference mask at several noise levels, and the guess by averaging below each",
                   "The same mask and the same noise in every row.", after)
