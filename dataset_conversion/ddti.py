"""DDTI: thyroid nodules in ultrasound images of 390 cases, outlined by radiologists.

    N.xml                       <case> ... <mark><image>1</image><svg>[{"points": [{"x": 10, "y": 20}, ...],
                                                                        "regionType": "freehand"}]</svg></mark>
    N_1.jpg, N_2.jpg, ...       the images of case N, 480 in all

``image`` is the second number of a file's name; one ``svg`` holds any number of outlines in pixels, which are filled,
their vertices included, and united. N is the case of the source, and the patient here. Layout: Pedraza et al. 2015
(XML, one case with several images) and public parsers of the distribution, which agree with each other; they also
report that the outlines of 197.xml and 205.xml break off in their last word: what is complete there is taken, and
noted. Whether a person has several cases, and whether the outline itself belongs to the nodule, is not confirmed.

A second distribution, by participants of TN-SCUI 2020, holds ``image/0000.PNG`` and ``mask/0000.PNG`` (637 images,
renumbered, some left out): who is who is lost there (openmedlab's Awesome-Medical-Dataset, DDTI).
"""

from __future__ import annotations

import json
import re
from argparse import Namespace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from skimage import draw

from medsegdiff_auto.dataset_conversion.core.colour import RGB, read_foreground, read_rgb
from medsegdiff_auto.dataset_conversion.core.layout import require_files, unpaired
from medsegdiff_auto.dataset_conversion.core.reading import reading
from medsegdiff_auto.dataset_conversion.core.source import (About, Case, CaseProblem, Contents, Converter, Omission,
                                                            Sample)
from medsegdiff_auto.files.listing import listed

_IMAGE = re.compile(r"(\d+)_(\d+)")
_POINTS = re.compile(r'"points"\s*:\s*(\[[^\[\]]*\])')


class DDTI(Converter):
    """The folder with N.xml and N_1.jpg, or one with image/ and mask/."""

    about = About(
        title="DDTI, Digital Database of Thyroid Ultrasound Images", modality="ultrasound, 2-D", task="thyroid nodule",
        licence="open access, no licence text found",
        citation="Pedraza et al., An open access thyroid ultrasound image database, SIPAIM 2014, Proc. SPIE 9287 "
                 "(2015)",
        homepage="http://cimalab.intec.co/applications/thyroid/")

    def scan(self, source: Path, options: Namespace) -> Contents:
        cases, problems, notes = _scan_masks(source) if (source / "mask").is_dir() else _scan_outlines(source)
        return Contents(dataset_name="DDTI", channel_names=RGB, labels={"background": 0, "nodule": 1}, cases=cases,
                        problems=problems, file_ending=".png", notes=notes)

    def read(self, case: Case) -> Sample:
        image = read_rgb(case.files[0])
        if case.detail is None:
            return Sample([image], image.like(read_foreground(case.files[1]).astype(np.uint8)))
        notes: list[str] = []
        outlines = [outline for text in case.detail for outline in _outlines(text, case.files[1].name, notes)]
        return Sample([image], image.like(_filled(outlines, image.voxels.shape[:2])), notes=notes)


def _scan_outlines(source: Path) -> tuple[list[Case], list[Omission], list[str]]:
    require_files(source, {"*.xml": "outlines, one file per case", "*_*.jpg": "images"}, "DDTI")
    cases, problems, drawn = [], [], {}
    broken = set()
    for file in listed(source, "*.xml"):
        try:
            drawn |= {f"{file.stem}_{number}": (file, texts) for number, texts in _marks(file).items()}
        except CaseProblem as problem:
            problems.append(Omission(file.stem, str(problem)))
            broken.add(file.stem)
    images = {path.stem: path for path in listed(source, "*.jpg")}
    for name, image in images.items():
        number = _IMAGE.fullmatch(name)
        if number is None:
            problems.append(Omission(name, f"{image.name} is not named CASE_IMAGE.jpg"))
        elif name in drawn:
            file, texts = drawn[name]
            cases.append(Case(name, number[1], (image, file), texts))
        elif number[1] not in broken:
            problems.append(Omission(name, f"image without a mask: {number[1]}.xml has no outline for it"))
    problems += [Omission(name, f"mask without an image: {drawn[name][0].name} outlines image {name.split('_')[1]}")
                 for name in sorted(set(drawn) - set(images))]
    return cases, problems, ["the number before _ is the case: its images stay together"]


def _scan_masks(source: Path) -> tuple[list[Case], list[Omission], list[str]]:
    require_files(source, {"image/*.[pP][nN][gG]": "images", "mask/*.[pP][nN][gG]": "masks"}, "DDTI")
    images, masks = ({path.stem: path
                      for path in listed(source / folder, "*.[pP][nN][gG]")} for folder in ("image", "mask"))
    return ([Case(name, name, (images[name], masks[name])) for name in images if name in masks], unpaired(
        images,
        masks), ["this distribution is renumbered: images of one patient are not known, each counts as a patient"])


def _marks(file: Path) -> dict[str, list[str]]:
    """The texts of the outlines by the number of the image; marks without an outline are left out."""
    marks: dict[str, list[str]] = {}
    with reading(file):
        for mark in ElementTree.parse(file).getroot().iter("mark"):
            text = (mark.findtext("svg") or "").strip()
            if text and text != "[]":
                marks.setdefault((mark.findtext("image") or "").strip(), []).append(text)
    return marks


def _outlines(text: str, shown: str, notes: list[str]) -> list[np.ndarray]:
    """The outlines ``(number of points, 2)`` as (x, y) of one ``svg``.

    Raises:
        CaseProblem: it holds none, or a point is not a pair of numbers.
    """
    try:
        points = [region["points"] for region in json.loads(text)]
    except json.JSONDecodeError:
        points = [json.loads(complete) for complete in _POINTS.findall(text)]
        notes.append(f"{shown} breaks off: its {len(points)} complete outlines were taken")
    except (TypeError, KeyError) as failure:
        raise CaseProblem(f"{shown} holds an outline without points") from failure
    try:
        outlines = [
            np.array([(float(point["x"]), float(point["y"])) for point in outline]) for outline in points if outline
        ]
    except (TypeError, KeyError, ValueError) as failure:
        raise CaseProblem(f"{shown} holds a point that is not {{x, y}}: {failure}") from failure
    if not outlines:
        raise CaseProblem(f"{shown} holds no complete outline")
    return outlines


def _filled(outlines: list[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    label = np.zeros(shape, np.uint8)
    for outline in outlines:
        label[draw.polygon(outline[:, 1], outline[:, 0], shape)] = 1
    if not label.any():
        raise CaseProblem("its outlines enclose no pixel of the image")
    return label


CONVERTER = DDTI()
