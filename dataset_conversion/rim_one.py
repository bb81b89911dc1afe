"""RIM-ONE DL and RIM-ONE r3: optic disc and cup in retinal photographs.

RIM-ONE DL (313 normal, 172 glaucoma), two archives side by side in one folder:

    RIM-ONE_DL_images/{partitioned_randomly,partitioned_by_hospital}/{training_set,test_set}/{glaucoma,normal}/r1_Im001.png
    RIM-ONE_DL_reference_segmentations/{glaucoma,normal}/r1_Im001-1-{Disc,Cup}-T.png 255 inside; .txt of the tool beside
    it

The two partitions hold the same images. Layout: the authors' page and their tools, which name the files and write 255
inside (https://github.com/miag-ull/rim-one-dl); the names of the folders as public users of the archives quote them.
That the distributed PNG have the polarity of the tools is not confirmed: a cup larger than its disc, which the opposite
would give, is refused.

RIM-ONE r3 (159 stereo photographs of 2144 x 1424: two views of 1072 x 1424 beside each other, one of them outlined):

    {Healthy,Glaucoma and suspects}/Stereo Images/N-1-L.jpg
    .../Average_masks/N-1-L-{Disc,Cup}-Avg.png, Expert1_masks/N-1-L[-1]-{Disc,Cup}-exp1.png, Expert2_masks/...exp2.png

The view with the masks is cut out. The label map is that of Average_masks, the authors' average of both experts;
without that folder it is the consensus of the experts. Layout: the readme of the release for the two groups, its users
for the rest (bob.ip.binseg, data/rimoner3); both ways to name an expert's file are in use. Neither release says which
photographs are of one
person: each number counts as a patient. r3 has no official split.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

import numpy as np

from medsegdiff_auto.dataset_conversion.core.colour import RGB, read_foreground, read_rgb
from medsegdiff_auto.dataset_conversion.core.disc_and_cup import LABELS, REGIONS_CLASS_ORDER, disc_and_cup, require_size
from medsegdiff_auto.dataset_conversion.core.labels import nested_consensus
from medsegdiff_auto.dataset_conversion.core.layout import require_files
from medsegdiff_auto.dataset_conversion.core.picture import Picture
from medsegdiff_auto.dataset_conversion.core.source import (TEST, TRAIN, About, Case, CaseProblem, Contents, Converter,
                                                            Omission, Sample)
from medsegdiff_auto.files.listing import listed

DL_IMAGES, DL_MASKS = "RIM-ONE_DL_images", "RIM-ONE_DL_reference_segmentations"
DL_PARTS = (("training_set", TRAIN), ("test_set", TEST))
R3_GROUPS = ("Healthy", "Glaucoma and suspects")
REFERENCE, AVERAGE = "reference", "Average"
R3_ENDINGS = {AVERAGE: ("{}-{}-Avg.png",), "Expert1": ("{}-1-{}-exp1.png", "{}-{}-exp1.png"),
              "Expert2": ("{}-1-{}-exp2.png", "{}-{}-exp2.png")}
KINDS = ("Disc", "Cup")


class RimOne(Converter):
    """DL: the folder with RIM-ONE_DL_images and RIM-ONE_DL_reference_segmentations; r3: the one with Healthy and
    Glaucoma and suspects.
    """

    about = About(
        title="RIM-ONE DL and r3", modality="colour fundus photography, 2-D",
        task="optic disc and cup as nested regions", licence="free for research and education; not to be redistributed",
        citation="DL: Fumero Batista et al., Image Analysis & Stereology 39(3):161-167 (2020), doi 10.5566/ias.2346; "
        "r3: Fumero et al., Interactive tool and database for optic disc and cup segmentation of stereo and monocular "
        "retinal fundus "
        "images (2015)", homepage="https://github.com/miag-ull/rim-one-dl")
    has_raters = True

    def add_options(self, parser: ArgumentParser) -> None:
        parser.add_argument("--partition", default="randomly", choices=("randomly", "by_hospital"),
                            help="DL: which official division into training and test images (default: %(default)s)")

    def scan(self, source: Path, options: Namespace) -> Contents:
        is_r3 = any((source / group).is_dir() for group in R3_GROUPS)
        cases, problems, notes = _scan_r3(source) if is_r3 else _scan_dl(source, f"partitioned_{options.partition}")
        return Contents(
            dataset_name="RIMONEr3" if is_r3 else "RIMONEDL", channel_names=RGB, labels=LABELS,
            regions_class_order=REGIONS_CLASS_ORDER, cases=cases, problems=problems, file_ending=".png",
            version="r3" if is_r3 else "DL",
            notes=["the source does not say which photographs are of one person: each counts as a patient", *notes])

    def read(self, case: Case) -> Sample:
        image = read_rgb(case.files[0])
        labels = {owner: disc_and_cup(*(read_foreground(file) for file in files))
                  for owner, files in case.detail.items()}
        if REFERENCE in labels:
            return Sample([image], image.like(labels[REFERENCE]))
        require_size(labels, image.voxels.shape[:2])
        view = _outlined_view(labels)
        image, labels = Picture(image.voxels[:, view]), {owner: label[:, view] for owner, label in labels.items()}
        raters = {owner: image.like(label) for owner, label in labels.items() if owner != AVERAGE}
        reference = labels[AVERAGE] if AVERAGE in labels else nested_consensus(list(labels.values()))
        return Sample([image], image.like(reference), raters)


def _scan_dl(source: Path, partition: str) -> tuple[list[Case], list[Omission], list[str]]:
    require_files(
        source, {
            f"{DL_IMAGES}/{partition}/training_set/*/*.png": "photographs",
            f"{DL_MASKS}/*/*-Disc-T.png": "masks of the disc", f"{DL_MASKS}/*/*-Cup-T.png": "masks of the cup"
        }, "RIM-ONE DL")
    masks = {kind: {path.name.rsplit("-", 3)[0]: path for path in listed(source / DL_MASKS, f"*/*-{kind}-T.png")}
             for kind in KINDS}
    cases, problems, used = [], [], set()
    for folder, part in DL_PARTS:
        for image in listed(source / DL_IMAGES / partition / folder, "*/*.png"):
            used.add(image.stem)
            missing = [kind for kind in KINDS if image.stem not in masks[kind]]
            if missing:
                problems.append(
                    Omission(image.stem, f"image without a mask: {image.stem}-1-{missing[0]}-T.png is missing"))
            else:
                files = tuple(masks[kind][image.stem] for kind in KINDS)
                cases.append(Case(image.stem, image.stem, (image, *files), {REFERENCE: files}, part))
    problems += [Omission(name, f"mask without an image: {masks[kind][name].name}")
                 for kind in KINDS for name in sorted(set(masks[kind]) - used)]
    return cases, problems, ["RIM-ONE DL has one reference per image: --raters writes nothing"]


def _scan_r3(source: Path) -> tuple[list[Case], list[Omission], list[str]]:
    kinds_of_files = (("Stereo Images/*.jpg", "photographs"), ("*_masks/*.png", "masks"))
    require_files(source, {f"{group}/{pattern}": meaning
                           for group in R3_GROUPS
                           for pattern, meaning in kinds_of_files}, "RIM-ONE r3")
    cases, problems = [], []
    for group in R3_GROUPS:
        owners = [owner for owner in R3_ENDINGS if (source / group / f"{owner}_masks").is_dir()]
        images = {path.stem: path for path in listed(source / group / "Stereo Images", "*.jpg")}
        for name, image in images.items():
            files = {owner: tuple(_mask_of(source / group, owner, name, kind) for kind in KINDS) for owner in owners}
            missing = [f"{owner}_masks/{R3_ENDINGS[owner][0].format(name, kind)}" for owner in owners or R3_ENDINGS
                       for kind, file in zip(KINDS, files.get(owner, (None, None))) if file is None]
            if missing:
                problems.append(Omission(name, f"image without a mask: {missing[0]} is missing"))
            else:
                in_order = (image, *(file for pair in files.values() for file in pair))
                cases.append(Case(name, name.rsplit("-", 1)[0], in_order, files))
        outlined = {"-".join(path.name.split("-")[:3]): path for path in listed(source / group, "*_masks/*.png")}
        problems += [
            Omission(name, f"mask without an image: {outlined[name].name}")
            for name in sorted(set(outlined) - set(images))
        ]
    return cases, problems, []


def _mask_of(group: Path, owner: str, name: str, kind: str) -> Path | None:
    files = [group / f"{owner}_masks" / ending.format(name, kind) for ending in R3_ENDINGS[owner]]
    return next((file for file in files if file.is_file()), None)


def _outlined_view(labels: dict[str, np.ndarray]) -> slice:
    """The columns of the view of a stereo photograph in which all masks lie.

    Raises:
        CaseProblem: they lie in both views, or are empty.
    """
    columns = np.any([label.any(axis=0) for label in labels.values()], axis=0)
    half = len(columns) // 2
    if columns[:half].any() == columns[half:].any():
        raise CaseProblem(
            "its masks lie in both views of the stereo photograph" if columns.any() else "its masks are empty")
    return slice(0, half) if columns[:half].any() else slice(half, 2 * half)


CONVERTER = RimOne()
