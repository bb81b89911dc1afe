"""LIDC-IDRI: lung nodules in CT, outlined by four radiologists.

Crops round a nodule, as papers on ambiguous segmentation use them:

    images/NAME.png
    labels_rater1/NAME.png ... labels_rater4/NAME.png              0 or 1

The collection itself:

    LIDC-IDRI-0001/STUDY/SERIES/*.dcm                              one CT series, and radiographs in other studies
    LIDC-IDRI-0001/STUDY/SERIES/069.xml                            or all XML files in a folder of their own

    LidcReadMessage > ResponseHeader > SeriesInstanceUid
    LidcReadMessage > readingSession (one per radiologist) > unblindedReadNodule > roi
        imageSOP_UID, inclusion (TRUE, FALSE for a hole), edgeMap (xCoord, yCoord)

An outline runs through the first pixels outside a nodule of 3 mm or more; a smaller one has a single point and is no
mask. Layout: Armato et al., Medical Physics 38 (2011), and the collection's page. Who of the radiologists is "rater 1"
differs from scan to scan.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from argparse import ArgumentParser, Namespace
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from skimage.draw import polygon, polygon_perimeter

from medsegdiff_auto.dataset_conversion.core.dicom import SERIES_UID, SOP_UID, Series, find_series, read_series
from medsegdiff_auto.dataset_conversion.core.labels import consensus, relabel
from medsegdiff_auto.dataset_conversion.core.layout import require_files, unpaired
from medsegdiff_auto.dataset_conversion.core.picture import Picture, read_picture
from medsegdiff_auto.dataset_conversion.core.reading import reading
from medsegdiff_auto.dataset_conversion.core.source import (TEST, TRAIN, About, Case, CaseProblem, Contents, Converter,
                                                            Omission, Sample)
from medsegdiff_auto.dataset_conversion.core.volume import Volume
from medsegdiff_auto.files.listing import listed

NUM_RATERS = 4
RATER_FOLDERS = tuple(f"labels_rater{number}" for number in range(1, NUM_RATERS + 1))
LABELS = {"background": 0, "nodule": 1}
MASK_VALUES = {0: 0, 1: 1, 255: 1}
CT = "1.2.840.10008.5.1.4.1.1.2"  # the SOP class of CT images
SOP_CLASS = "0008|0016"


class LIDC(Converter):
    """A folder of crops (images/, labels_rater1/ ... labels_rater4/), or LIDC-IDRI with DICOM series and XML files."""

    about = About(
        title="LIDC-IDRI", modality="CT, 2-D crops or 3-D", task="lung nodules, outlined by four radiologists",
        licence="CC BY 3.0",
        citation="Armato et al., The Lung Image Database Consortium (LIDC) and Image Database Resource Initiative "
        "(IDRI), Medical "
        "Physics 38 (2011); doi 10.7937/K9/TCIA.2015.LO9QL9SX",
        homepage="https://www.cancerimagingarchive.net/collection/lidc-idri")
    has_raters = True

    def add_options(self, parser: ArgumentParser) -> None:
        parser.add_argument("--test", metavar="PREFIX",
                            help="crops whose names begin like this are test cases (default: none)")

    def scan(self, source: Path, options: Namespace) -> Contents:
        return _scan_crops(source, options.test) if (source / "images").is_dir() else _scan_collection(source)

    def read(self, case: Case) -> Sample:
        image, masks = _read_series(case.files, case.detail) if case.detail else _read_crop(case.files)
        masks = [image.like(mask) for mask in masks]
        raters = {f"rater_{number}": mask for number, mask in enumerate(masks, start=1)}
        return Sample([image], image.like(consensus([mask.voxels for mask in masks])), raters)


def _read_crop(files: tuple[Path, ...]) -> tuple[Picture, list[np.ndarray]]:
    image = read_picture(files[0])
    masks = [relabel(read_picture(file).voxels, MASK_VALUES, file.parent.name) for file in files[1:]]
    for mask, file in zip(masks, files[1:]):
        if mask.shape != image.voxels.shape[:2]:
            raise CaseProblem(f"{file.parent.name} has a mask of {mask.shape[0]} x {mask.shape[1]} pixels, "
                              f"expected {image.voxels.shape[0]} x {image.voxels.shape[1]} as the image")
    return image, masks


def _scan_crops(source: Path, test_prefix: str | None) -> Contents:
    require_files(source, {"images/*.png": "crops"} | {f"{folder}/*.png": "masks"
                                                       for folder in RATER_FOLDERS}, "LIDC crops")
    images = {path.stem: path for path in listed(source / "images", "*.png")}
    masks = [{path.stem: path for path in listed(source / folder, "*.png")} for folder in RATER_FOLDERS]
    problems = [Omission(problem.name, f"{problem.reason} ({folder})") for folder, of_rater in zip(RATER_FOLDERS, masks)
                for problem in unpaired(images, of_rater)]
    cases = [Case(name, name, (image, *(of_rater[name] for of_rater in masks)),
                  part=TEST if test_prefix and name.startswith(test_prefix) else TRAIN)
             for name, image in images.items() if all(name in of_rater for of_rater in masks)]
    return Contents(dataset_name="LIDCCrops", channel_names=["image"], labels=LABELS, cases=cases, problems=problems,
                    file_ending=".png",
                    notes=["the crops do not say of whom they are: each counts as a patient", _CONSENSUS])


_CONSENSUS = "labelsTr holds the pixels that at least half of the raters marked"


def _scan_collection(source: Path) -> Contents:
    require_files(source, {"**/*.xml": "outlines", "LIDC-IDRI-*/**/*.dcm": "CT series"}, "LIDC-IDRI")
    outlines, problems = _find_outlines(source)
    cases, left_out, seen = [], [], Counter()
    for folder in sorted({file.parent for file in listed(source, "LIDC-IDRI-*/**/*.dcm")}):
        patient, files = folder.relative_to(source).parts[0], tuple(listed(folder, "*.dcm"))
        try:
            with reading(files[0]):
                uid, sop_class = Series((str(files[0]),)).tags(SERIES_UID, SOP_CLASS)[0]
        except CaseProblem as problem:
            problems.append(Omission(patient, f"{folder.name}: {problem}"))
            continue
        if sop_class != CT:
            left_out.append(Omission(patient, f"{folder.name} holds no CT images"))
        elif uid not in outlines:
            problems.append(Omission(patient, f"image without a mask: no XML file describes the series {uid}"))
        else:
            seen[patient] += 1
            name = patient if seen[patient] == 1 else f"{patient}_{seen[patient]}"
            cases.append(Case(name, patient, (outlines[uid], *files), uid))
    return Contents(
        dataset_name="LIDC", channel_names=["CT"], labels=LABELS, cases=cases, problems=problems, left_out=left_out,
        notes=[_CONSENSUS, "outlines of nodules of 3 mm and more; who is rater 1 differs from scan to scan"])


def _find_outlines(source: Path) -> tuple[dict[str, Path], list[Omission]]:
    """The XML files by the series that they describe; those of radiographs have another root and describe none."""
    outlines, problems = {}, []
    for file in listed(source, "**/*.xml"):
        try:
            with reading(file):
                for _, element in ElementTree.iterparse(file):
                    if _tag(element) == "SeriesInstanceUid":
                        outlines[element.text.strip()] = file
                        break
        except CaseProblem as problem:
            problems.append(Omission(file.stem, str(problem)))
    return outlines, problems


def _read_series(files: tuple[Path, ...], uid: str) -> tuple[Volume, list[np.ndarray]]:
    """The volume, and one mask per reading session of the XML file, which is the first of ``files``."""
    found = find_series(files[1].parent)
    if uid not in found:
        raise CaseProblem(f"{files[1].parent.name} holds no readable series {uid}")
    image = read_series(found[uid])
    slices = {sop: index for index, (sop,) in enumerate(found[uid].tags(SOP_UID))}
    with reading(files[0]):
        root = ElementTree.parse(files[0]).getroot()
        sessions = [_rois(element) for element in root if _tag(element) == "readingSession"]
    if not sessions:
        raise CaseProblem(f"{files[0].name} has no reading session")
    return image, [_mask(rois, slices, image.voxels.shape, files[0].name) for rois in sessions]


@dataclass(frozen=True)
class Roi:
    """One closed outline on one slice: ``points`` are ``(x, y)``; a hole is cut out of the other outlines of its
    nodule.
    """

    nodule: int
    sop_uid: str
    is_hole: bool
    points: np.ndarray


def _rois(session: ElementTree.Element) -> list[Roi]:
    """The outlines of a reading session; single points, which mark nodules below 3 mm, are none."""
    rois = []
    for number, nodule in enumerate(element for element in session if _tag(element) == "unblindedReadNodule"):
        for roi in (element for element in nodule if _tag(element) == "roi"):
            fields = {_tag(element): (element.text or "").strip() for element in roi}
            points = np.array(
                [[int(coordinate.text) for coordinate in edge] for edge in roi if _tag(edge) == "edgeMap"])
            if len(points) > 2:
                rois.append(Roi(number, fields["imageSOP_UID"], fields["inclusion"].upper() == "FALSE", points))
    return rois


def _mask(rois: list[Roi], slices: dict[str, int], shape: tuple[int, ...], shown: str) -> np.ndarray:
    """What one radiologist outlined, uint8 ``(x, y, z)``."""
    missing = sorted({roi.sop_uid for roi in rois} - set(slices))
    if missing:
        raise CaseProblem(f"{shown} outlines a slice that is not in the series: {missing[0]}")
    planes: dict[tuple[int, int], np.ndarray] = defaultdict(lambda: np.zeros(shape[:2], bool))
    for roi in sorted(rois, key=lambda roi: roi.is_hole):
        planes[roi.nodule, slices[roi.sop_uid]][_interior(roi.points, shape[:2])] = not roi.is_hole
    mask = np.zeros(shape, np.uint8)
    for (_, index), plane in planes.items():
        mask[..., index] |= plane
    return mask


def _interior(points: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The pixels ``(x, y)`` within an outline, without those that it runs through."""
    inside = np.zeros(shape, bool)
    inside[polygon(points[:, 0], points[:, 1], shape)] = True
    inside[polygon_perimeter(points[:, 0], points[:, 1], shape, clip=True)] = False
    return inside


def _tag(element) -> str:
    return element.tag.rsplit("}", 1)[-1]


CONVERTER = LIDC()
