"""Optic disc and cup as nested regions: 0 background, 1 rim, 2 cup."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from medsegdiff_auto.dataset_conversion.core.labels import nested
from medsegdiff_auto.dataset_conversion.core.source import CaseProblem

LABELS = {"background": 0, "disc": [1, 2], "cup": 2}
REGIONS_CLASS_ORDER = [1, 2]


def disc_and_cup(disc: np.ndarray, cup: np.ndarray) -> np.ndarray:
    """The label map of two masks, uint8; a cup pixel outside of the disc counts as disc too.

    Raises:
        CaseProblem: they differ in size, or the cup is larger than the disc, as it is where masks are inverted or
        exchanged.
    """
    if disc.shape != cup.shape:
        raise CaseProblem(f"the masks of disc and cup differ in size: {_size(disc.shape)} and {_size(cup.shape)}")
    if np.count_nonzero(cup) > np.count_nonzero(disc):
        raise CaseProblem(
            f"the cup ({np.count_nonzero(cup)} pixels) is larger than the disc ({np.count_nonzero(disc)}): "
            "the masks are inverted or exchanged")
    return nested([disc | cup, cup])


def require_size(labels: Mapping[str, np.ndarray], shape: tuple[int, ...]) -> None:
    """Checks that the label maps, given by their owners, have the size of the image.

    Raises:
        CaseProblem: one has another.
    """
    for owner, label in labels.items():
        if label.shape != shape:
            raise CaseProblem(
                f"the label map of {owner} has the size {_size(label.shape)}, expected {_size(shape)} as the image")


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
