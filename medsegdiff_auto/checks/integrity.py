"""The check of a raw dataset: all that is wrong with it at once, before hours are spent on it."""

import dataclasses
import functools
import json
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from medsegdiff_auto.checks.channels import check_channels
from medsegdiff_auto.checks.dataset_json import (TrainingCase, label_names, labels_findings, read_dataset_json,
                                                 training_cases)
from medsegdiff_auto.findings import ERROR, WARNING, Finding, errors_among, findings_table, raise_errors, write_findings
from medsegdiff_auto.nnunet.dataset_files import NUM_FOLDS, SPLITS_FILE
from medsegdiff_auto.checks.scan_findings import geometry_findings, label_findings, label_values
from medsegdiff_auto.checks.whole_dataset import empty_structure_findings, flat_plane_findings
from medsegdiff_auto.files.rater_folders import rater_folders
from medsegdiff_auto.files.scans import Geometry, UnreadableScan, read_scan
from medsegdiff_auto.nnunet.readers import BaseReaderWriter, find_reader

__all__ = ["Finding", "check_dataset", "findings_table", "require_intact", "write_findings"]

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class _CheckedCase:
    """What was found in a case; ``label_values`` is None where its label map has an error."""

    findings: list[Finding]
    label_values: np.ndarray | None
    grid: Geometry | None


def check_dataset(raw_dataset_folder: str | Path, num_processes: int = 2) -> list[Finding]:
    """All findings about a raw dataset in nnU-Net's format: those of ``dataset.json`` first, then case by case.

    Files are read by ``num_processes`` threads: the readers and zlib release Python's lock, and a process would first
    have to import its libraries.
    """
    folder = Path(raw_dataset_folder)
    dataset_json, findings = read_dataset_json(folder)
    if not isinstance(dataset_json.get("file_ending"), str):
        return findings
    cases, unpaired = training_cases(folder, dataset_json)
    if unpaired and not cases:
        return findings + unpaired
    findings += unpaired + _count_findings(folder, dataset_json, cases) + _splits_findings(folder, cases)
    try:
        reader = find_reader(dataset_json, [path for case in cases.values() for path in case.images.values()])
    except RuntimeError:
        return findings + [
            Finding("dataset.json", "has a file_ending that nnU-Net cannot read", dataset_json["file_ending"],
                    ".nii.gz, .nrrd, .mha, .png, .bmp or .tif", "convert the files")
        ]
    check = functools.partial(_check_case, folder, dataset_json, reader, rater_folders(folder))
    with ThreadPoolExecutor(max(1, num_processes)) as pool:
        checked = list(pool.map(check, cases.values()))
    findings += [finding for case in checked for finding in case.findings]
    values = [case.label_values for case in checked]
    if not labels_findings(dataset_json) and all(of_one_case is not None for of_one_case in values):
        findings += empty_structure_findings(dataset_json, values)
    return findings + flat_plane_findings([case.grid for case in checked if case.grid is not None])


def require_intact(raw_dataset_folder: str | Path, report_json: str | Path, num_processes: int = 2) -> list[Finding]:
    """Check a dataset, write all findings to ``report_json``, log the table of them, and return the warnings.

    Raises:
        UserError: there are errors: the one finding, or their number and where to read them.
    """
    folder = Path(raw_dataset_folder)
    findings = check_dataset(folder, num_processes)
    write_findings(findings, report_json)
    raise_errors(findings, folder.name, f"the table above and in {report_json}")
    _log.info("%s is intact%s.", folder.name, f", with {len(findings)} warnings" if findings else "")
    return findings


def _count_findings(folder: Path, dataset_json: dict, cases: dict[str, TrainingCase]) -> list[Finding]:
    findings = []
    announced = dataset_json.get("numTraining", len(cases))
    if announced != len(cases):
        findings.append(
            Finding("dataset.json", "announces another number of training cases", f"numTraining {announced}",
                    f"{len(cases)}, as in imagesTr", f"set numTraining to {len(cases)}, or add the missing cases"))
    if len(cases) < 2:
        findings.append(Finding("imagesTr", "holds too few cases to train and validate on", f"{len(cases)} case(s)",
                                f"at least 2 cases, {NUM_FOLDS} for {NUM_FOLDS} folds",
                                "add cases, or train fold all, which validates on what it was trained on",
                                severity=WARNING if cases else ERROR))
    elif len(cases) < NUM_FOLDS and not (folder / SPLITS_FILE).is_file():
        findings.append(Finding("imagesTr", f"holds too few cases for {NUM_FOLDS} folds", f"{len(cases)} cases",
                                f"at least {NUM_FOLDS} cases, or a splits_final.json with fewer folds",
                                "train fold all, or write splits_final.json: [{\"train\": [...], \"val\": [...]}, ...]",
                                severity=WARNING))
    return findings


def _splits_findings(folder: Path, cases: dict[str, TrainingCase]) -> list[Finding]:
    path = folder / SPLITS_FILE
    if not path.is_file():
        return []
    fault = functools.partial(Finding, path.name)
    try:
        splits = json.loads(path.read_text(encoding="utf-8"))
        folds = [(set(split["train"]), set(split["val"])) for split in splits]
    except (ValueError, TypeError, KeyError) as failure:
        return [fault("is not a list of folds", f"{type(failure).__name__}: {failure}",
                      '[{"train": [...], "val": [...]}, ...]', "correct the file, or remove it")]
    findings = []
    for number, (train, val) in enumerate(folds):
        unknown, shared = sorted((train | val) - set(cases)), sorted(train & val)
        if unknown:
            findings.append(fault(f"names unknown cases in fold {number}", _some(unknown), "cases of imagesTr",
                                  "remove them from the file, or add the cases"))
        if shared:
            findings.append(fault(f"has cases in both train and val of fold {number}", _some(shared),
                                  "no case in both", "remove them from one of the two"))
        if not train or not val:
            findings.append(fault(f"has an empty fold {number}", f"{len(train)} train, {len(val)} val",
                                  "at least one case in each", "correct the file"))
    return findings


def _check_case(folder: Path, dataset_json: dict, reader: BaseReaderWriter, raters: list[Path],
                case: TrainingCase) -> _CheckedCase:
    def shown(path: Path) -> str:
        return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)

    findings, grid = check_channels(case.images, reader, dataset_json, shown)
    names, values = label_names(dataset_json), None
    if not case.label.is_file():
        findings.append(
            Finding(shown(next(iter(case.images.values()))), "is an image without a label",
                    f"no label {shown(case.label)}", shown(case.label), "add the label, or remove the image"))
    for file in [case.label, *(rater / case.label.name for rater in raters)]:
        if not file.is_file():
            continue
        try:
            label = read_scan(file, reader, shown(file), is_label=True)
        except UnreadableScan as unreadable:
            findings.append(unreadable.finding)
            continue
        found = label_values(label.voxels)
        of_label = label_findings(label, found, shown(file), names)
        findings += of_label if grid is None else geometry_findings(label.geometry, shown(file), *grid) + of_label
        if file == case.label and names is not None and not errors_among(of_label):
            values = found
    return _CheckedCase(findings, values, None if grid is None else grid[0])


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f", ... ({len(names)})" if len(names) > 5 else "")
