"""LGG segmentation dataset (kaggle_3m): FLAIR abnormality in the MRI of 110 patients with lower-grade glioma.

    kaggle_3m/
      data.csv                                                 genomic clusters of 110 patients
      TCGA_CS_4941_19960909/TCGA_CS_4941_19960909_1.tif        256 x 256; channels: pre-contrast, FLAIR, post-contrast
      TCGA_CS_4941_19960909/TCGA_CS_4941_19960909_1_mask.tif   0 or 255

A sequence that is missing (post-contrast of 9 patients, pre-contrast of 6) is a copy of FLAIR, says the ``README.md``
of the distribution, which is also the source of this layout; ``data.csv`` does not say of whom, so it is read off the
pixels.
"""

from __future__ import annotations

import csv
import re
from argparse import ArgumentParser, Namespace
from collections import defaultdict
from pathlib import Path

import numpy as np

from medsegdiff_auto.dataset_conversion.core.labels import relabel
from medsegdiff_auto.dataset_conversion.core.layout import require_files, unpaired
from medsegdiff_auto.dataset_conversion.core.picture import Picture, read_picture
from medsegdiff_auto.dataset_conversion.core.reading import reading
from medsegdiff_auto.dataset_conversion.core.source import (About, Case, CaseProblem, Contents, Converter, Omission,
                                                            Sample)
from medsegdiff_auto.dataset_conversion.core.volume import Volume, header_from_affine
from medsegdiff_auto.files.listing import listed
from medsegdiff_auto.numeric_flags import POSITIVE

CHANNELS = ["pre-contrast MRI", "FLAIR MRI", "post-contrast MRI"]
FLAIR = 1
MASK_VALUES = {0: 0, 255: 1}
SLICE = re.compile(r"(?P<scan>(?P<patient>TCGA_\w+?_\w+?)_\d+)_(?P<number>\d+)(?P<mask>_mask)?\.tif")


class LGG(Converter):
    """The folder kaggle_3m, as 2-D slices or, with --stacks, as one 3-D volume per patient."""

    about = About(
        title="LGG segmentation dataset (kaggle_3m)",
        modality="MRI, 2-D slices or 3-D stacks: pre-contrast, FLAIR, post-contrast",
        task="FLAIR abnormality of lower-grade glioma", licence="CC BY-NC-SA 4.0",
        citation="Buda, Saha, Mazurowski, Association of genomic subtypes of lower-grade gliomas with shape features "
        "automatically "
        "extracted by a deep learning algorithm, Computers in Biology and Medicine 109 (2019)",
        homepage="https://www.kaggle.com/datasets/mateuszbuda/lgg-mri-segmentation")

    def add_options(self, parser: ArgumentParser) -> None:
        parser.add_argument("--stacks", action="store_true", help="3-D: the slices of a patient as one volume")
        parser.add_argument(
            "--spacing", type=POSITIVE, nargs=3, metavar=("X", "Y", "Z"),
            help="voxel size of the stacks in mm; the source does not have it (default: written as 1 1 1)")
        parser.add_argument(
            "--missing", choices=("flair", "zero", "leave_out"), default="flair",
            help="a missing sequence is the copy of FLAIR that the files have, is set to 0, or its patient is left "
            "out (default: %(default)s)")

    def scan(self, source: Path, options: Namespace) -> Contents:
        require_files(
            source, {"data.csv": "the patients", "TCGA_*/TCGA_*_1.tif": "slices", "TCGA_*/TCGA_*_1_mask.tif": "masks"},
            "LGG (kaggle_3m)")
        scans, patients, problems = _find_slices(source)
        missing = {scan: absent for scan, slices in scans.items() if (absent := _missing_sequences(slices))}
        notes = _notes(source, patients, missing, options)
        left_out = []
        if options.missing == "leave_out":
            left_out = [
                Omission(scan, f"{', '.join(CHANNELS[channel] for channel in missing[scan])} is missing")
                for scan in sorted(missing)
            ]
            scans = {scan: slices for scan, slices in scans.items() if scan not in missing}
        blank = missing if options.missing == "zero" else {}
        cases = []
        for scan, slices in scans.items():
            if options.stacks:
                spacing_mm = tuple(options.spacing or (1.0, 1.0, 1.0))
                files = tuple(file for number in sorted(slices) for file in slices[number])
                cases.append(Case(scan, patients[scan], files, (blank.get(scan, ()), spacing_mm)))
            else:
                cases += [
                    Case(f"{scan}_{number}", patients[scan], slices[number], (blank.get(scan, ()), None))
                    for number in sorted(slices)
                ]
        return Contents(dataset_name="LGG3D" if options.stacks else "LGG", channel_names=CHANNELS,
                        labels={"background": 0,
                                "FLAIR abnormality": 1}, cases=cases, problems=problems, left_out=left_out, notes=notes,
                        file_ending=".nii.gz" if options.stacks else ".png", version="2 (kaggle_3m)",
                        other_files=[source / "data.csv"], spacing_is_known=bool(options.spacing))

    def read(self, case: Case) -> Sample:
        blank, spacing_mm = case.detail
        slices = [_read_slice(*case.files[index:index + 2], blank) for index in range(0, len(case.files), 2)]
        if spacing_mm is None:
            image, mask = slices[0]
            return Sample([image], mask)
        sizes = {image.voxels.shape
                 for image, _ in slices} | {(*mask.voxels.shape, len(CHANNELS))
                                            for _, mask in slices}
        if len(sizes) > 1:
            raise CaseProblem(f"its slices differ in size: {', '.join(map(str, sorted(sizes)))}")
        images, masks = (np.stack([pair[index].voxels for pair in slices]) for index in (0, 1))
        volume = _stacked(masks, spacing_mm)
        return Sample([volume.like(images[..., channel].T) for channel in range(len(CHANNELS))], volume)


def _find_slices(source: Path) -> tuple[dict[str, dict[int, tuple[Path, Path]]], dict[str, str], list[Omission]]:
    """``{scan: {slice number: (image, mask)}}``, the patient of each scan, and what has no counterpart."""
    images, masks, patients, places = {}, {}, {}, {}
    for file in listed(source, "TCGA_*/*.tif"):
        name = SLICE.fullmatch(file.name)
        if name:
            key = f"{name['scan']}_{name['number']}"
            (masks if name["mask"] else images)[key] = file
            patients[name["scan"]], places[key] = name["patient"], (name["scan"], int(name["number"]))
    scans: dict[str, dict[int, tuple[Path, Path]]] = defaultdict(dict)
    for key in sorted(set(images) & set(masks)):
        scan, number = places[key]
        scans[scan][number] = images[key], masks[key]
    return dict(scans), patients, unpaired(images, masks)


def _missing_sequences(slices: dict[int, tuple[Path, Path]]) -> tuple[int, ...]:
    """The channels that equal FLAIR in the middle slice, in which no two sequences are equal by chance."""
    try:
        pixels = read_picture(slices[sorted(slices)[len(slices) // 2]][0]).voxels
    except CaseProblem:
        return ()  # it is reported when it is converted
    if pixels.ndim != 3 or pixels[..., FLAIR].min() == pixels[..., FLAIR].max():
        return ()
    return tuple(channel for channel in range(len(CHANNELS))
                 if channel != FLAIR and np.array_equal(pixels[..., channel], pixels[..., FLAIR]))


def _notes(source: Path, patients: dict[str, str], missing: dict[str, tuple[int, ...]],
           options: Namespace) -> list[str]:
    notes = []
    for channel, name in enumerate(CHANNELS):
        scans = sorted(scan for scan, absent in missing.items() if channel in absent)
        if scans and options.missing != "leave_out":
            filling = "a copy of FLAIR" if options.missing == "flair" else "set to 0"
            notes.append(f"{name} is missing and {filling} in {len(scans)} scans: {', '.join(scans)}")
    if options.stacks and not options.spacing:
        notes.append("the voxel size is unknown and written as 1 x 1 x 1 mm: volumes and distances in mm mean nothing")
    try:
        with reading(source / "data.csv"), open(source / "data.csv", newline="", encoding="utf-8") as file:
            listed = {row["Patient"] for row in csv.DictReader(file) if row.get("Patient")}
    except CaseProblem as problem:
        return notes + [str(problem)]
    at_hand = set(patients.values())
    if listed - at_hand:
        notes.append(f"data.csv lists {len(listed)} patients, {len(listed & at_hand)} are at hand")
    if at_hand - listed:
        notes.append(f"patients that data.csv does not list: {', '.join(sorted(at_hand - listed))}")
    return notes


def _read_slice(image_file: Path, mask_file: Path, blank: tuple[int, ...]) -> tuple[Picture, Picture]:
    image, mask = read_picture(image_file), read_picture(mask_file)
    if image.voxels.ndim != 3:
        raise CaseProblem(f"{image_file.name} has 1 channel, expected {len(CHANNELS)}")
    if blank:
        pixels = image.voxels.copy()
        pixels[..., list(blank)] = 0
        image = image.like(pixels)
    return image, mask.like(relabel(mask.voxels, MASK_VALUES, mask_file.name))


def _stacked(masks: np.ndarray, spacing_mm: tuple[float, ...]) -> Volume:
    """Slices ``(z, y, x)`` as a volume whose rows run to the patient's left and whose columns run to the back."""
    affine = np.diag([-spacing_mm[0], -spacing_mm[1], spacing_mm[2], 1.0])
    return Volume(masks.T, header_from_affine(affine, spacing_mm, masks.T.shape))


CONVERTER = LGG()
