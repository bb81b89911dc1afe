"""Medical Segmentation Decathlon, any of its ten tasks.

    TaskXX_Name/
      dataset.json                 modality, labels, and the lists training [{image, label}] and test [image]
      imagesTr/ imagesTs/          NAME.nii.gz, with the sequences along a fourth axis where there are several
      labelsTr/                    NAME.nii.gz

Layout: the ``dataset.json`` of the tasks themselves, described in Simpson et al., arXiv 1902.09063, and Antonelli et
al. 2022. The archives also hold ``._`` files of macOS, which no list names.
"""

from __future__ import annotations

import json
import re
from argparse import Namespace
from pathlib import Path

from medsegdiff_auto.dataset_conversion.core.labels import relabel
from medsegdiff_auto.dataset_conversion.core.layout import require_files
from medsegdiff_auto.dataset_conversion.core.source import TEST, About, Case, Contents, Converter, Omission, Sample
from medsegdiff_auto.dataset_conversion.core.volume import read_volume
from medsegdiff_auto.errors import UserError


class MSD(Converter):
    """One task, the folder TaskXX_Name; the sequences of a four-dimensional image become channels."""

    about = About(
        title="Medical Segmentation Decathlon", modality="MRI or CT, 3-D",
        task="ten tasks: brain tumour, heart, liver, "
        "hippocampus, prostate, lung, pancreas, hepatic vessel, spleen, colon", licence="CC BY-SA 4.0",
        citation="Antonelli et al., The Medical Segmentation Decathlon, Nature Communications 13:4128 (2022)",
        homepage="http://medicaldecathlon.com")

    def scan(self, source: Path, options: Namespace) -> Contents:
        require_files(source, {"dataset.json": "modality, labels and cases of the task", "imagesTr/*.nii.gz": "images",
                               "labelsTr/*.nii.gz": "label maps"}, "a task of the Decathlon")
        task = _read_task(source / "dataset.json")
        values = sorted(map(int, task["labels"]))
        renumbered = {value: index for index, value in enumerate(values)}
        cases, problems = [], []
        for entry in task["training"]:
            image, label = source / entry["image"], source / entry["label"]
            missing = [file for file in (image, label) if not file.is_file()]
            if missing:
                problems.append(
                    Omission(_stem(image), f"{missing[0].relative_to(source)} is listed in dataset.json, but missing"))
            else:
                cases.append(Case(_stem(image), _stem(image), (image, label), renumbered))
        tests = [source / (entry["image"] if isinstance(entry, dict) else entry) for entry in task.get("test", [])]
        present = [image for image in tests if image.is_file()]
        if present:
            problems += [Omission(_stem(image), f"{image.relative_to(source)} is listed in dataset.json, but missing")
                         for image in tests if not image.is_file()]
        cases += [Case(_stem(image), _stem(image), (image,), part=TEST) for image in present]
        return Contents(dataset_name=re.sub(r"[^A-Za-z0-9_-]", "", task.get("name", source.name)) or "MSD",
                        channel_names=[task["modality"][key] for key in sorted(task["modality"], key=int)],
                        labels={_label_name(task["labels"][str(value)], value): renumbered[value]
                                for value in values}, cases=cases, problems=problems, version=str(
                                    task.get("release", "not stated")), other_files=[source / "dataset.json"],
                        notes=[] if present or not tests else [f"the {len(tests)} test images are not at hand"])

    def read(self, case: Case) -> Sample:
        channels = read_volume(case.files[0]).frames()
        if case.part == TEST:
            return Sample(channels, None)
        label = read_volume(case.files[1])
        if all(old == new for old, new in case.detail.items()):
            return Sample(channels, label)
        return Sample(channels, label.like(relabel(label.voxels, case.detail, case.files[1].name)))


def _read_task(path: Path) -> dict:
    try:
        task = json.loads(path.read_text(encoding="utf-8"))
        missing = [key for key in ("modality", "labels", "training") if not task.get(key)]
        found = f"no {missing[0]}" if missing else ""
    except (ValueError, AttributeError) as failure:
        found = f"{type(failure).__name__}: {failure}"
    if found:
        raise UserError(
            f"{path} does not describe a task of the Decathlon.", found=found,
            expected='{"modality": {"0": ...}, "labels": {"0": "background", ...}, "training": [{"image": '
            '..., "label": ...}]}',
            fix="give the folder as it was unpacked; a dataset that is in nnU-Net's format already needs no conversion")
    return task


def _label_name(name: str, value: int) -> str:
    return "background" if value == 0 else name


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".nii")


CONVERTER = MSD()
