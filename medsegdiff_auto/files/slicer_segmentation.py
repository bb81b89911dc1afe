"""Segmentations for 3D Slicer (``.seg.nrrd``) and label descriptions for ITK-SNAP: names and colours of structures."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from medsegdiff_auto.files.viewer_library import require_library
from medsegdiff_auto.palette import as_bytes, structure_colour

TERMINOLOGY = "Segmentation category and type - 3D Slicer General Anatomy list"
ANATOMY = ["SCT", "123037004", "Anatomical Structure"]
SEPARATORS = "|~^&"  # of the fields in a header of 3D Slicer


@dataclass(frozen=True)
class Segment:
    """A named part of a volume.

    Attributes:
        mask: bool (z, y, x); segments may overlap.
        colour: ``#rrggbb``.
        code: ``value``, ``scheme`` and ``meaning`` of the structure, where they are known.
    """

    name: str
    mask: np.ndarray
    colour: str
    code: Mapping[str, str] | None = None


def write_slicer_segmentation(segments: Iterable[Segment], image: sitk.Image, file: Path) -> None:
    """Writes ``.seg.nrrd``: segments that overlap lie in different layers, others share one.

    The header holds ASCII only, as its readers expect: accents are dropped from names, and a name in another script
    becomes ``structure N``.

    Args:
        image: with the grid of the masks; a 2-D one gets a third axis.

    Raises:
        UserError: slicerio is not installed.
    """
    slicerio = require_library("seg.nrrd")
    layers, described = [], []
    for number, segment in enumerate(segments, start=1):
        layer = next((index for index, one in enumerate(layers) if not one[segment.mask].any()), len(layers))
        if layer == len(layers):
            layers.append(np.zeros(segment.mask.shape, np.uint8))
        if number > np.iinfo(layers[layer].dtype).max:
            layers[layer] = layers[layer].astype(np.uint16)
        layers[layer][segment.mask] = number
        described.append({
            "id": f"Segment_{number}", "name": _ascii(segment.name, f"structure {number}"), "labelValue": number,
            "layer": layer, "color": [round(value / 255, 6) for value in as_bytes(segment.colour)],
            "extent": [bound for size in segment.mask.shape[::-1] for bound in (0, size - 1)],
            **_terminology(segment.code)})
    voxels = np.stack(layers) if len(layers) > 1 else layers[0]
    slicerio.write_segmentation(str(file), {"voxels": voxels.T if voxels.ndim == 3 else voxels.transpose(0, 3, 2, 1),
                                            "ijkToLPS": _affine(image), "encoding": "gzip",
                                            "containedRepresentationNames": ["Binary labelmap"],
                                            "segments": described}, compression_level=1)


def itksnap_labels(names: Mapping[int, str]) -> str:
    """The text of a label description file of ITK-SNAP: value, red, green, blue, opacity, visible, mesh, name.

    Args:
        names: of the values of a label map; 0 is the background.
    """
    rows = ['    0     0    0    0        0  0  0    "Clear Label"']
    for value, name in names.items():
        if value:
            red, green, blue = as_bytes(structure_colour(value - 1))
            shown = " ".join(name.replace('"', "'").split())
            rows.append(f'{value:5} {red:5} {green:4} {blue:4}        1  1  1    "{shown}"')
    return "\n".join(["# ITK-SnAP Label Description File", "# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL", *rows, ""])


def _affine(image: sitk.Image) -> np.ndarray:
    """Voxel indices (x, y, z) to millimetres, LPS, 4 x 4."""
    num_axes = image.GetDimension()
    affine = np.eye(4)
    affine[:num_axes, :num_axes] = np.reshape(image.GetDirection(), (num_axes, num_axes)) * image.GetSpacing()
    affine[:num_axes, 3] = image.GetOrigin()
    return affine


def _terminology(code: Mapping[str, str] | None) -> dict:
    if code is None:
        return {}
    entry = [_ascii(code[key], "") for key in ("scheme", "value", "meaning")]
    return {"terminology": {"contextName": TERMINOLOGY, "category": ANATOMY, "type": entry}}


def _ascii(text: str, otherwise: str) -> str:
    """The text on one line, without separators and accents; ``otherwise`` where a letter has no likeness in ASCII."""
    letters = unicodedata.normalize("NFKD", " ".join(text.split()))
    letters = "".join(letter for letter in letters if not unicodedata.combining(letter) and letter not in SEPARATORS)
    return letters if letters.isascii() and letters else otherwise
