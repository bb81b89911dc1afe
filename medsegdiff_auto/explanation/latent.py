"""What the latent noise moves: where each scale changes the logits, and the masks along one of its fields."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from medsegdiff_auto.diffusion.configuration import DiffusionConfiguration
from medsegdiff_auto.diffusion.state import probabilities_from_logits
from medsegdiff_auto.explanation.case import Tile
from medsegdiff_auto.explanation.colours import grey_image, legend_of, masks_on_image
from medsegdiff_auto.explanation.layout import Panels, title
from medsegdiff_auto.explanation.plane import Plane
from medsegdiff_auto.explanation.words import Section, equation, number, section, source, text
from medsegdiff_auto.networks.conditioner import Condition
from medsegdiff_auto.networks.sampling_network import SamplingNetwork
from medsegdiff_auto.reporting.pictures import REFERENCE_COLOUR

STEPS = (-2.0, -1.0, 0.0, 1.0, 2.0)  # standard deviations of a field
TITLE_INCHES = 0.46


@dataclass(frozen=True)
class MovedByScale:
    """One scale of the latent noise in the plane.

    Attributes:
        scale: distance of the nodes, in structure diameters.
        deviation: of the logits over the fields of the scale, the largest over the channels, (height, width).
        along: probabilities (K, height, width) while the field that moves most of what is open takes one value after
            the other.
    """

    scale: float
    deviation: np.ndarray
    along: list[np.ndarray]


@torch.inference_mode()
def moved_by_scale(network: SamplingNetwork, condition: Condition, plane: Plane) -> list[MovedByScale]:
    """What every scale of the latent noise moves of a tile, coarsest last; its dispersion counts.

    Args:
        condition: on one image, of a network whose denoiser sees no state; of a GPU in half precision.
    """
    c, tau = network.configuration, network.configuration.sampling.dispersion
    logits, gains = network.latent_response(network.image_terms(condition))
    p, found = probabilities_from_logits(logits, c.target)[0], []
    is_open = p * (1 - p)
    for index, scale in enumerate(c.network.latent_scales):
        of_scale = tau * gains[0, index * c.network.latent_channels:(index + 1) * c.network.latent_channels]
        if c.target == "classes":  # what all classes move alike by changes no probability
            of_scale = of_scale - of_scale.mean(1, keepdim=True)
        strongest = of_scale[(of_scale.square() * is_open).flatten(1).sum(1).argmax()]
        along = [probabilities_from_logits(logits[:1] + step * strongest, c.target)[0] for step in STEPS]
        deviation = of_scale.square().sum(0).sqrt().amax(0)
        found.append(MovedByScale(scale, plane.cut(deviation).cpu().numpy(),
                                  [plane.cut(one).cpu().numpy() for one in along]))
    return found


def draw_latent(tile: Tile, moved: list[MovedByScale]) -> bytes:
    """One row per scale: where it moves the logits, and the masks along its strongest field."""
    panels = Panels([1] * (1 + len(STEPS)), [1] * len(moved), tile.plane.height_over_width, 1.1,
                    [TITLE_INCHES] * len(moved))
    image, most = grey_image(tile), max(float(one.deviation.max()) for one in moved)
    for row, one in enumerate(moved):
        axes = panels.panel(row, 0)
        tile.plane.show(axes, one.deviation, cmap="inferno", vmin=0, vmax=most or 1)
        _outline(axes, tile)
        title(axes, f"moves logits by\n(black 0, yellow {number(most)})")
        panels.row_label(row, f"nodes\n{one.scale:g} diameters\napart")
        for column, (step, probabilities) in enumerate(zip(STEPS, one.along), 1):
            axes = panels.panel(row, column)
            tile.plane.show(axes, masks_on_image(tile.masks(probabilities), image, tile))
            _outline(axes, tile)
            title(axes, f"strongest field\nat {number(step)}")
    return panels.png(legend_of(tile))


def _outline(axes, tile: Tile) -> None:
    for mask in tile.reference_masks():
        tile.plane.contour(axes, tile.plane.cut(mask), REFERENCE_COLOUR, 1.0)


def latent_section(tile: Tile, moved: list[MovedByScale] | None, c: DiffusionConfiguration) -> Section:
    """The section about the latent noise; without a picture where the denoiser has none, or sees a state beside it."""
    heading = "What the latent noise moves"
    if not c.network.latent_scales:
        return Section("latent", heading, text("This model has no latent noise: its samples differ by their states."))
    before = text(
        ("The denoiser sees no state: there is nothing to noise, and a sample is drawn in one step. "
         if not c.network.sees_state else "")
        + f"Two samples of an image differ by smooth normal fields <i>ξ</i>, {c.network.latent_channels} at each of "
        f"{len(c.network.latent_scales)} distances of their nodes. The network decides what each of them moves: in "
        "every cell of its finest stage it predicts, from the image, how much a field adds to the logits of every "
        "channel. It learned that from the references alone, by a score that is lowest where samples and references "
        "come from one distribution.")
    before += equation("l(<i>ξ</i>) = l + τ Σ<sub>c</sub> ξ<sub>c</sub> g<sub>c</sub>(I), &nbsp; "
                       f"τ = {c.sampling.dispersion:.3g}")
    cited = source("the score is that of distributional diffusion, De Bortoli et al. 2025; the distances follow from "
                   "the diameter of the structures.")
    if moved is None:
        return Section("latent", heading, before + text("This denoiser also sees a state, so that no one picture shows "
                                                        "what a field does.") + cited)
    strongest = max(moved, key=lambda one: float(one.deviation.max()))
    after = text(f"Most is moved by the fields whose nodes lie {strongest.scale:g} structure diameters apart. Where "
                 "the map is black, the network is sure: no sample differs there.")
    return section("latent", heading, before, draw_latent(tile, moved), "Where each scale of the noise moves the mask",
                   "Left: standard deviation of the logits over the fields of a scale, the largest over the channels. "
                   "Right: the mask while the strongest field of the scale goes from -2 to 2 everywhere and all others "
                   "are 0. White: outline of the reference.", after + cited)
