"""REFUGE and REFUGE2: optic disc and cup in colour fundus photographs.

The challenge's distribution, 1,200 photographs with a reference (BMP: 255 background, 128 disc, 0 cup), and 400 of the
second edition:

    Training400/{Glaucoma,Non-Glaucoma}/g0001.jpg
    Annotation-Training400/Disc_Cup_Masks/{Glaucoma,Non-Glaucoma}/g0001.bmp
    REFUGE-Validation400/V0001.jpg        REFUGE-Validation400-GT/Disc_Cup_Masks/V0001.bmp
    Test400/T0001.jpg                     REFUGE-Test-GT/Disc_Cup_Masks/{G,N}/T0001.bmp
    Refuge2-Validation/V0001.jpg          no reference that the public can get is known

REFUGE2's own archive holds the same as REFUGE1-Train-400/{Images,Annotation-Training400},
REFUGE1-Val-400/{REFUGE-Validation400, REFUGE-Validation400-GT} and REFUGE1-Test-400/{Images,Annotation}. A folder
inside a folder of its own name is looked into as well. Codes, file types and the seven raters behind the reference:
https://refuge.grand-challenge.org/Details. Names of the
folders: loaders of public users, which agree for the first form; for REFUGE2's archive there is one witness only.

The distribution with the raters kept apart (realslimman/REFUGE-MultiRater, the one that MedSegDiff's authors point to):

    {Training,Validation,Test}-400/0001/0001.jpg, 0001_seg_{disc,cup}_{1..7}.png

Layout: its users' loaders; Validation-400 is inferred. White is inside. A 0001_cropped.jpg beside it has another size
and is not read; a user reports masks of the size of 0001.jpg, others are refused. Patients are not named in any of the
distributions.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from medsegdiff_auto.dataset_conversion.core.colour import RGB, read_foreground, read_grey, read_rgb
from medsegdiff_auto.dataset_conversion.core.disc_and_cup import LABELS, REGIONS_CLASS_ORDER, disc_and_cup, require_size
from medsegdiff_auto.dataset_conversion.core.labels import nested_consensus, relabel
from medsegdiff_auto.dataset_conversion.core.layout import require_files, unpaired
from medsegdiff_auto.dataset_conversion.core.source import (TEST, TRAIN, About, Case, Contents, Converter, Omission,
                                                            Sample)
from medsegdiff_auto.files.listing import listed

BMP_VALUES = {255: 0, 128: 1, 0: 2}
NUM_RATERS = 7
TRAINING, VALIDATION, TEST400, VALIDATION2 = "Training400", "REFUGE-Validation400", "Test400", "Refuge2-Validation"
FOLDERS = {  # part: where its photographs and its references may lie
    TRAINING: (("Training400", "REFUGE-Training400", "REFUGE1-Train-400/Images"),
               ("Annotation-Training400", "REFUGE1-Train-400/Annotation-Training400")),
    VALIDATION: (("REFUGE-Validation400", "REFUGE1-Val-400/REFUGE-Validation400"),
                 ("REFUGE-Validation400-GT", "REFUGE1-Val-400/REFUGE-Validation400-GT")),
    TEST400: (("Test400", "REFUGE-Test400", "REFUGE1-Test-400/Images"),
              ("REFUGE-Test-GT", "REFUGE1-Test-400/Annotation")),
    VALIDATION2: (("Refuge2-Validation",), ("Refuge2-Validation-GT",)),
}
RATER_PARTS = ("Training-400", "Validation-400", "Test-400")


class REFUGE2(Converter):
    """The folder with Training400 and Annotation-Training400, REFUGE2-Training, or REFUGE-Multirater."""

    about = About(
        title="REFUGE2", modality="colour fundus photography, 2-D", task="optic disc and cup as nested regions",
        licence="registration with the challenge; terms at the homepage (no licence text confirmed)",
        citation="Orlando et al., REFUGE challenge, Medical Image Analysis 59:101570 (2020), arXiv 1910.03667; "
        "Fang et al., REFUGE2 challenge, arXiv 2202.08994",
        homepage="https://refuge.grand-challenge.org/")
    has_raters = True

    def add_options(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--edition", type=int, choices=(1, 2),
            help="what Test400 is: test images, as in the first edition, or training images, as in the second "
            "(default: 2, and 1 where the raters are kept apart)")
        parser.add_argument(
            "--official-validation", action="store_true",
            help="one fold that validates on the 400 validation images of the first edition, instead of five drawn ones"
        )

    def scan(self, source: Path, options: Namespace) -> Contents:
        with_raters = any((source / part).is_dir() for part in RATER_PARTS)
        edition = options.edition or (1 if with_raters else 2)
        cases, problems, notes = _scan_raters(source, edition) if with_raters else _scan_references(source, edition)
        validation = [case.name for case in cases if case.name.startswith(("REFUGE-Validation400_", "Validation-400_"))]
        return Contents(
            dataset_name="REFUGE2", channel_names=RGB, labels=LABELS, regions_class_order=REGIONS_CLASS_ORDER,
            cases=cases, problems=problems, file_ending=".png", version=f"edition {edition}",
            notes=["the source does not say which photographs are of one person: each counts as a patient",
                   *notes], folds=[validation] if options.official_validation and validation else None)

    def read(self, case: Case) -> Sample:
        image = read_rgb(case.files[0])
        if case.detail is not None:
            labels = {f"rater_{number}": disc_and_cup(*(read_foreground(file) for file in files))
                      for number, files in case.detail.items()}
            require_size(labels, image.voxels.shape[:2])
            return Sample([image], image.like(nested_consensus(list(labels.values()))),
                          {rater: image.like(label) for rater, label in labels.items()})
        if len(case.files) == 1:
            return Sample([image], None)
        return Sample([image], image.like(relabel(read_grey(case.files[1]), BMP_VALUES, case.files[1].name)))


def _scan_references(source: Path, edition: int) -> tuple[list[Case], list[Omission], list[str]]:
    folders = {part: [next((name for name in names if (source / name).is_dir()), names[0]) for names in alternatives]
               for part, alternatives in FOLDERS.items()}
    photographs, references = folders[TRAINING]
    require_files(source, {f"{photographs}/**/*.jpg": "photographs",
                           f"{references}/**/Disc_Cup_Masks/**/*.bmp": "references of disc and cup"}, "REFUGE2")
    cases, problems, notes = [], [], ["the seven raters are merged in this distribution: --raters writes nothing"]
    for part, (photographs, references) in folders.items():
        role = TEST if part == VALIDATION2 or (part == TEST400 and edition == 1) else TRAIN
        images = {f"{part}_{path.stem}": path for path in listed(source / photographs, "**/*.jpg")}
        masks = {
            f"{part}_{path.stem}": path
            for path in listed(source / references, "**/Disc_Cup_Masks/**/*.bmp")
        }
        if not images and not masks:
            notes.append(f"{part} is not at hand")
        elif not masks and role == TEST:
            cases += [Case(name, name, (image,), part=TEST) for name, image in images.items()]
        elif not masks:
            problems.append(
                Omission(part, f"{len(images)} images without a mask: {references}/Disc_Cup_Masks is missing"))
        else:
            cases += [Case(name, name, (images[name], masks[name]), part=role) for name in images if name in masks]
            problems += unpaired(images, masks)
    return cases, problems, notes


def _scan_raters(source: Path, edition: int) -> tuple[list[Case], list[Omission], list[str]]:
    require_files(
        source, {
            "Training-400/*/*.jpg": "photographs", "Training-400/*/*_seg_disc_1.png": "discs, one file per rater",
            "Training-400/*/*_seg_cup_1.png": "cups"
        }, "REFUGE2 with its raters kept apart")
    cases, problems = [], []
    for part in RATER_PARTS:
        for folder in (path for path in listed(source / part, "*") if path.is_dir()):
            name, image = f"{part}_{folder.name}", folder / f"{folder.name}.jpg"
            drawn = {number: tuple(folder / f"{folder.name}_seg_{kind}_{number}.png" for kind in ("disc", "cup"))
                     for number in range(1, NUM_RATERS + 1)}
            missing = [file.name for files in drawn.values() for file in files if not file.is_file()]
            if not image.is_file():
                problems.append(
                    Omission(name, f"mask without an image: {image.name} is missing in {part}/{folder.name}"))
            elif missing:
                problems.append(Omission(name, f"image without a mask: {missing[0]} is missing"))
            else:
                files = (image, *(file for pair in drawn.values() for file in pair))
                cases.append(Case(name, name, files, drawn, TEST if part == "Test-400" and edition == 1 else TRAIN))
    return cases, problems, []


CONVERTER = REFUGE2()
