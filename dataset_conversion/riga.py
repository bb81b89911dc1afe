"""RIGA: optic disc and cup in retinal photographs, outlined by six ophthalmologists each.

The deposit (750 photographs), any of its three archives unpacked side by side:

    BinRushed/{BinRushed1-Corrected,BinRushed2,BinRushed3,BinRushed4}/image1prime.jpg    the photograph
                                                                      image1-1.jpg ... image1-6.jpg
    Magrabia/{MagrabiaMale,MagrabiFemale}/image1prime.tif ...         TIFF; Image1-1.tif with a capital I occurs
    MESSIDOR/image1prime.tif ...                                      TIFF; some files of BinRushed are TIFF, too

``image1-K`` is the photograph with the outlines of disc and cup that rater K drew into it: there are no masks. They are
found here where copy and photograph differ; the outer outline bounds the disc, the one within it the cup, the drawn
line included. JPEG copies differ everywhere by a little, so that a threshold is needed and the boundary is exact to
about a pixel only. A rater whose two outlines cannot be told apart (they touch, or one is open) is left out of that
photograph, and noted. BinRushed1 beside BinRushed1-Corrected holds no photographs.

RIGA+ (Zenodo 6325549) holds crops of 800 x 800 with masks, 128 cup and 255 rim: RIGA/BinRushed/BinRushed1/image1.tif
and RIGA-mask/BinRushed/BinRushed1/image1-K.tif.

Deposit: https://deepblue.lib.umich.edu/data/concern/data_sets/3b591905z, Almazroa et al. 2018. Its folders and names
are those that public users list (github.com/mohaEs/RIGA-segmentation-masks and loaders), which agree; the codes of
RIGA+ have one witness. Whether the line belongs to the structure is not said, nor which photographs are of one person.
There is no official split; ``--test`` holds out one of the three hospitals.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from argparse import ArgumentParser, Namespace
from pathlib import Path

import numpy as np
from scipy import ndimage
from skimage import morphology

from medsegdiff_auto.dataset_conversion.core.colour import RGB, read_grey, read_rgb
from medsegdiff_auto.dataset_conversion.core.disc_and_cup import LABELS, REGIONS_CLASS_ORDER, disc_and_cup, require_size
from medsegdiff_auto.dataset_conversion.core.labels import nested_consensus, relabel
from medsegdiff_auto.dataset_conversion.core.layout import require_files, shown_entries, unpaired
from medsegdiff_auto.dataset_conversion.core.source import (TEST, TRAIN, About, Case, CaseProblem, Contents, Converter,
                                                            Omission, Sample)
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.files.listing import listed

HOSPITALS = {"BinRushed": "BinRushed", "Magrabia": "Magrabi", "MESSIDOR": "MESSIDOR"}  # name: how its folders begin
NUM_RATERS = 6
RIGA_PLUS_VALUES = {0: 0, 255: 1, 128: 2}
LOSSY = (".jpg", ".jpeg")
NOISE_LOSSLESS, NOISE_LOSSY = 1, 25  # grey levels by which copy and photograph may differ where nothing is drawn
PEN_PERCENTILE = 99                  # of the differences above the noise: the full contrast of the pen
# of that contrast that makes a pixel drawn in a JPEG, whose lines have soft edges; strictest first
PEN_SHARES = (0.5, 0.25, 0)
# of the pen that closes gaps in an outline; the first that gives two outlines is taken
BRIDGING_RADII = (0, 1, 2, 4)
MIN_CUP_SHARE = 0.01                 # of the disc's area; what is smaller is a speck
_FILE = re.compile(r"(image\d+)(?:prime|-([1-6]))", re.IGNORECASE)


class RIGA(Converter):
    """The folder with BinRushed, Magrabia and MESSIDOR, or RIGA+ with RIGA and RIGA-mask."""

    about = About(
        title="RIGA", modality="colour fundus photography, 2-D",
        task="optic disc and cup as nested regions, six raters",
        licence="CC BY-NC 4.0 by a secondary source; see the homepage",
        citation="Almazroa et al., Retinal fundus images for glaucoma analysis: the RIGA dataset, SPIE Medical Imaging "
        "2018, "
        "doi 10.1117/12.2293584", homepage="https://deepblue.lib.umich.edu/data/concern/data_sets/3b591905z")
    has_raters = True

    def add_options(self, parser: ArgumentParser) -> None:
        parser.add_argument("--test", choices=sorted(HOSPITALS),
                            help="the photographs of this hospital become test cases (default: none)")

    def scan(self, source: Path, options: Namespace) -> Contents:
        is_plus = (source / "RIGA-mask").is_dir()
        photographs, drawn = _list_plus(source) if is_plus else _list_deposit(source)
        cases, problems, left_out = [], [], []
        for folder in sorted({key[0] for key in (*photographs, *drawn)}):
            images, maps = ({key[1]: files
                             for key, files in listing.items() if key[0] == folder} for listing in (photographs, drawn))
            prefix = "_".join(folder)
            if not images or not maps:
                left_out.append(Omission(prefix,
                                         f"{len(images)} photographs, outlines of {len(maps)}: nothing to pair"))
                continue
            role = TEST if options.test and folder[0].startswith(HOSPITALS[options.test]) else TRAIN
            for name in sorted(images.keys() & maps.keys()):
                numbers = sorted(maps[name])
                files = (images[name], *(maps[name][number] for number in numbers))
                cases.append(Case(f"{prefix}_{name}", f"{prefix}_{name}", files, (numbers, is_plus), role))
            first = {name: files[min(files)] for name, files in maps.items()}
            problems += [
                dataclasses.replace(omission, name=f"{prefix}_{omission.name}") for omission in unpaired(images, first)
            ]
        absent = [
            hospital for hospital, start in HOSPITALS.items()
            if not any(key[0][0].startswith(start) for key in photographs)
        ]
        return Contents(dataset_name="RIGA", channel_names=RGB, labels=LABELS, regions_class_order=REGIONS_CLASS_ORDER,
                        cases=cases, problems=problems, left_out=left_out, file_ending=".png",
                        version="RIGA+" if is_plus else "deposit",
                        notes=["the source does not say which photographs are of one person: each counts as a patient",
                               *(f"{hospital} is not at hand" for hospital in absent)])

    def read(self, case: Case) -> Sample:
        image = read_rgb(case.files[0])
        numbers, is_plus = case.detail
        labels, notes = {}, [
            f"rater_{number} has no file" for number in range(1, NUM_RATERS + 1) if number not in numbers
        ]
        for number, file in zip(numbers, case.files[1:]):
            if is_plus:
                labels[f"rater_{number}"] = relabel(read_grey(file), RIGA_PLUS_VALUES, file.name)
                continue
            copy = read_rgb(file).voxels
            require_size({f"rater_{number}": copy[..., 0]}, image.voxels.shape[:2])
            label = _outlined(image.voxels, copy, any(path.suffix.lower() in LOSSY for path in (case.files[0], file)))
            if label is None:
                notes.append(
                    f"rater_{number} is left out: {file.name} does not show two closed outlines, one within the other")
            else:
                labels[f"rater_{number}"] = label
        require_size(labels, image.voxels.shape[:2])
        if not labels:
            raise CaseProblem("no rater's copy shows two closed outlines, one within the other")
        return Sample([image], image.like(nested_consensus(list(labels.values()))),
                      {rater: image.like(label) for rater, label in labels.items()}, notes)


def _list_deposit(source: Path) -> tuple[dict, dict]:
    """Photographs, and the annotated copies by the rater's number, both by (folder, image)."""
    photographs, drawn = {}, {}
    for top in sorted(
            path for path in source.iterdir() if path.is_dir() and path.name.startswith(tuple(HOSPITALS.values()))):
        for file in (path for path in listed(top, "**/*") if path.suffix.lower() in (*LOSSY, ".tif", ".tiff")):
            match = _FILE.fullmatch(file.stem)
            if match is None:
                continue
            key = (file.parent.name,), match[1].lower()
            if match[2] is None:
                photographs[key] = file
            else:
                drawn.setdefault(key, {})[int(match[2])] = file
    if not photographs or not drawn:
        missing = "image1-1.tif or .jpg" if photographs else "image1prime.tif or .jpg"
        raise UserError(
            f"{source} is not the folder of RIGA: {missing} is missing below BinRushed, Magrabia or MESSIDOR.",
            found=shown_entries(source),
            expected="BinRushed, Magrabia, MESSIDOR, or some of them: image1prime (photograph), image1-1 "
            "to -6 (with outlines)", fix="give -i the folder into which the archives were unpacked")
    return photographs, drawn


def _list_plus(source: Path) -> tuple[dict, dict]:
    require_files(source, {"RIGA/*/**/*.tif": "photographs", "RIGA-mask/*/**/*-1.tif": "masks"}, "RIGA+")
    photographs = {(file.relative_to(source / "RIGA").parts[:-1], file.stem): file
                   for file in listed(source / "RIGA", "**/*.tif")}
    drawn: dict = {}
    for file in listed(source / "RIGA-mask", "**/*-[1-6].tif"):
        drawn.setdefault((file.relative_to(source / "RIGA-mask").parts[:-1], file.stem[:-2]),
                         {})[int(file.stem[-1])] = file
    return photographs, drawn


def _outlined(photograph: np.ndarray, copy: np.ndarray, is_lossy: bool) -> np.ndarray | None:
    """The label map within the two outlines that ``copy`` adds to ``photograph``; None where there are not two, one
    within the other.
    """
    difference = np.abs(copy.astype(np.int32) - photograph).max(axis=2)
    noise = NOISE_LOSSY if is_lossy else NOISE_LOSSLESS
    found = ndimage.find_objects((difference > noise).astype(np.uint8))
    if not found:
        return None
    margin = max(BRIDGING_RADII) + 1
    box = tuple(slice(max(side.start - margin, 0), side.stop + margin) for side in found[0])
    contrast = np.percentile(difference[difference > noise], PEN_PERCENTILE) if is_lossy else 0
    for radius, share in itertools.product(BRIDGING_RADII, PEN_SHARES if is_lossy else (0,)):
        areas = _closed_outlines(difference[box] > max(noise, share * contrast), morphology.disk(radius))
        if (len(areas) > 1 and not np.any(areas[1] & ~areas[0])
                and np.count_nonzero(areas[1]) >= MIN_CUP_SHARE * np.count_nonzero(areas[0])):
            label = np.zeros(difference.shape, np.uint8)
            label[box] = disc_and_cup(areas[0], areas[1])
            return label
    return None


def _closed_outlines(lines: np.ndarray, pen: np.ndarray) -> list[np.ndarray]:
    """What each closed line encloses, the line included; the largest first.

    Lines are drawn over with a ``pen`` so that gaps close, and the areas are reduced by the pen again.
    """
    components, _ = ndimage.label(ndimage.binary_dilation(lines, pen), structure=np.ones((3, 3)))
    areas = []
    for number, box in enumerate(ndimage.find_objects(components), start=1):
        line = components[box] == number
        filled = ndimage.binary_fill_holes(line)
        if np.count_nonzero(filled) > np.count_nonzero(line):
            area = np.zeros(lines.shape, bool)
            area[box] = filled
            areas.append(ndimage.binary_erosion(area, pen))
    return sorted(areas, key=np.count_nonzero, reverse=True)


CONVERTER = RIGA()
