"""A decoder: one mask from the fused probabilities and the sampled label maps of a case.

    code            meaning
    probabilities   fused mean, (K, *spatial) float32 in [0, 1]: classes, background first, or regions
    samples         sampled label maps, (S, *spatial)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from medsegdiff_auto.nnunet.managers import HIGHEST_OF_A_BYTE, LabelManager
from medsegdiff_auto.tables import DECODERS

Decide = Callable[[np.ndarray, np.ndarray, LabelManager], np.ndarray]  # probabilities, samples, labels -> label map


@dataclass(frozen=True)
class Decoder:
    """A row of the table of decoders.

    Attributes:
        title: how it is shown.
        source: where it is published.
        decide: gives the label map (*spatial).
        rank: of several that score the same in a selection, the lowest is chosen.
        uses_samples: whether it looks at the samples, where there are at least two.
        fewest_samples: that it cannot do without.
        work_bytes: what it works with at once, per voxel of the image, beside all probabilities and samples, given
            their numbers and whether classes exclude each other; None where a slab at a time is enough.
    """

    title: str
    source: str
    decide: Decide
    rank: int
    uses_samples: bool = True
    fewest_samples: int = 0
    work_bytes: Callable[[int, int, bool], float] | None = None


def decode(name: str, probabilities: np.ndarray, samples: np.ndarray | None, labels: LabelManager) -> np.ndarray:
    """The label map (*spatial) by a row of :data:`~medsegdiff_auto.tables.DECODERS`.

    Raises:
        ValueError: there is no such decoder, or it needs more samples.
    """
    decoder = DECODERS.row(name)
    samples = np.empty((0, *probabilities.shape[1:]), np.uint8) if samples is None else samples
    if len(samples) < decoder.fewest_samples:
        raise ValueError(f"{name} needs at least {decoder.fewest_samples} samples, found {len(samples)}")
    return decoder.decide(probabilities, samples, labels)


def by_mean(probabilities: np.ndarray, labels: LabelManager) -> np.ndarray:
    """nnU-Net's own decision, (*spatial)."""
    return np.asarray(labels.convert_probabilities_to_segmentation(probabilities))


def structure_masks(samples: np.ndarray, labels: LabelManager) -> Iterator[np.ndarray]:
    """Masks (S, *spatial) of one foreground class or region after the other, in the order of the network's channels."""
    for value in labels.foreground_regions if labels.has_regions else labels.foreground_labels:
        masks = np.empty(samples.shape, bool)
        for mask, sample in zip(masks, samples):  # np.isin takes several times the memory of what it is given
            mask[...] = np.isin(sample, value)
        yield masks


def label_map(structures: Iterable[tuple[np.ndarray, np.ndarray]], labels: LabelManager) -> np.ndarray:
    """One label per voxel, (*spatial) uint16, of a mask and probabilities (*spatial) per foreground class or region.

    Classes that want the same voxel leave it to the more probable one; a later region is written over an earlier one.
    """
    chosen = best = None
    values = labels.regions_class_order if labels.has_regions else labels.foreground_labels
    for value, (mask, probabilities) in zip(values, structures, strict=True):
        if chosen is None:
            chosen, best = np.zeros(mask.shape, np.uint16), np.full(mask.shape, -1, np.float32)
        wins = mask if labels.has_regions else mask & (probabilities > best)
        chosen[wins] = value
        best[wins] = probabilities[wins]
    return chosen


def labels_by_channel(channels: Iterable[Tensor], labels: LabelManager, even: float = 0.5) -> Tensor:
    """nnU-Net's own decision, (*spatial) uint8 or, of labels beyond 255, int16, of the probabilities (*spatial) of one
    class or region after the other, or of what grows with them.

    Args:
        even: the value at which a region is as probable as not: 0 of states and logits.
    """
    chosen = best = None
    values = labels.regions_class_order if labels.has_regions else range(labels.num_segmentation_heads)
    for value, channel in zip(values, channels, strict=True):
        if chosen is None:
            dtype = torch.uint8 if max(labels.all_labels) <= HIGHEST_OF_A_BYTE else torch.int16
            chosen = torch.zeros(channel.shape, dtype=dtype, device=channel.device)
            best = None if labels.has_regions else channel.clone()
        if best is None:
            chosen.masked_fill_(channel > even, value)
        elif value:
            chosen.masked_fill_(channel > best, value)
            torch.maximum(best, channel, out=best)
    return chosen


def label_maps(samples: Iterable[Tensor], labels: LabelManager) -> np.ndarray:
    """Every sample's label map, (S, *spatial), of probabilities (K, *spatial) each."""
    return np.stack([np.asarray(labels.convert_probabilities_to_segmentation(sample.float())) for sample in samples])
