"""TN3K: thyroid nodules in ultrasound images.

    tn3k/
      trainval-image/0000.jpg ... (2,879)   trainval-mask/0000.jpg ...
      test-image/0000.jpg ...     (614)     test-mask/0000.jpg ...
      tn3k-trainval-fold0.json ... fold4.json  {"train": [places], "val": [places]} in the images sorted by number
      label4trainval.csv, label4test.csv       benign or malignant, not read here

Masks are JPEG: a pixel is nodule from half of the range upwards. Layout and meaning of the folds: the authors' loader
(https://github.com/haifangong/TRFE-Net-for-thyroid-nodule-segmentation, dataloaders/tn3k.py) and the page of the
dataset in openmedlab's Awesome-Medical-Dataset, which also counts 2,421 patients. No file says who they are. That the
five folds divide the images evenly is not confirmed.
"""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path

from medsegdiff_auto.dataset_conversion.core.colour import RGB, read_foreground, read_rgb
from medsegdiff_auto.dataset_conversion.core.layout import require_files, unpaired
from medsegdiff_auto.dataset_conversion.core.source import (TEST, TRAIN, About, Case, Contents, Converter, Omission,
                                                            Sample)
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.files.listing import listed

NUM_FOLDS = 5
PARTS = (("trainval", TRAIN), ("test", TEST))


class TN3K(Converter):
    """The folder tn3k."""

    about = About(
        title="TN3K", modality="ultrasound, 2-D", task="thyroid nodule",
        licence="none stated for the images (the authors' code is MIT)",
        citation="Gong et al., Thyroid region prior guided attention for ultrasound segmentation of thyroid nodules, "
        "Computers in Biology and Medicine (2022); Gong et al., ISBI 2021",
        homepage="https://github.com/haifangong/TRFE-Net-for-thyroid-nodule-segmentation")

    def add_options(self, parser: ArgumentParser) -> None:
        parser.add_argument("--own-folds", action="store_true",
                            help="draw five folds, instead of those of tn3k-trainval-fold*.json")

    def scan(self, source: Path, options: Namespace) -> Contents:
        require_files(source, {"trainval-image/*.jpg": "images", "trainval-mask/*.jpg": "masks"}, "TN3K")
        cases, problems, notes = [], [], [
            "3,493 images are of 2,421 patients; the source does not say whose: each counts as a patient"
        ]
        for part, role in PARTS:
            found, faults = _scan_part(source, part, role)
            cases, problems = cases + found, problems + faults
        if not any(case.part == TEST for case in cases):
            notes.append("the test images are not at hand")
        files = [source / f"tn3k-trainval-fold{number}.json" for number in range(NUM_FOLDS)]
        present = [file for file in files if file.is_file()]
        official = not options.own_folds and len(present) == NUM_FOLDS
        if not official and not options.own_folds:
            notes.append(f"{NUM_FOLDS - len(present)} of the {NUM_FOLDS} fold files are missing: the folds are drawn")
        return Contents(
            dataset_name="TN3K", channel_names=RGB, labels={"background": 0, "nodule": 1}, cases=cases,
            problems=problems, file_ending=".png", notes=notes, other_files=present,
            folds=[_validation_cases(file, _numbered(source / "trainval-image"))
                   for file in files] if official else None)

    def read(self, case: Case) -> Sample:
        image = read_rgb(case.files[0])
        return Sample([image], image.like(read_foreground(case.files[1]).astype("uint8")))


def _scan_part(source: Path, part: str, role: str) -> tuple[list[Case], list[Omission]]:
    images, masks = ({f"{part}_{path.stem}": path
                      for path in _numbered(source / f"{part}-{kind}")} for kind in ("image", "mask"))
    return [Case(name, name, (images[name], masks[name]), part=role) for name in images if name in masks], unpaired(
        images, masks)


def _numbered(folder: Path) -> list[Path]:
    """The pictures of a folder in the order of their numbers, to which the fold files refer."""
    return sorted((path for path in listed(folder, "*.jpg") if path.stem.isdigit()), key=lambda path: int(path.stem))


def _validation_cases(file: Path, images: list[Path]) -> list[str]:
    try:
        places = [int(place) for place in json.loads(file.read_text(encoding="utf-8"))["val"]]
        return [f"trainval_{images[place].stem}" for place in places]
    except (ValueError, KeyError, TypeError, IndexError) as failure:
        raise UserError(f"{file} does not describe a fold of TN3K.", found=f"{type(failure).__name__}: {failure}",
                        expected=f'{{"train": [...], "val": [...]}} with numbers from 0 to {len(images) - 1}',
                        fix="unpack the archive again, or give --own-folds") from failure


CONVERTER = TN3K()
