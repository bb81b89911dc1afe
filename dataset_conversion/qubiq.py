"""QUBIQ 2020 and 2021: six sets of images in which several experts marked the same structure.

The three archives, side by side or one alone (their version is part of the name: v2, v3_QC, ...):

    training_data_v3_QC/SET/Training/case01/
      image.nii.gz
      task01_seg01.nii.gz  task01_seg02.nii.gz ...      structure 1 by expert 1, by expert 2, ...
      task02_seg01.nii.gz ...                           structure 2, where the set has several
    validation_data_qubiq2021_QC/SET/Validation/...     with the experts' masks
    QUBIQ21_test/SET/Testing/...                        images only

    set                 structures  experts  image
    brain-growth        1           7        MR, one slice
    brain-tumor         3           3        MR, one slice of four sequences along the third axis
    kidney              1           3        CT, one slice
    prostate            2           6        MR, one slice
    pancreas            1           2        CT, volume; since 2021; SET/case1-1 without Training/ or Validation/
    pancreatic-lesion   1           2        CT, volume; likewise

Some masks are named ``case1-1_seg01.nii.gz``. A mask is 0 or 1. Sets, structures and experts of 2020:
https://qubiq.grand-challenge.org/participation/, the paper is arXiv 2405.18435. Folders and names: the page of
QUBIQ2021 in openmedlab's Awesome-Medical-Dataset for the volumes; for the slices no page was found, several public
loaders of the archives agree. The two experts of the volumes and the folder Testing rest on such loaders alone. Not
confirmed: which structure task01, task02 and task03 are, the order of the four sequences, and whether the parts before
and after the hyphen of case1-1 are person and scan; they are kept in one fold in case.
"""

from __future__ import annotations

import re
from argparse import ArgumentParser, Namespace
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medsegdiff_auto.dataset_conversion.core.labels import consensus, relabel
from medsegdiff_auto.dataset_conversion.core.layout import shown_entries
from medsegdiff_auto.dataset_conversion.core.source import (TEST, TRAIN, About, Case, CaseProblem, Contents, Converter,
                                                            Omission, Sample)
from medsegdiff_auto.dataset_conversion.core.volume import Volume, read_volume
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.files.listing import listed, visible


@dataclass(frozen=True)
class ImageSet:
    """What is known of a set: channel names, its number of structures and of experts, and whether its images are
    volumes.
    """

    channels: tuple[str, ...]
    num_tasks: int
    num_raters: int
    holds_volumes: bool = False


SETS = {"brain-growth": ImageSet(("MR",), 1, 7), "brain-tumor": ImageSet(("MR 1", "MR 2", "MR 3", "MR 4"), 3, 3),
        "kidney": ImageSet(("CT",), 1, 3), "prostate": ImageSet(("MR",), 2, 6),
        "pancreas": ImageSet(("CT",), 1, 2, True), "pancreatic-lesion": ImageSet(("CT",), 1, 2, True)}
PARTS = (("Training", "training_data*", TRAIN), ("Validation", "validation_data*", TEST), ("Testing", "QUBIQ*test*",
                                                                                           TEST))
SEGMENTATION = re.compile(r"(?:task(\d+)|case[\d-]+)_seg(\d+)\.nii(?:\.gz)?")
MASK_VALUES = {0: 0, 1: 1}


class QUBIQ(Converter):
    """The folder with the sets, or the one above with training_data...

    and validation_data...; validation becomes the test set.
    """

    about = About(
        title="QUBIQ 2020 and 2021", modality="MR or CT, 2-D slices and 3-D volumes",
        task="one structure, marked by two to seven experts",
        licence="not stated on the pages that were read; MMSegmentation's page of QUBIQ2020 says CC BY-NC 4.0",
        citation="Li et al., QUBIQ: Uncertainty Quantification for Biomedical Image Segmentation Challenge, arXiv "
                 "2405.18435 (2024)",
        homepage="https://qubiq21.grand-challenge.org/participation/")
    has_raters = True

    def add_options(self, parser: ArgumentParser) -> None:
        parser.add_argument("--set", choices=SETS, required=True, help="the set of images")
        parser.add_argument(
            "--task", type=int, default=1, metavar="N",
            help="the structure, 1 for task01; prostate has two, brain-tumor three (default: %(default)s)")

    def scan(self, source: Path, options: Namespace) -> Contents:
        images = SETS[options.set]
        _require_task(options.set, options.task, images.num_tasks)
        found = [_case(folder, part, role, images, options.task) for part, archive, role in PARTS
                 for folder in _case_folders(source, options.set, part, archive)]
        cases, problems = ([entry for entry in found if isinstance(entry, kind)] for kind in (Case, Omission))
        if not cases and not problems:
            raise UserError(
                f"{source} holds no case of {options.set}.", found=shown_entries(source),
                expected=f"{options.set}/Training/case*/image.nii.gz, in {source.name} or in training_data*",
                fix="give -i the folder in which the sets lie, or another --set")
        notes = [f"{case.name} has the masks of {len(case.files) - 1} of {images.num_raters} experts"
                 for case in cases if 1 < len(case.files) <= images.num_raters]
        if len(images.channels) > 1:
            notes.append("the source does not name its sequences: they are numbered as they are stored")
        return Contents(
            dataset_name=f"QUBIQ-{options.set}" + (f"-task{options.task:02d}" if images.num_tasks > 1 else ""),
            channel_names=list(images.channels),
            labels={"background": 0, f"{options.set} task{options.task:02d}": 1},
            # a slice has no thickness
            cases=cases,
            problems=problems,
            notes=notes,
            spacing_is_known=images.holds_volumes)

    def read(self, case: Case) -> Sample:
        names, num_channels = case.detail
        image = read_volume(case.files[0])
        channels = [image] if num_channels == 1 else _sequences(image, num_channels)
        masks = {name: _mask(file, channels[0]) for name, file in zip(names, case.files[1:])}
        if not masks:
            return Sample(channels, None)
        sizes = {name: " x ".join(map(str, mask.voxels.shape)) for name, mask in masks.items()}
        if len(set(sizes.values())) > 1:
            raise CaseProblem("the experts' masks differ in size: " + ", ".join(f"{name} {size}"
                                                                                for name, size in sizes.items()))
        first = next(iter(masks.values()))
        return Sample(channels, first.like(consensus([mask.voxels for mask in masks.values()])), masks)


def _require_task(image_set: str, task: int, num_tasks: int) -> None:
    if not 1 <= task <= num_tasks:
        raise UserError(f"{image_set} has no task {task}.", found=f"--task {task}", expected=f"1 to {num_tasks}",
                        fix="give another --task")


def _case_folders(source: Path, image_set: str, part: str, archive: str) -> list[Path]:
    """The folders of the cases of one part, in the archives that lie in ``source`` or in ``source`` itself."""
    folders = [source / image_set / part, *(path for root in listed(source, archive)
                                            for path in (root / image_set / part, root / image_set))]
    if part == "Training":
        folders.append(source / image_set)
    return [case for folder in folders for case in listed(folder, "case*") if case.is_dir()]


def _case(folder: Path, part: str, role: str, images: ImageSet, task: int) -> Case | Omission:
    """One case; those of validation and test get the part into their names, since nothing says that numbers are not
    used twice.
    """
    name = folder.name if role == TRAIN else f"{part.lower()}_{folder.name}"
    image, masks = _files(folder, task)
    if image is None:
        return Omission(name, "image.nii.gz is missing")
    if not masks and part != "Testing":
        return Omission(name, f"image without a mask: no task{task:02d}_seg*.nii.gz")
    patient = f"{part}_{folder.name.split('-')[0]}"
    return Case(name, patient, (image, *masks.values()), (tuple(masks), len(images.channels)), role)


def _files(folder: Path, task: int) -> tuple[Path | None, dict[str, Path]]:
    """The image of a case, and the masks of a structure by the name of the rater, rater_1 and so on."""
    image = next((folder / name for name in ("image.nii.gz", "image.nii") if (folder / name).is_file()), None)
    found = ((SEGMENTATION.fullmatch(path.name), path) for path in visible(folder))
    return image, {f"rater_{int(name[2])}": path for name, path in found if name and int(name[1] or 1) == task}


def _sequences(image: Volume, num_channels: int) -> list[Volume]:
    if image.voxels.ndim != 3 or image.voxels.shape[2] != num_channels:
        size = " x ".join(map(str, image.voxels.shape))
        raise CaseProblem(f"the image has the size {size}, expected {num_channels} along the third axis")
    return [image.like(image.voxels[..., number]) for number in range(num_channels)]


def _mask(path: Path, image: Volume) -> Volume:
    """An expert's mask; that of a slice lies where the image lies, whether it is stored with two axes or with three."""
    mask = read_volume(path)
    marked = relabel(mask.voxels, MASK_VALUES, path.name)
    if image.voxels.squeeze().ndim == 2 and marked.squeeze().shape == image.voxels.squeeze().shape:
        return image.like(marked.reshape(image.voxels.shape))
    return mask if mask.voxels.dtype == np.uint8 else mask.like(marked)


CONVERTER = QUBIQ()
