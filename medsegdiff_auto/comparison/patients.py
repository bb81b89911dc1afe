"""Which cases are of one patient: as a file says, or as the names of the cases and the folds agree."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.files.provenance import some
from medsegdiff_auto.nnunet.dataset_files import SPLITS_FILE, read_splits
from medsegdiff_auto.schemas import validated

PATIENTS_FILE = "patients.json"


@dataclass(frozen=True)
class Patients:
    """The patient of every case, and ``how`` it is known, as a sentence."""

    of_case: dict[str, str]
    how: str

    @property
    def several_cases(self) -> bool:
        """Whether any patient has more than one."""
        return len(set(self.of_case.values())) < len(self.of_case)


def patients_of(cases: Iterable[str], preprocessed_folder: Path | None = None, file: Path | None = None) -> Patients:
    """The patients of cases.

    From the file (``{CASE: patient}``), by default ``patients.json`` in the folder of the preprocessed dataset; else
    the shortest beginning of the names, up to a ``_``, that no fold of ``splits_final.json`` divides; else every case
    is a patient.

    Raises:
        UserError: the file is damaged, or lacks a case.
    """
    cases = list(cases)
    if file is None and preprocessed_folder is not None and (preprocessed_folder / PATIENTS_FILE).is_file():
        file = preprocessed_folder / PATIENTS_FILE
    if file is not None:
        known = _read(file)
        missing = sorted(set(cases) - set(known))
        if missing:
            raise UserError(f"{file} does not name the patient of every case.", found=f"nothing of {some(missing)}",
                            expected=f"the {len(cases)} cases that are compared", fix="add them")
        return Patients({case: known[case] for case in cases}, f"Patients as {file.name} names them.")
    splits = _splits(preprocessed_folder)
    num_parts = undivided_parts(splits) if splits else None
    if num_parts is None:
        return Patients({case: case for case in cases}, "Each case counts as a patient: no file and no fold says more.")
    patients = Patients({case: beginning(case, num_parts) for case in cases},
                        "Patients by the shortest beginning of the cases' names that no fold divides.")
    return patients if patients.several_cases else Patients(patients.of_case, "Each case is a patient.")


def undivided_parts(splits: Sequence[dict[str, list[str]]]) -> int | None:
    """How many parts of a case's name make a group that always stands on one side of the folds; None where only whole
    names do.
    """
    most = max(len(case.split("_")) for fold in splits for side in fold.values() for case in side)
    for num_parts in range(1, most):
        sides = [[{beginning(case, num_parts) for case in fold[side]} for side in ("train", "val")] for fold in splits]
        if all(train and val and not train & val for train, val in sides):
            return num_parts
    return None


def beginning(case: str, num_parts: int) -> str:
    """The first parts of a name that ``_`` divides."""
    return "_".join(case.split("_")[:num_parts])


def _splits(preprocessed_folder: Path | None) -> list[dict[str, list[str]]]:
    if preprocessed_folder is None or not (preprocessed_folder / SPLITS_FILE).is_file():
        return []
    return [fold for fold in read_splits(preprocessed_folder) if fold["train"] and fold["val"]]


def _read(file: Path) -> dict[str, str]:
    try:
        return validated(dict[str, str], json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError) as failure:
        raise UserError(f"{file} cannot be read.", found=str(failure), expected='{"CASE": "patient", ...}',
                        fix="correct the file") from failure
