"""ACDC: both ventricles and the myocardium in cine MRI of the heart.

    database/
      training/patient001/              100 patients
        Info.cfg                        ED: 1, ES: 12, Group, Height, NbFrame, Weight
        patient001_4d.nii.gz            the whole cycle
        patient001_frame01.nii.gz       patient001_frame01_gt.nii.gz      end of diastole
        patient001_frame12.nii.gz       patient001_frame12_gt.nii.gz      end of systole
      testing/patient101/...            50 patients

A label map holds 1 cavity of the right ventricle, 2 myocardium, 3 cavity of the left ventricle.

Codes: https://www.creatis.insa-lyon.fr/Challenge/acdc/evaluation.html. Folders and ``Info.cfg``: the data page of
CineMA (github.com/mathpluscode/CineMA, cinema/data/acdc). openmedlab's Awesome-Medical-Dataset shows the same tree
without ``Info.cfg``: then the frames are those that have files. Copies from before the test references were published
have no ``_gt`` in testing.
"""

from __future__ import annotations

import re
from argparse import Namespace
from pathlib import Path

from medsegdiff_auto.dataset_conversion.core.layout import require_files, unpaired
from medsegdiff_auto.dataset_conversion.core.source import (TEST, TRAIN, About, Case, Contents, Converter, Omission,
                                                            Sample)
from medsegdiff_auto.dataset_conversion.core.volume import read_volume
from medsegdiff_auto.files.listing import listed

PARTS = (("training", TRAIN), ("testing", TEST))
PHASE = re.compile(r"^(ED|ES)\s*:\s*(\d+)\s*$", re.MULTILINE)
MASK = "_gt"


class ACDC(Converter):
    """The folder with training/ and testing/; the two frames of a patient stay on one side of a fold."""

    about = About(
        title="ACDC", modality="cine MRI, 3-D",
        task="right ventricle, myocardium and left ventricle at the end of diastole and systole",
        licence="CC BY-NC-SA 4.0 as redistributors state it; the page of the challenge asks for the citation",
        citation="Bernard et al., Deep Learning Techniques for Automatic MRI Cardiac Multi-structures Segmentation and "
        "Diagnosis, "
        "IEEE TMI 37(11):2514 (2018)", homepage="https://www.creatis.insa-lyon.fr/Challenge/acdc/databases.html")

    def scan(self, source: Path, options: Namespace) -> Contents:
        require_files(source, {"training/patient*/patient*_frame*_gt.nii.gz": "label maps of two frames of a patient",
                               "training/patient*/patient*_frame*[0-9].nii.gz": "these frames"}, "ACDC")
        cases, problems, notes = [], [], []
        for folder, part in PARTS:
            patients = [entry for entry in listed(source / folder, "patient*") if entry.is_dir()]
            with_masks = part == TRAIN or any((source / folder).glob(f"patient*/*{MASK}.nii.gz"))
            if patients and not with_masks:
                notes.append(f"the references of {folder}/ are not at hand")
            for patient in patients:
                of_patient, its_problems = _scan_patient(patient, part, with_masks)
                cases, problems = cases + of_patient, problems + its_problems
        return Contents(dataset_name="ACDC", channel_names=["cine MRI"],
                        labels={"background": 0, "right ventricle": 1, "myocardium": 2,
                                "left ventricle": 3}, cases=cases, problems=problems, notes=notes, other_files=sorted(
                                    source.glob("t*ing/patient*/Info.cfg")))

    def read(self, case: Case) -> Sample:
        image = read_volume(case.files[0])
        return Sample([image], read_volume(case.files[1]) if len(case.files) == 2 else None)


def _scan_patient(folder: Path, part: str, with_masks: bool) -> tuple[list[Case], list[Omission]]:
    files = {path.name.removesuffix(".nii.gz"): path for path in listed(folder, f"{folder.name}_frame*.nii.gz")}
    images = {name: path for name, path in files.items() if not name.endswith(MASK)}
    masks = {name.removesuffix(MASK): path for name, path in files.items() if name.endswith(MASK)}
    problems = _missing_phases(folder, {*images, *masks}) + (unpaired(images, masks) if with_masks else [])
    paired = [name for name in images if name in masks or not with_masks]
    files_of = {name: (images[name], masks[name]) if with_masks else (images[name],) for name in paired}
    return [Case(name, folder.name, files, part=part) for name, files in files_of.items()], problems


def _missing_phases(folder: Path, frames: set[str]) -> list[Omission]:
    """A problem for each frame that Info.cfg names and that has no file; none where there is no Info.cfg."""
    info = folder / "Info.cfg"
    if not info.is_file():
        return [] if frames else [Omission(folder.name, "no frame of it has a file")]
    phases = dict(PHASE.findall(info.read_text(encoding="utf-8", errors="replace")))
    unnamed = sorted({"ED", "ES"} - set(phases))
    if unnamed:
        return [Omission(folder.name, f"Info.cfg does not name its frame {' and '.join(unnamed)}")]
    names = {phase: f"{folder.name}_frame{int(number):02d}" for phase, number in phases.items()}
    return [Omission(name, f"Info.cfg names it as {phase}, but {name}.nii.gz is missing")
            for phase, name in sorted(names.items()) if name not in frames]


CONVERTER = ACDC()
