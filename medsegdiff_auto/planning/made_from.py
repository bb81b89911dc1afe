"""What fingerprint, folds and preprocessed cases were made from, and what of them is no longer of the dataset.

    record of                  says
    dataset_fingerprint.json   cases: the raw files of every case; labels: what dataset.json calls a label or a channel
    splits_final.json          copy_of: the file of the raw dataset that it is a copy of
    DATA_IDENTIFIER            cases, labels; plan: how the plans say to preprocess

All of them are checksums, see :mod:`~medsegdiff_auto.files.provenance`.
"""

from __future__ import annotations

import logging
import shutil
from multiprocessing.pool import ThreadPool
from pathlib import Path

from nnunetv2.utilities.crossval_split import generate_crossval_split

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.files.provenance import FINISHED, checksum, checksum_of, differences, read_record, recorded, some
from medsegdiff_auto.nnunet.dataset_files import (FINGERPRINT_FILE, NUM_FOLDS, SPLITS_FILE, image_file, labels_file,
                                                  properties_file, read_splits, references_folder)
from medsegdiff_auto.nnunet.inheritance import DATA, holders, resolved
from medsegdiff_auto.nnunet.training_files import training_files
from medsegdiff_auto.writing import atomically

CASES, LABELS, PLAN, COPY_OF = "cases", "labels", "plan", "copy_of"
LABEL_KEYS = ("channel_names", "labels", "regions_class_order")
PLAN_KEYS = ("image_reader_writer", "transpose_forward", "foreground_intensity_properties_per_channel")
SECTION_KEYS = ("preprocessor_name", "spacing", "normalization_schemes", "use_mask_for_norm", "resampling_fn_data",
                "resampling_fn_seg", "resampling_fn_data_kwargs", "resampling_fn_seg_kwargs")
"""Of plans and of a configuration in them: all that preprocessed voxels depend on."""

logger = logging.getLogger(__name__)


def dataset_checksums(raw_folder: Path, dataset_json: dict, num_processes: int) -> dict:
    """The raw files of every case, and the part of ``dataset.json`` that says what is in them."""
    listed = training_files(raw_folder, dataset_json)
    with ThreadPool(max(1, num_processes)) as pool:
        of_cases = pool.map(lambda case: checksum_of([checksum(file) for file in (*case["images"], case["label"])]),
                            listed.values())
    return {CASES: dict(zip(listed, of_cases)), LABELS: labels_checksum(dataset_json)}


def labels_checksum(dataset_json: dict) -> str:
    """The part of ``dataset.json`` that says what is in the files."""
    return checksum_of({key: dataset_json.get(key) for key in LABEL_KEYS})


def plan_checksum(plans: dict, data_identifier: str) -> str:
    """How the plans say to preprocess what lies in a folder of this name."""
    section = resolved(plans, next(name for name in holders(plans, DATA)
                                   if plans["configurations"][name][DATA] == data_identifier))
    return checksum_of([{key: plans.get(key) for key in PLAN_KEYS}, {key: section.get(key) for key in SECTION_KEYS}])


def stale_because(made: Path, made_from: dict, num_cases_before: int | None) -> str:
    """Why a file is not made from these cases and labels; empty where it is, or where nothing says that it is not.

    Args:
        num_cases_before: that it was made from, as it says itself; what has no record is judged by it.
    """
    before = read_record(made)
    if before is None:
        now = len(made_from[CASES])
        if num_cases_before == now:
            logger.warning("%s does not say what it was made from, as one of an earlier version or of nnU-Net: it is "
                           "taken for that of this dataset. --clean extracts it anew.", made.name)
            return ""
        return f"it is of {num_cases_before} cases, the dataset has {now}"
    if not before[FINISHED]:
        return "it was interrupted"
    changes = differences(made_from[CASES], before.get(CASES, {}))
    return changes or ("dataset.json has other labels or channels" if before.get(LABELS) != made_from[LABELS] else "")


def renew_splits(raw_folder: Path, preprocessed_folder: Path, dataset_json: dict) -> None:
    """Brings ``splits_final.json`` up to date with the raw dataset, before anything is planned.

    A copy of the raw dataset's earlier folds is replaced, and nnU-Net's own folds of other cases are removed, so that
    training draws them anew. Folds of somebody's own stay.

    Raises:
        UserError: folds of somebody's own differ from those of the raw dataset, or name cases that it does not have.
    """
    source, target = raw_folder / SPLITS_FILE, preprocessed_folder / SPLITS_FILE
    cases = set(training_files(raw_folder, dataset_json))
    if target.is_file() and _is_renewable(target, source, cases):
        logger.warning("%s was made for an earlier state of the dataset: its folds are drawn anew.", target)
        target.unlink()
    if source.is_file():
        if not target.is_file():
            with recorded(target, **{COPY_OF: checksum(source)}), atomically(target) as unfinished:
                shutil.copyfile(source, unfinished)
        elif not _covers(target, source):
            raise UserError(f"Raw and preprocessed dataset have different folds in {SPLITS_FILE}.",
                            found=f"{source} and {target}", expected="the same folds",
                            fix="delete the one that is not to be used")
    if target.is_file():
        _require_known_cases(target, cases)


def drop_stale_references(preprocessed_folder: Path, raw_folder: Path, dataset_json: dict) -> None:
    """Removes the copies of references that are not those of the raw dataset; preprocessing makes them anew.

    nnU-Net replaces a copy only by a file of a later date.
    """
    listed = training_files(raw_folder, dataset_json)
    labels = {f"{case}{dataset_json['file_ending']}": Path(files["label"]) for case, files in listed.items()}
    folder = references_folder(preprocessed_folder)
    for copy in folder.iterdir() if folder.is_dir() else ():
        if copy.name not in labels or checksum(copy) != checksum(labels[copy.name]):
            copy.unlink()


def require_preprocessed(preprocessed_folder: Path, plans: dict, data_identifier: str, dataset_json: dict) -> None:
    """Checks that the preprocessed cases of a configuration are complete, and those of these plans and labels.

    What has no record, of an earlier version or of nnU-Net's own commands, is accepted with a line that says so.

    Raises:
        UserError: they are not.
    """
    folder = preprocessed_folder / data_identifier
    record, fingerprint = read_record(folder), read_record(preprocessed_folder / FINGERPRINT_FILE)
    again = f"medsegdiff_plan_and_preprocess -d {preprocessed_folder.name}"
    if record is None:
        logger.warning("%s does not say what it was made from, as one of an earlier version or of nnU-Net: it is taken "
                       "for that of these plans.", folder)
    elif not record[FINISHED]:
        raise UserError(f"The preprocessing of {folder.name} was interrupted.",
                        found=f"{len(_present(folder))} of {len(record[CASES])} cases", expected="all of them",
                        fix=f"{again} preprocesses them anew")
    else:
        differing = [what for what, differs in (
            ("another plan", record[PLAN] != plan_checksum(plans, data_identifier)),
            ("other labels or channels in dataset.json", record[LABELS] != labels_checksum(dataset_json)),
            ("other raw files", fingerprint is not None and fingerprint.get(CASES) != record[CASES])) if differs]
        if differing:
            raise UserError(f"{folder.name} was not preprocessed as it is planned now.",
                            found=f"preprocessed with {', '.join(differing)}",
                            expected=f"the plans {plans.get('plans_name')} of now", fix=f"{again} preprocesses it anew")
    _require_all_files(folder, _expected(preprocessed_folder, record), again)


def _expected(preprocessed_folder: Path, record: dict | None) -> set[str]:
    """Cases that have to be there: as recorded, else those of the folds, else those with a reference."""
    if record is not None:
        return set(record[CASES])
    if (preprocessed_folder / SPLITS_FILE).is_file():
        return _named(read_splits(preprocessed_folder))
    return set()


def _present(folder: Path) -> set[str]:
    return {file.name.removesuffix(".pkl") for file in folder.glob("*.pkl")}


def _require_all_files(folder: Path, expected: set[str], again: str) -> None:
    begun = {file.name.removesuffix(".b2nd") for file in folder.glob("*.b2nd") if not file.stem.endswith("_seg")}
    lacking = sorted(case for case in expected | _present(folder) | begun
                     if not all(file.is_file() and file.stat().st_size > 0 for file in (
                         image_file(folder, case), labels_file(folder, case), properties_file(folder, case))))
    if lacking and (begun or not _present(folder)):  # other formats of nnU-Net have no b2nd
        raise UserError(f"{folder.name} is not completely preprocessed.",
                        found=f"{len(lacking)} case(s) without all of their files: {some(lacking)}",
                        expected="image, labels and properties of every case", fix=f"{again} preprocesses it anew")


def _is_renewable(target: Path, source: Path, cases: set[str]) -> bool:
    """Whether folds are a copy of the raw dataset's earlier ones, or nnU-Net's own for other cases than these."""
    record = read_record(target)
    if record is not None and checksum(target) == record.get(COPY_OF):
        return not source.is_file() or checksum(source) != record[COPY_OF]
    folds = read_splits(target.parent)
    named = sorted(_named(folds))
    return set(named) != cases and len(named) >= NUM_FOLDS and not source.is_file() and _same(
        folds, generate_crossval_split(named, n_splits=NUM_FOLDS))


def _require_known_cases(target: Path, cases: set[str]) -> None:
    named = _named(read_splits(target.parent))
    if named - cases:
        raise UserError(f"{target} names cases that the dataset does not have.", found=some(sorted(named - cases)),
                        expected="the cases of imagesTr", fix="correct the folds, or delete the file for new ones")
    if cases - named:
        logger.warning("%s leaves out %d case(s), which are neither trained nor validated on: %s", target,
                       len(cases - named), some(sorted(cases - named)))


def _covers(target: Path, source: Path) -> bool:
    """Whether the first folds of the target are those of the source."""
    wanted = read_splits(source.parent)
    return _same(read_splits(target.parent)[:len(wanted)], wanted)


def _same(folds: list[dict], others: list[dict]) -> bool:
    def sets(splits: list[dict]) -> list[tuple[set, set]]:
        return [(set(map(str, split["train"])), set(map(str, split["val"]))) for split in splits]

    return sets(folds) == sets(others)


def _named(folds: list[dict]) -> set[str]:
    return {str(case) for fold in folds for part in (fold["train"], fold["val"]) for case in part}
