"""The files of one case in nnU-Net's folders, and the record that says that they are complete."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np

from medsegdiff_auto.dataset_conversion.core.checks import checked, require_contrast
from medsegdiff_auto.dataset_conversion.core.registry import load_converter
from medsegdiff_auto.dataset_conversion.core.source import TRAIN, Case, CaseProblem, Omission
from medsegdiff_auto.writing import write_json

RECORDS = ".records"


@dataclasses.dataclass(frozen=True)
class Target:
    """Where and how cases are written: ``values`` are the labels that may occur."""

    folder: Path
    file_ending: str
    values: tuple[int, ...]
    num_channels: int
    with_raters: bool


@dataclasses.dataclass(frozen=True)
class CaseRecord:
    """What is known of a written case: voxels by label value, and the volume of a voxel where the spacing is known."""

    name: str
    patient: str
    part: str
    label_voxels: dict[str, int]
    voxel_volume_mm3: float | None
    num_raters: int
    notes: list[str]


def convert_case(converter_name: str, case: Case, target: Target) -> CaseRecord | Omission:
    """Reads, checks and writes one case; its record is written last.

    Raises:
        OSError: the files cannot be written.
    """
    try:
        sample = checked(load_converter(converter_name).read(case), target.values, target.num_channels)
        if case.part == TRAIN:
            require_contrast(sample)
    except CaseProblem as problem:
        return Omission(case.name, str(problem))
    part = "Tr" if case.part == TRAIN else "Ts"
    for number, channel in enumerate(sample.channels):
        channel.save(target.folder / f"images{part}" / f"{case.name}_{number:04d}{target.file_ending}")
    if sample.label is not None:
        sample.label.save(target.folder / f"labels{part}" / f"{case.name}{target.file_ending}")
    raters = sample.raters if target.with_raters else {}
    for rater, label in raters.items():
        label.save(target.folder / f"labels{part}_raters" / rater / f"{case.name}{target.file_ending}")
    counts = np.bincount(sample.label.voxels.ravel()) if sample.label is not None else []
    record = CaseRecord(case.name, case.patient,
                        case.part, {str(value): int(count)
                                    for value, count in enumerate(counts)}, sample.channels[0].voxel_volume_mm3,
                        len(raters), sample.notes)
    write_json(dataclasses.asdict(record), target.folder / RECORDS / f"{case.name}.json")
    return record


def read_records(folder: Path) -> dict[str, CaseRecord]:
    """The records of the cases that an interrupted conversion has completed, by name."""
    return {
        path.stem: CaseRecord(**json.loads(path.read_text(encoding="utf-8")))
        for path in (folder / RECORDS).glob("[!.]*.json")
    }
