"""DRISHTI-GS1: optic disc and cup in colour fundus photographs.

As the authors distribute it (50 training and 51 test photographs):

    Drishti-GS1_files/
      Training/Images/[GLAUCOMA|NORMAL/]drishtiGS_002.png
      Training/GT/drishtiGS_002/SoftMap/drishtiGS_002_{ODsegSoftmap,cupsegSoftmap}.png
      Test/Images/[glaucoma|normal/]...  Test/Test_GT/...

A soft map's grey value is the share of the four experts who marked the pixel. Layout: the page of the dataset in
openmedlab's Awesome-Medical-Dataset, and the authors' page. A smaller distribution holds ``images/NAME.png`` and
``labels/NAME.png`` with 1 rim, 2 cup.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

import numpy as np

from medsegdiff_auto.dataset_conversion.core.labels import nested, relabel
from medsegdiff_auto.dataset_conversion.core.layout import require_files, unpaired
from medsegdiff_auto.dataset_conversion.core.picture import read_picture
from medsegdiff_auto.dataset_conversion.core.source import (TEST, TRAIN, About, Case, CaseProblem, Contents, Converter,
                                                            Omission, Sample)
from medsegdiff_auto.files.listing import listed

NUM_EXPERTS = 4
LABEL_MAP_VALUES = {0: 0, 1: 1, 2: 2}
PARTS = (("Training", "GT", TRAIN), ("Test", "Test_GT", TEST))
SOFT_MAPS = ("ODsegSoftmap", "cupsegSoftmap")  # outermost first


class DrishtiGS(Converter):
    """The folder Drishti-GS1_files, or one with images/ and labels/."""

    about = About(
        title="DRISHTI-GS1", modality="colour fundus photography, 2-D", task="optic disc and cup as nested regions",
        licence="free for research, no licence text; not to be redistributed",
        citation="Sivaswamy et al., Drishti-GS: retinal image dataset for optic nerve head segmentation, ISBI 2014",
        homepage="https://cvit.iiit.ac.in/projects/mip/drishti-gs/mip-dataset2/Home.php")

    def add_options(self, parser: ArgumentParser) -> None:
        parser.add_argument("--experts", type=int, default=2, choices=range(1, NUM_EXPERTS + 1),
                            help="so many of the four experts make a pixel disc or cup (default: %(default)s)")

    def scan(self, source: Path, options: Namespace) -> Contents:
        if (source / "labels").is_dir():
            cases, problems = _scan_label_maps(source)
        else:
            cases, problems = _scan_soft_maps(source, options.experts)
        return Contents(dataset_name="DrishtiGS", channel_names=["R", "G", "B"], labels={
            "background": 0, "disc": [1, 2], "cup": [2]
        }, regions_class_order=[1, 2], cases=cases, problems=problems, file_ending=".png", version="1",
                        notes=["the source does not say which photographs are of one person: each counts as a patient"])

    def read(self, case: Case) -> Sample:
        image = read_picture(case.files[0])
        if case.detail is None:
            label = read_picture(case.files[1])
            values = relabel(label.voxels, LABEL_MAP_VALUES, case.files[1].name)
            return Sample([image], label if np.array_equal(values, label.voxels) else image.like(values))
        disc, cup = (_marked(file, case.detail) for file in case.files[1:])
        if disc.shape != cup.shape:
            raise CaseProblem(f"the soft maps of disc and cup differ in size: {disc.shape} and {cup.shape}")
        return Sample([image], image.like(nested([disc | cup, cup])))


def _scan_label_maps(source: Path) -> tuple[list[Case], list[Omission]]:
    require_files(source, {"images/*.png": "photographs", "labels/*.png": "label maps, 1 rim, 2 cup"}, "DRISHTI-GS1")
    images, labels = ({path.stem: path
                       for path in listed(source / folder, "*.png")} for folder in ("images", "labels"))
    return ([Case(name, name, (images[name], labels[name])) for name in images if name in labels],
            unpaired(images, labels))


def _scan_soft_maps(source: Path, num_experts: int) -> tuple[list[Case], list[Omission]]:
    require_files(source, {"Training/Images/**/*.png": "photographs",
                           "Training/GT/*/SoftMap/*_ODsegSoftmap.png": "soft maps of the disc",
                           "Training/GT/*/SoftMap/*_cupsegSoftmap.png": "soft maps of the cup"}, "DRISHTI-GS1")
    cases, problems = [], []
    for folder, truth, part in PARTS:
        for image in listed(source / folder / "Images", "**/*.png"):
            maps = [source / folder / truth / image.stem / "SoftMap" / f"{image.stem}_{kind}.png" for kind in SOFT_MAPS]
            missing = [path.name for path in maps if not path.is_file()]
            if missing:
                problems.append(Omission(image.stem, f"image without a mask: {', '.join(missing)} is missing"))
            else:
                cases.append(Case(image.stem, image.stem, (image, *maps), num_experts, part))
    return cases, problems


def _marked(path: Path, num_experts: int) -> np.ndarray:
    """Where at least so many experts marked a pixel, bool."""
    grey = read_picture(path).voxels
    grey = grey if grey.ndim == 2 else grey[..., 0]
    return np.rint(grey / np.float32(np.iinfo(grey.dtype).max) * NUM_EXPERTS) >= num_experts


CONVERTER = DrishtiGS()
