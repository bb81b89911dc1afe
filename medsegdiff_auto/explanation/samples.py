"""The samples beside the reference, their mean and their spread."""

from __future__ import annotations

import numpy as np

from medsegdiff_auto.diffusion.configuration import DiffusionConfiguration
from medsegdiff_auto.explanation.case import Tile
from medsegdiff_auto.explanation.colours import grey_image, legend_of, masks_on_image
from medsegdiff_auto.explanation.layout import Panels, title
from medsegdiff_auto.explanation.record import Drawing
from medsegdiff_auto.explanation.words import Section, dice_words, equation, section, source, text
from medsegdiff_auto.overlap import dice, mean_without_nan
from medsegdiff_auto.reporting.pictures import REFERENCE_COLOUR

LARGEST_STANDARD_DEVIATION = 0.5
CLEAR_DIFFERENCE = 0.02
TITLE_INCHES = 0.46


def mean_dice(tile: Tile, masks: np.ndarray, others: np.ndarray | None = None) -> float:
    """Mean over the structures of the Dice between masks (num_structures, *patch) and others, or the reference."""
    others = tile.reference_masks() if others is None else others
    return mean_without_nan(dice(b, a, tile.valid()) for a, b in zip(masks, others))


def spread(samples: np.ndarray) -> np.ndarray:
    """Standard deviation of the probabilities (S, K, ...) over the samples, its largest over the channels, in [0, 1/2].
    """
    return samples.std(axis=0).max(axis=0)


def agreement(tile: Tile, samples: list[np.ndarray]) -> tuple[float, float]:
    """Expected Dice between two samples (NaN for one) and between a sample and the reference, over the whole tile."""
    masks = [tile.masks(sample) for sample in samples]
    pairs = [mean_dice(tile, a, b) for i, a in enumerate(masks) for b in masks[:i]]
    return mean_without_nan(pairs), mean_without_nan(mean_dice(tile, a) for a in masks)


def draw_samples(tile: Tile, drawing: Drawing) -> bytes:
    """Image, reference, plain network where there is one, mean and spread in the first row; the samples below."""
    samples = [trajectory.probabilities for trajectory in drawing.trajectories]
    labelled = [("plain network", drawing.plain)] if drawing.plain is not None else []
    labelled.append(("mean of samples", np.mean(samples, axis=0)))
    num_columns = max(3 + len(labelled), min(len(samples), 6))
    num_rows = 1 + -(-len(samples) // num_columns)
    panels = Panels([1] * num_columns, [1] * num_rows, tile.plane.height_over_width, 0.1, [TITLE_INCHES] * num_rows)
    image = grey_image(tile)
    axes = panels.panel(0, 0)
    tile.plane.show(axes, image, cmap="gray", vmin=0, vmax=1)
    title(axes, "image\n" + ("(first channel)" if len(tile.image) > 1 else " "))
    _draw_masks(panels.panel(0, 1), tile, image, tile.reference_masks(), "reference\n ")
    for column, (name, probabilities) in enumerate(labelled, 2):
        _draw_masks(panels.panel(0, column), tile, image, tile.masks(probabilities), name, scored=True)
    axes = panels.panel(0, 2 + len(labelled))
    tile.plane.show(axes, tile.plane.cut(spread(np.stack(samples))), cmap="inferno", vmin=0,
                    vmax=LARGEST_STANDARD_DEVIATION)
    _outline(axes, tile)
    title(axes, "spread of samples\n(black 0, yellow ½)")
    for index, sample in enumerate(samples):
        _draw_masks(panels.panel(1 + index // num_columns, index % num_columns), tile, image, tile.masks(sample),
                    f"sample {index + 1}", scored=True)
    return panels.png(legend_of(tile))


def _draw_masks(axes, tile: Tile, image: np.ndarray, masks: np.ndarray, name: str, scored: bool = False) -> None:
    tile.plane.show(axes, masks_on_image(tile.plane.cut(masks), image, tile))
    _outline(axes, tile)
    title(axes, f"{name}\nDice {dice_words(mean_dice(tile, masks))}" if scored else name)


def _outline(axes, tile: Tile) -> None:
    for mask in tile.reference_masks():
        tile.plane.contour(axes, tile.plane.cut(mask), REFERENCE_COLOUR, 1.0)


def samples_section(tile: Tile, drawing: Drawing, c: DiffusionConfiguration) -> Section:
    """The section about the samples."""
    between, reference = agreement(tile, [trajectory.probabilities for trajectory in drawing.trajectories])
    before = text(
        "Each sample is one plausible mask. Their mean says how likely each voxel is, their spread where they "
        "disagree: the standard deviation over the samples of the probability of a structure, the largest "
        "over the structures.")
    before += equation("p̄ = (1 / S) Σ<sub>k</sub> p<sub>k</sub>, &nbsp; spread = max<sub>structures</sub> "
                       "√((1 / S) Σ<sub>k</sub> (p<sub>k</sub> − p̄)<sup>2</sup>)")
    fused = ""
    if c.sampling.conditioner_weight:
        fused = f"The model's prediction also counts the plain network, with weight {c.sampling.conditioner_weight:g}. "
    after = ""
    if len(drawing.trajectories) > 1:
        alike = between > reference + CLEAR_DIFFERENCE
        verdict = " The first is larger: here the samples are more alike than that." if alike else ""
        after = text(
            f"{fused}Samples are honest when the reference could be one of them, that is when they are as far "
            "from each other as from the reference. On this tile the Dice between two samples is "
            f"{dice_words(between)} and between a sample and the reference {dice_words(reference)}, mean over the "
            f"structures.{verdict}")
    after += source("MedSegDiff (Wu et al. 2022) fuses 5 or 25 samples by STAPLE; this project takes the mean of their "
                    "probabilities.")
    return section("samples", "The samples beside the reference", before, draw_samples(tile, drawing),
                   "Image, reference, mean, spread, and the samples",
                   "White: outline of the reference. Dice over the whole tile, mean over the structures.", after)
