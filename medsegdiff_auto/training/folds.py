"""Which cases a fold of a model was trained and validated on: its record, and the check that the folds are those.

    MODEL/made_from/fold_K.json    train, val: names of the cases; see :mod:`~medsegdiff_auto.files.provenance`
"""

from __future__ import annotations

from pathlib import Path

from nnunetv2.utilities.crossval_split import generate_crossval_split

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.files.provenance import RECORDS, read_record, some
from medsegdiff_auto.nnunet.dataset_files import NUM_FOLDS, SPLITS_FILE, read_splits

TRAIN, VALIDATION = "train", "val"


def folds_of(preprocessed_folder: Path, data_identifier: str) -> list[dict[str, list[str]]]:
    """The folds of a dataset: its file's, or those that nnU-Net would draw and write; none of fewer than five cases."""
    if (preprocessed_folder / SPLITS_FILE).is_file():
        return read_splits(preprocessed_folder)
    cases = sorted(file.stem for file in (preprocessed_folder / data_identifier).glob("*.pkl"))
    if len(cases) < NUM_FOLDS:
        return []
    return [{part: [str(case) for case in names] for part, names in fold.items()}
            for fold in generate_crossval_split(cases, n_splits=NUM_FOLDS)]


def require_same_folds(model_folder: Path, splits: list[dict], but: int | str | None = None) -> None:
    """Checks that the trained folds of a model are those of the split: none may validate on what another one has seen.

    A fold that an earlier version or nnU-Net trained has no record, and is taken for that of the split.

    Args:
        but: a fold that is to be trained anew.

    Raises:
        UserError: the folds were drawn anew since.
    """
    for file in sorted((model_folder / RECORDS).glob("fold_*.json")):
        number = file.stem.removeprefix("fold_")
        if number.isdecimal() and number != str(but) and (model_folder / file.stem).is_dir():
            require_same_fold(model_folder, splits, int(number))


def require_same_fold(model_folder: Path, splits: list[dict], fold: int) -> None:
    """Checks that a fold was trained and validated on the cases that the split says.

    Raises:
        UserError: it was not.
    """
    record = read_record(model_folder / f"fold_{fold}")
    if record is None:
        return
    now = splits[fold] if fold < len(splits) else {TRAIN: [], VALIDATION: []}
    if any(set(record[part]) != set(now[part]) for part in (TRAIN, VALIDATION)):
        raise UserError(f"The folds have changed since fold {fold} of {model_folder.name} was trained.",
                        found=f"{SPLITS_FILE} validates on {some(sorted(now[VALIDATION])) or 'no such fold'}",
                        expected=f"{some(sorted(record[VALIDATION]))}, as fold {fold} was trained",
                        fix=f"put back the {SPLITS_FILE} of then, or move the model away and train its folds anew")
