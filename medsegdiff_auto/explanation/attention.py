"""Where the fusion of image and mask attends, at every stage and at the first, a middle and the last step."""

from __future__ import annotations

import numpy as np

from medsegdiff_auto.diffusion.configuration import DiffusionConfiguration
from medsegdiff_auto.explanation.case import Tile
from medsegdiff_auto.explanation.colours import grey_image, legend_of, state_as_colours
from medsegdiff_auto.explanation.layout import Panels, title
from medsegdiff_auto.explanation.record import Gate, RecordedStep
from medsegdiff_auto.explanation.words import Section, equation, section, source, text, upright
from medsegdiff_auto.reporting import page
from medsegdiff_auto.reporting.pictures import REFERENCE_COLOUR

COLOURS, RIGHT_MARGIN_INCHES = "inferno", 0.15
TITLE_INCHES, FOOT_INCHES, LARGEST_INCHES = 0.46, 0.8, 1.6


def attention_steps(num_steps: int, gates: list[Gate]) -> list[int]:
    """The first, a middle and the last step; the first alone where every gate depends on the image only."""
    return sorted({0, num_steps // 2, num_steps - 1}) if any(gate.kind == "fusion" for gate in gates) else [0]


def draw_attention(tile: Tile, gates: list[Gate], steps: list[RecordedStep], sees_state: bool) -> bytes:
    """One row per step: the state, or the image where the denoiser sees none, and the gate of every stage with the
    reference's outline.
    """
    rows = attention_steps(len(steps), gates)
    panels = Panels([1] * (1 + len(gates)), [1] * len(rows), tile.plane.height_over_width, 0.8,
                    [TITLE_INCHES] + [0.0] * (len(rows) - 1), LARGEST_INCHES, FOOT_INCHES)
    for row, index in enumerate(rows):
        axes = panels.panel(row, 0)
        if sees_state:
            panels.row_label(row, f"step {index + 1}\n$t$ = {steps[index].t:.2f}")
            tile.plane.show(axes, state_as_colours(steps[index].x_t, tile))
        else:
            tile.plane.show(axes, grey_image(tile), cmap="gray", vmin=0, vmax=1)
        if row == 0:
            title(axes, "state\n$x_t$" if sees_state else "image\n ")
        for column, gate in enumerate(gates, 1):
            axes = panels.panel(row, column)
            tile.plane.show(axes, gate.maps[index], cmap=COLOURS, vmin=0, vmax=1)
            for mask in tile.reference_masks():
                tile.plane.contour(axes, tile.plane.cut(mask), REFERENCE_COLOUR, 0.9)
            if row == 0:
                title(axes,
                      f"{'anchor' if gate.kind == 'anchor' else f'stage {column}'}\n{' x '.join(map(str, gate.size))}")
    _draw_bar(panels, axes)
    return panels.png(legend_of(tile))


def constancy(gates: list[Gate]) -> list[float]:
    """Correlation over the plane between the first and the last step's map, per stage, in [-1, 1]."""
    return [float(np.corrcoef(gate.maps[0].ravel(), gate.maps[-1].ravel())[0, 1]) for gate in gates]


def _draw_bar(panels: Panels, axes) -> None:
    left, width = panels.lefts[1], min(2.6, panels.width - panels.lefts[1] - RIGHT_MARGIN_INCHES)
    place = panels.figure.add_axes(
        (left / panels.width, 0.6 / panels.height, width / panels.width, 0.09 / panels.height))
    bar = panels.figure.colorbar(axes.images[0], cax=place, orientation="horizontal", ticks=[0, 0.5, 1])
    bar.outline.set_visible(False)
    place.tick_params(labelsize=7.5, length=2.5, pad=2)


def attention_section(tile: Tile, gates: list[Gate], steps: list[RecordedStep], c: DiffusionConfiguration) -> Section:
    """The section about the fusion, or that there is none."""
    heading = "Where the fusion attends"
    if not gates:
        return Section("attention", heading, page.missing(
            "This model has none: its preset puts the image beside the state and lets the convolutions mix them."))
    steps = steps[:len(gates[0].maps)]  # one, where the denoiser sees no state and computes this of the image alone
    words, credit = (_anchor_words if gates[0].kind == "anchor" else _fusion_words)(c)
    after = ""
    if gates[0].kind == "fusion" and len(steps) > 1:
        after = text("What changes from row to row is owed to the state and the time, what stays, to the image. "
                     "Correlation of the first step's map with the last step's: "
                     f"{', '.join(f'{value:.2f} at stage {i}' for i, value in enumerate(constancy(gates), 1))}.")
    return section(
        "attention", heading, words, draw_attention(tile, gates, steps, c.network.sees_state),
        "Maps of where image and mask features are fused, per stage and step",
        ("Sample 1. " if c.network.sees_state else "")
        + "White: outline of the reference. Finest stage first; below its name the size of its maps.",
        after + source(credit))


def _fusion_words(c: DiffusionConfiguration) -> tuple[str, str]:
    words = text("At every stage the image features <i>m</i><sub>I</sub> are weighted by how strongly image and mask "
                 "features answer at the same place in the same channel; LN is the layer normalisation, the products "
                 "are element by element:")
    words += equation(f"A(m<sub>I</sub>, m<sub>x</sub>) = ({upright('LN')}(m<sub>I</sub>) · "
                      f"{upright('LN')}(m′<sub>x</sub>)) · m<sub>I</sub>")
    if c.network.architecture == "conditioned":
        words += text(
            "<i>m</i>′<sub>x</sub> are the mask features behind the FF-Parser. Here the result goes, together "
            "with the image features, back to the mask features: <i>m</i><sub>x</sub> + <i>W</i> [<i>A</i>, "
            "<i>m</i><sub>I</sub>].")
    if not c.network.sees_state:
        words += text("This denoiser sees no state: its mask features come from nnU-Net's own mask of the image.")
    words += text("Drawn is the size of the weight, |LN(<i>m</i><sub>I</sub>) · LN(<i>m</i>′<sub>x</sub>)|, averaged "
                  "over the channels and divided by its largest value in the slice: 1 is where the image is listened "
                  "to most, 0 where it is not.")
    return words, "MedSegDiff (Wu et al. 2022), equations 3 and 4."


def _anchor_words(c: DiffusionConfiguration) -> tuple[str, str]:
    words = text("At the finest stage the image features <i>f</i><sub>c</sub>, smoothed by a learned Gaussian where "
                 "that is larger, open a gate for the mask features <i>f</i><sub>d</sub>:")
    words += equation(f"f<sub>d</sub>′ = {upright('sigmoid')}({upright('conv')}(f<sub>anc</sub>)) · f<sub>d</sub> + "
                      f"f<sub>d</sub>, &nbsp; f<sub>anc</sub> = {upright('max')}(k ∗ f<sub>c</sub>, f<sub>c</sub>)")
    return words + text("Drawn is the mean of the sigmoid over the channels. It depends on the image alone, and so is "
                        "the same at every step."), \
        "MedSegDiff-V2 (Wu et al. 2023)."
