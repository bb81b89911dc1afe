"""From a source folder to a raw dataset of nnU-Net: list, check, write, fold, describe, publish."""

from __future__ import annotations

import dataclasses
import json
import logging
import re
from argparse import Namespace
from collections import Counter
from pathlib import Path

from medsegdiff_auto.checks.integrity import check_dataset
from medsegdiff_auto.dataset_conversion.core import folds
from medsegdiff_auto.dataset_conversion.core.case_files import CaseRecord, Target, read_records
from medsegdiff_auto.dataset_conversion.core.description import dataset_json, label_values
from medsegdiff_auto.dataset_conversion.core.layout import listing_checksum
from medsegdiff_auto.dataset_conversion.core.reading import FULL_DISK
from medsegdiff_auto.dataset_conversion.core.registry import load_converter
from medsegdiff_auto.dataset_conversion.core.remainder import taken_by_no_case
from medsegdiff_auto.dataset_conversion.core.source import TEST, TRAIN, Contents, Omission
from medsegdiff_auto.dataset_conversion.core.workers import convert_cases
from medsegdiff_auto.dataset_conversion.core.workplace import publish, require_free_id, tidy, workplace
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.findings import errors_among
from medsegdiff_auto.files.case_names import case_name_fault
from medsegdiff_auto.writing import write_json

SPLITS = "splits_final.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Request:
    """What the command line asks for; ``options`` are the flags of the converter."""

    converter: str
    source: Path
    raw_folder: Path
    dataset_id: int
    options: Namespace
    name: str | None = None
    with_raters: bool = False
    overwrite: bool = False
    num_processes: int = 1
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A converted dataset: its folder, what was found in the source, what was written, what could not be converted.

    ``unfit`` is what the check of planning says against what was written.
    """

    folder: Path
    contents: Contents
    records: list[CaseRecord]
    problems: list[Omission]
    num_folds: int
    unfit: list[Omission] = dataclasses.field(default_factory=list)

    def cases_of(self, part: str) -> list[CaseRecord]:
        return [record for record in self.records if record.part == part]


def convert(request: Request) -> Outcome:
    """Converts a source; problems of single cases are collected, and the others are converted.

    What is written goes through the check of planning, whose errors are in the outcome.

    Raises:
        UserError: the source does not have the layout, the dataset exists, no case is left, the disk is full, ...
    """
    converter = load_converter(request.converter)
    contents, checksum = found_in(request)
    dataset = dataset_name(request, contents)
    require_free_id(request.raw_folder, dataset, request.overwrite)
    state = {"converter": request.converter, "listing_sha256": checksum, "options": _as_json(vars(request.options)),
             "raters": request.with_raters, "cases": sorted(case.name for case in contents.cases)}
    try:
        with workplace(request.raw_folder, dataset, state) as folder:
            records, problems = _convert_cases(request, contents, folder)
            outcome = Outcome(request.raw_folder / dataset, contents, records, contents.problems + problems,
                              _write_splits(contents, records, folder, request.seed))
            write_json(dataset_json(outcome, converter.about, request, checksum), folder / "dataset.json")
            tidy(folder)
            unfit = errors_among(check_dataset(folder, request.num_processes))
            outcome = dataclasses.replace(outcome, unfit=[
                Omission(found.file, f"{found.check}: {found.found}, expected {found.expected}") for found in unfit])
            publish(folder, outcome.folder)
    except OSError as failure:
        raise _write_error(failure, request.raw_folder) from failure
    return outcome


def found_in(request: Request) -> tuple[Contents, str]:
    """What a source holds, before any voxel is read, and the checksum of its listing.

    Raises:
        UserError: it does not have the layout, or holds no training case.
    """
    converter = load_converter(request.converter)
    _require_request(request, converter.has_raters)
    contents = _with_possible_names(converter.scan(request.source, request.options))
    contents.left_out.extend(taken_by_no_case(request.source, contents))
    _require_contents(contents, request)
    return contents, listing_checksum(request.source,
                                      [file for case in contents.cases for file in case.files] + contents.other_files)


def dataset_name(request: Request, contents: Contents) -> str:
    """Name of the raw dataset's folder."""
    return f"Dataset{request.dataset_id:03d}_{request.name or contents.dataset_name}"


def _convert_cases(request: Request, contents: Contents, folder: Path) -> tuple[list[CaseRecord], list[Omission]]:
    target = Target(folder, contents.file_ending, label_values(contents.labels), len(contents.channel_names),
                    request.with_raters)
    done = read_records(folder)
    pending = [case for case in contents.cases if case.name not in done]
    if done:
        _log.info("Continuing: %d of %d cases were converted before.", len(done), len(contents.cases))
    problems = []
    for result in convert_cases(request.converter, pending, target, request.num_processes):
        if isinstance(result, Omission):
            problems.append(result)
        else:
            done[result.name] = result
    if not any(record.part == TRAIN for record in done.values()):
        raise UserError("No training case could be converted.", found=f"{problems[0].name}: {problems[0].reason}",
                        expected="at least one training case without a problem",
                        fix="correct the files and give the command again")
    return [done[name] for name in sorted(done)], sorted(problems, key=lambda problem: problem.name)


def _write_splits(contents: Contents, records: list[CaseRecord], folder: Path, seed: int) -> int:
    """Writes the folds into the raw dataset, from where planning takes them; returns their number."""
    patients = {record.name: record.patient for record in records if record.part == TRAIN}
    content = folds.splits(contents.folds or folds.validation_folds(patients, seed), patients)
    if content:
        write_json(content, folder / SPLITS)
    return len(content)


def _require_request(request: Request, has_raters: bool) -> None:
    if not request.source.is_dir():
        raise UserError(
            f"{request.source} is not a folder.", found="a file" if request.source.exists() else "nothing there",
            expected="the folder of the source, as it is distributed", fix="correct -i (unpack archives first)")
    if not 1 <= request.dataset_id <= 999:
        raise UserError("The dataset ID is out of range.", found=str(request.dataset_id), expected="1 to 999",
                        fix="give another -d")
    if request.name is not None and not _NAME.fullmatch(request.name):
        raise UserError("The name of the dataset cannot be part of a folder's name.", found=request.name,
                        expected="letters, digits, _ and -", fix="give another --name")
    if request.with_raters and not has_raters:
        raise UserError(f"{request.converter} has one reference per case.", found="--raters",
                        expected="a source with several raters", fix="leave out --raters")


def _with_possible_names(contents: Contents) -> Contents:
    """The contents without cases whose name no case can have; they are among the problems."""
    faults = {case.name: case_name_fault(case.name, case.part == TRAIN) for case in contents.cases}
    problems = [Omission(name, f"its name {fault}: rename its files") for name, fault in faults.items() if fault]
    return dataclasses.replace(contents, cases=[case for case in contents.cases if not faults[case.name]],
                               problems=contents.problems + problems)


def _require_contents(contents: Contents, request: Request) -> None:
    twice = [name for name, count in Counter(case.name for case in contents.cases).items() if count > 1]
    if twice:
        files = [str(case.files[0]) for case in contents.cases if case.name == twice[0]]
        raise UserError(f"Several cases have the name {twice[0]}.", found=", ".join(files[:3]),
                        expected="a name of its own for each case", fix="rename the files")
    if not any(case.part == TRAIN for case in contents.cases):
        first = contents.problems[0] if contents.problems else None
        raise UserError(f"{request.source} holds no training case.",
                        found=f"{first.name}: {first.reason}" if first else "no case",
                        expected="images with their label maps", fix="correct -i, or the names of the files")
    of_part = {
        part: {case.name: case.patient
               for case in contents.cases if case.part == part}
        for part in (TRAIN, TEST)
    }
    folds.require_separate_test(of_part[TRAIN], of_part[TEST])
    if contents.folds:
        folds.splits(contents.folds, of_part[TRAIN])


def _write_error(failure: OSError, raw_folder: Path) -> UserError:
    if failure.errno in FULL_DISK:
        return UserError("The disk is full.", found=f"no space left in {raw_folder}",
                         expected="space for the whole dataset",
                         fix="make space and give the same command again; it continues where it stopped")
    return UserError("The dataset cannot be written.", found=f"{type(failure).__name__}: {failure}",
                     expected=f"a folder that can be written: {raw_folder}",
                     fix="choose another folder with -o, or correct its permissions")


def _as_json(options: dict) -> dict:
    return json.loads(json.dumps(options, default=str))
