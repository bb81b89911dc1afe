"""Label values of a source turned into nnU-Net's: whole numbers from 0 upwards without a gap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from medsegdiff_auto.dataset_conversion.core.source import CaseProblem

FULL_SCALES, FULL = (1, 255, 65535), 0.9  # what white is, and the share of it that a JPEG's white may have


def as_whole_numbers(voxels: np.ndarray, shown: str) -> np.ndarray:
    """The label map as uint8, or uint16 where it needs to be.

    Raises:
        CaseProblem: it holds fractions, negative or other values that are no labels.
    """
    if voxels.dtype == np.uint8:
        return voxels
    lowest, highest = voxels.min(), voxels.max()
    if not (np.isfinite(lowest) and np.isfinite(highest)) or np.any(voxels != np.rint(voxels)):
        raise CaseProblem(f"{shown} holds label values that are no whole numbers")
    if lowest < 0 or highest > np.iinfo(np.uint16).max:
        raise CaseProblem(f"{shown} holds label values from {lowest:g} to {highest:g}, expected 0 to 65535")
    return voxels.astype(np.uint8 if highest <= np.iinfo(np.uint8).max else np.uint16)


def relabel(voxels: np.ndarray, new_values: Mapping[int, int], shown: str) -> np.ndarray:
    """The label map with each value replaced, uint8; ``new_values`` names every value that may occur.

    Raises:
        CaseProblem: another value occurs.
    """
    whole = as_whole_numbers(voxels, shown)
    found = np.unique(whole)
    unknown = [int(value) for value in found if int(value) not in new_values]
    if unknown:
        raise CaseProblem(f"{shown} holds the label {_list(unknown)}, expected {_list(sorted(new_values))}")
    table = np.zeros(int(found[-1]) + 1, np.uint8)
    for value in found:
        table[value] = new_values[int(value)]
    return table[whole]


def foreground_of_grey(grey: np.ndarray, shown: str, threshold: float | None = None) -> np.ndarray:
    """Where a mask of one structure is set, bool.

    Two values are background and foreground, whatever they are, and one that is not 0 is foreground. Of shades up to 1,
    255 or 65535, as anti-aliased edges are, those from half upwards are set. A ``threshold`` decides otherwise.

    Raises:
        CaseProblem: the mask is not 0, but nothing of it is set; it is negative; or its shades have another range.
    """
    grey = grey.astype(np.uint8) if grey.dtype == bool else grey
    lowest, highest = grey.min(initial=0), grey.max(initial=0)
    if not (np.isfinite(lowest) and np.isfinite(highest)) or highest <= 0 > lowest:
        raise CaseProblem(f"{shown} holds values from {lowest:g} to {highest:g}, expected a mask")
    is_binary = bool(np.all((grey == grey.min(initial=highest)) | (grey == highest)))
    if threshold is None and is_binary:
        return grey == highest if highest > 0 else np.zeros(grey.shape, bool)
    full = next((full for full in FULL_SCALES if highest <= full), np.inf)
    if threshold is None and highest < FULL * full and full > 1:
        raise CaseProblem(f"{shown} holds shades up to {highest:g}, expected two values, or shades up to 1, 255 or "
                          "65535; say from which value on the structure is set (--threshold)")
    inside = grey >= (full / 2 if threshold is None else threshold)
    if highest > 0 and not inside.any() and (threshold is None or is_binary):
        raise CaseProblem(f"{shown} holds values up to {highest:g}, and nothing reaches "
                          f"{full / 2 if threshold is None else threshold:g}, from where the structure is set")
    return inside


def nested(masks: Sequence[np.ndarray]) -> np.ndarray:
    """A label map from masks that lie within each other, outermost first: a voxel's label is its innermost mask, uint8.
    """
    label = np.zeros(masks[0].shape, np.uint8)
    for value, mask in enumerate(masks, start=1):
        label[mask] = value
    return label


def consensus(label_maps: Sequence[np.ndarray]) -> np.ndarray:
    """The label that most raters gave to a voxel; of labels that equally many gave, the highest."""
    stack = np.stack(label_maps)
    values = np.unique(stack)[::-1]
    votes = np.stack([np.count_nonzero(stack == value, axis=0) for value in values])
    return values[np.argmax(votes, axis=0)].astype(stack.dtype)


def nested_consensus(label_maps: Sequence[np.ndarray]) -> np.ndarray:
    """The consensus for nested labels: a voxel belongs to a region when at least half of the raters say so.

    That is the upper median, because the labels of nested regions are in order.
    """
    stack = np.sort(np.stack(label_maps), axis=0)
    return stack[len(stack) // 2]


def _list(values) -> str:
    return ", ".join(map(str, values))
