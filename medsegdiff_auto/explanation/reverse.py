"""The reverse trajectories: state and predicted mask at every step of several samples."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import torch

from medsegdiff_auto.diffusion.configuration import DiffusionConfiguration
from medsegdiff_auto.explanation.case import Tile
from medsegdiff_auto.explanation.colours import grey_image, legend_of, masks_on_image, state_as_colours
from medsegdiff_auto.explanation.layout import Panels, title
from medsegdiff_auto.explanation.record import Trajectory
from medsegdiff_auto.explanation.words import Section, dice_words, equation, log_snr_words, section, source, text
from medsegdiff_auto.overlap import dice, mean_without_nan
from medsegdiff_auto.reporting.pictures import REFERENCE_COLOUR
from medsegdiff_auto.tables import SOLVERS

MOST_SAMPLES_DRAWN, MOST_STEPS_DRAWN = 6, 6
RESULT_WIDTH, BLOCK_GAP = 2, 0.45
COLUMNS_FOR_TWO_BLOCKS = 6
TITLE_INCHES = 0.46
PREDICTIONS = {
    "x_start": "The network predicts the probabilities <i>p</i> of the mask, of which the expected state follows:",
    "noise": "The network predicts the noise, from which the mask follows, clipped to [−1, 1]:",
    "v": "The network predicts v = α<sub>t</sub> ε − σ<sub>t</sub> x<sub>0</sub>, from which the mask follows, "
         "clipped to [−1, 1]:",
}
PREDICTION_EQUATIONS = {
    "x_start": "x̂<sub>0</sub> = 2 p<sub>θ</sub>(x<sub>t</sub>, I, t) − 1",
    "noise": "x̂<sub>0</sub> = (x<sub>t</sub> − σ<sub>t</sub> ε<sub>θ</sub>(x<sub>t</sub>, I, t)) / α<sub>t</sub>",
    "v": "x̂<sub>0</sub> = α<sub>t</sub> x<sub>t</sub> − σ<sub>t</sub> v<sub>θ</sub>(x<sub>t</sub>, I, t)",
}


def drawn_steps(num_steps: int) -> list[int]:
    """At most six steps, evenly spread, the first and the last among them."""
    return sorted(set(np.linspace(0, num_steps - 1, min(num_steps, MOST_STEPS_DRAWN)).round().astype(int).tolist()))


def draw_reverse(tile: Tile, trajectories: list[Trajectory], c: DiffusionConfiguration) -> bytes:
    """Two rows per sample, state and prediction, and the mask that came out over the image; of six samples at most."""
    trajectories = trajectories[:MOST_SAMPLES_DRAWN]
    steps = drawn_steps(len(trajectories[0].steps))
    num_blocks = 2 if len(steps) + RESULT_WIDTH <= COLUMNS_FOR_TWO_BLOCKS and len(trajectories) > 1 else 1
    block = [*[1] * len(steps), RESULT_WIDTH]
    columns = [*block, BLOCK_GAP, *block] if num_blocks == 2 else block
    num_rows = -(-len(trajectories) // num_blocks)
    panels = Panels(columns, [1, 1] * num_rows, tile.plane.height_over_width, 0.75, [TITLE_INCHES, 0] * num_rows, 1.5)
    for index, trajectory in enumerate(trajectories):
        row, first = 2 * (index // num_blocks), (index % num_blocks) * (len(block) + 1)
        _draw_block(panels, row, first, steps, trajectory, tile, c)
        _draw_result(panels.panel(row, first + len(steps), last_row=row + 1), f"sample {index + 1}", trajectory, tile)
    for row in range(num_rows):
        panels.row_label(2 * row, "state\n$x_t$")
        panels.row_label(2 * row + 1, "predicted\n$\\hat{x}_0$")
    return panels.png(legend_of(tile))


def _draw_block(panels: Panels, row: int, first: int, steps: list[int], trajectory: Trajectory, tile: Tile,
                c: DiffusionConfiguration) -> None:
    for column, step in enumerate(trajectory.steps[index] for index in steps):
        axes = panels.panel(row, first + column)
        tile.plane.show(axes, state_as_colours(step.x_t, tile))
        log_snr = c.noise.law.log_snr(torch.tensor(step.t, dtype=torch.float64)).item()
        title(axes, f"$t$ = {step.t:.2f}\n$\\lambda$ = {log_snr_words(log_snr)}", 8)
        tile.plane.show(panels.panel(row + 1, first + column), state_as_colours(step.x_start, tile))


def _draw_result(axes, name: str, trajectory: Trajectory, tile: Tile) -> None:
    masks = tile.masks(tile.plane.cut(trajectory.probabilities))
    tile.plane.show(axes, masks_on_image(masks, grey_image(tile), tile))
    for mask in tile.reference_masks():
        tile.plane.contour(axes, tile.plane.cut(mask), REFERENCE_COLOUR, 1.0)
    title(axes, f"$t$ = 0: {name}\n(reference white)", 8)


def reverse_section(tile: Tile, trajectories: list[Trajectory], c: DiffusionConfiguration, solver: str) -> Section:
    """The section about the reverse process."""
    before = text(
        "Every sample starts from its own noise and goes to <i>t</i> = 0 in "
        f"{len(trajectories[0].steps)} steps. At each step the network looks at the image <i>I</i> and at the "
        "state. " + PREDICTIONS[c.network.parameterisation])
    before += equation(PREDICTION_EQUATIONS[c.network.parameterisation])
    before += text("The solver then goes to the next, less noisy time <i>s</i> &lt; <i>t</i>:") + _step_words(solver)
    after = text(_parting_words(tile, trajectories, c)) if len(trajectories) > 1 else ""
    after += source(f"{SOLVERS.row(solver).source}; the parameterisations are compared in Salimans and Ho 2022.")
    caption = "Above: the state that the network sees. Below: the mask that it predicts from it. Right: what came out."
    caption += f" {MOST_STEPS_DRAWN} of the steps are drawn." if len(trajectories[0].steps) > MOST_STEPS_DRAWN else ""
    caption += f" {MOST_SAMPLES_DRAWN} of the samples are drawn." if len(trajectories) > MOST_SAMPLES_DRAWN else ""
    return section("reverse", "The reverse process, step by step", before, draw_reverse(tile, trajectories, c),
                   "State and prediction at the steps of several samples", caption, after)


def agreement_by_step(tile: Tile, trajectories: list[Trajectory]) -> list[float]:
    """Mean Dice in the plane between the masks that two samples predict, at every step."""
    by_step = []
    for steps in zip(*(trajectory.steps for trajectory in trajectories)):
        masks = [tile.masks((step.x_start + 1) / 2) for step in steps]
        by_step.append(mean_without_nan(
            dice(a, b) for one, other in combinations(masks, 2) for a, b in zip(one, other)))
    return by_step


def _parting_words(tile: Tile, trajectories: list[Trajectory], c: DiffusionConfiguration) -> str:
    by_step, steps = agreement_by_step(tile, trajectories), trajectories[0].steps
    values = ", ".join(f"{dice_words(by_step[index])} at t = {steps[index].t:.2f}" for index in drawn_steps(len(steps)))
    words = ("How far the samples are apart in this slice, as the mean Dice between the masks that two of them "
             "predict: "
             f"{values}. ")
    if len(steps) == 1:
        return words
    if c.noise.law.is_pure_noise(torch.tensor(steps[0].t)):
        words += ("At t = 1 the state holds nothing of the mask, and what the image leaves open is the same for all "
                  "samples: "
                  "they share one prediction, a soft mask that the network makes from the first sample's noise. ")
    else:
        words += ("At t = 1 the state says almost nothing: the network should predict what the image leaves open, a "
                  "soft mask that is the same for all, and where it does not, it answers to the noise. ")
    return words + ("From the second step on the state carries the sample's own noise. A Dice that falls over the "
                    "steps is a "
                    "sampler that makes decisions.")


def _step_words(solver: str) -> str:
    row = SOLVERS.row(solver)
    return equation(row.equation) + (text(row.remark) if row.remark else "")
