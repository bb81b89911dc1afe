"""Masks of users: label values, grey with a threshold, colours, a palette, or one file per class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from medsegdiff_auto.dataset_conversion.core.labels import foreground_of_grey, relabel
from medsegdiff_auto.dataset_conversion.core.picture import ENDINGS, Picture, read_picture
from medsegdiff_auto.dataset_conversion.core.reading import reading
from medsegdiff_auto.dataset_conversion.core.source import CaseProblem
from medsegdiff_auto.dataset_conversion.core.volume import Volume
from medsegdiff_auto.files.pictures import exif_orientation, upright

GREY, VALUES, COLOURS, FILES = "grey", "values", "colours", "files"


class ColourMask(CaseProblem):
    """Colours where values were expected."""


@dataclass(frozen=True)
class Coding:
    """How masks say which structure a voxel is.

    ``kind`` is GREY (one structure, see :func:`foreground_of_grey`), VALUES, COLOURS (24 bits as a number) or FILES
    (one file per class, each grey); ``codes`` maps values or colours to labels.
    """

    kind: str
    names: tuple[str, ...]
    codes: dict[int, int]
    threshold: float | None = None


def read_codes(path: Path, kind: str, read: Callable) -> tuple[Picture | Volume, np.ndarray]:
    """A mask as it is, and its values; colours as numbers of 24 bits. ``read`` reads what is no picture.

    Raises:
        CaseProblem: it cannot be read, or is a colour image where values are expected.
    """
    if not path.name.lower().endswith(ENDINGS):
        mask = read(path)
        return mask, mask.voxels
    indices = _palette_indices(path) if kind != COLOURS else None
    mask = Picture(indices) if indices is not None else read_picture(path)
    pixels = mask.voxels
    if kind == COLOURS:
        pixels = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)
        return mask, pixels.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)
    if pixels.ndim == 3:
        if np.any(pixels != pixels[..., :1]):
            raise ColourMask(f"{path.name} is a colour mask; give its colours: --labels NAME=#rrggbb ...")
        mask = Picture(pixels[..., 0])
    return mask, mask.voxels


def label_map(mask_values: np.ndarray, coding: Coding, shown: str) -> np.ndarray:
    """The label map of one mask file that codes all structures, uint8.

    Raises:
        CaseProblem: a value or colour occurs that is no code, or a grey mask does not show its structure.
    """
    if coding.kind == GREY:
        return foreground_of_grey(mask_values, shown, coding.threshold).astype(np.uint8)
    if coding.kind == VALUES:
        return relabel(mask_values, coding.codes, shown)
    found, inverse = np.unique(mask_values, return_inverse=True)
    unknown = [int(value) for value in found if int(value) not in coding.codes]
    if unknown:
        raise CaseProblem(f"{shown} holds the colour {', '.join(colour_name(value) for value in unknown[:5])}, "
                          f"expected {', '.join(colour_name(value) for value in coding.codes)}")
    return np.array([coding.codes[int(value)] for value in found], np.uint8)[inverse].reshape(mask_values.shape)


def colour_name(value: int) -> str:
    """``#rrggbb``."""
    return f"#{value & 0xffffff:06x}"


def _palette_indices(path: Path) -> np.ndarray | None:
    with reading(path), Image.open(path) as image:
        return upright(np.asarray(image), exif_orientation(path)) if image.mode == "P" else None
