"""ISIC 2016, 2017 and 2018, task 1: the boundary of a skin lesion in a dermoscopic image.

One folder with the unpacked archives of a year; images are JPEG, masks PNG with 0 outside and 255 inside of the lesion:

    2016  ISBI2016_ISIC_Part1_Training_Data/ISIC_0000000.jpg
          ISBI2016_ISIC_Part1_Training_GroundTruth/ISIC_0000000_Segmentation.png
          ISBI2016_ISIC_Part1_Test_Data/, ISBI2016_ISIC_Part1_Test_GroundTruth/
    2017  ISIC-2017_Training_Data/, ISIC-2017_Training_Part1_GroundTruth/ISIC_0000000_segmentation.png
          ISIC-2017_Validation_Data/, ISIC-2017_Test_v2_Data/, ISIC-2017_{Validation,Test_v2}_Part1_GroundTruth/
    2018  ISIC2018_Task1-2_{Training,Validation,Test}_Input/, ISIC2018_Task1_{Training,Validation,Test}_GroundTruth/

Images: 900 + 379 (2016), 2,000 + 150 + 600 (2017), 2,594 + 100 + 1,000 (2018). The superpixels among the images of 2017
are not read. Codes and file names: https://challenge.isic-archive.com/landing/2016/37, /2017/42 and /2018/45; those
pages write ``_Segmentation`` for 2017, its archives ``_segmentation``: either is read. Names of the archives:
https://challenge.isic-archive.com/data as public download scripts quote them. The counts of 2018 are from secondary
sources. Images of one person are not marked. A year's images recur in the next year: two years are not independent.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from medsegdiff_auto.dataset_conversion.core.colour import RGB, read_grey, read_rgb
from medsegdiff_auto.dataset_conversion.core.labels import relabel
from medsegdiff_auto.dataset_conversion.core.layout import require_files, unpaired
from medsegdiff_auto.dataset_conversion.core.source import (TEST, TRAIN, About, Case, Contents, Converter, Omission,
                                                            Sample)
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.files.listing import listed

YEARS = {
    "2016": ("ISBI2016_ISIC_Part1_{}_Data", "ISBI2016_ISIC_Part1_{}_GroundTruth", ("Training", "Test")),
    "2017": ("ISIC-2017_{}_Data", "ISIC-2017_{}_Part1_GroundTruth", ("Training", "Validation", "Test_v2")),
    "2018": ("ISIC2018_Task1-2_{}_Input", "ISIC2018_Task1_{}_GroundTruth", ("Training", "Validation", "Test")),
}
MASK_VALUES = {0: 0, 255: 1}


class ISIC(Converter):
    """A folder with the unpacked archives of one year, images and ground truth of task 1."""

    about = About(
        title="ISIC challenge, task 1", modality="dermoscopy, 2-D", task="skin lesion",
        licence="2016: CC0; 2017 and 2018: as stated at the homepage (not confirmed)",
        citation="2016: Gutman et al., arXiv 1605.01397; 2017: Codella et al., arXiv 1710.05006; 2018: Codella et al., "
                 "arXiv 1902.03368",
        homepage="https://challenge.isic-archive.com/data")

    def add_options(self, parser: ArgumentParser) -> None:
        parser.add_argument("--year", choices=sorted(YEARS),
                            help="which year, where the folder holds several (default: the only one)")
        parser.add_argument(
            "--official-validation", action="store_true",
            help="one fold that validates on the official validation images, instead of five drawn ones")

    def scan(self, source: Path, options: Namespace) -> Contents:
        year = options.year or _only_year(source)
        images, masks, parts = YEARS[year]
        require_files(
            source,
            {f"{images.format('Training')}/ISIC_*.jpg": "images", f"{masks.format('Training')}/ISIC_*.png": "masks"},
            f"ISIC {year}, task 1")
        cases, problems, validation = [], [], []
        notes = ["the source does not say which images are of one person: each counts as a patient"]
        for part in parts:
            role = TEST if part.startswith("Test") else TRAIN
            found, faults = _scan_part(source / images.format(part), source / masks.format(part), role)
            cases, problems = cases + found, problems + faults
            validation += [case.name for case in found if part == "Validation"]
            if not found:
                notes.append(f"the {part.lower().replace('_', ' ')} images are not at hand")
        if options.official_validation and not validation:
            raise UserError(f"ISIC {year} has no official validation images here.", found=", ".join(notes[1:])
                            or f"the parts {', '.join(parts)}", expected="a Validation folder (2017 and 2018)",
                            fix="add it, or leave out --official-validation")
        return Contents(dataset_name=f"ISIC{year}", channel_names=RGB, labels={"background": 0, "lesion": 1},
                        cases=cases, problems=problems, file_ending=".png", version=year, notes=notes,
                        folds=[validation] if options.official_validation else None)

    def read(self, case: Case) -> Sample:
        image = read_rgb(case.files[0])
        if len(case.files) == 1:
            return Sample([image], None)
        return Sample([image], image.like(relabel(read_grey(case.files[1]), MASK_VALUES, case.files[1].name)))


def _only_year(source: Path) -> str:
    found = [year for year, (images, masks, _) in YEARS.items()
             if any((source / folder.format("Training")).is_dir() for folder in (images, masks))]
    if len(found) > 1:
        raise UserError("The folder holds several years of ISIC.", found=", ".join(found), expected="one of them",
                        fix=f"choose with --year, for example --year {found[0]}")
    return found[0] if found else "2018"


def _scan_part(images: Path, masks: Path, part: str) -> tuple[list[Case], list[Omission]]:
    """Cases and what is unpaired; the images of a test part whose masks are not at hand are cases without reference."""
    image_of = {path.stem: path for path in listed(images, "ISIC_*.jpg")}
    mask_of = {path.stem.rsplit("_", 1)[0]: path for path in listed(masks, "ISIC_*.png")
               if path.stem.lower().endswith("_segmentation")}
    if part == TEST and not mask_of:
        return [Case(name, name, (image,), part=TEST) for name, image in image_of.items()], []
    return ([
        Case(name, name, (image, mask_of[name]), part=part) for name, image in image_of.items() if name in mask_of
    ], unpaired(image_of, mask_of))


CONVERTER = ISIC()
