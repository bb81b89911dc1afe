"""A comparison from folders to files: ``comparison.csv``, ``summary.json`` and ``report.html``.

    FOLDER/methods.json           the methods in the order of the table
           predictions/METHOD     what a method predicted, each case by a network that has not seen it
           comparison.csv summary.json report.html
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from medsegdiff_auto.checks.inputs import require_writable
from medsegdiff_auto.comparison.measured import measure
from medsegdiff_auto.comparison.methods import Methods, predictions_of, read_methods
from medsegdiff_auto.comparison.page import write_page
from medsegdiff_auto.comparison.patients import patients_of
from medsegdiff_auto.comparison.summary import summarised
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.evaluation.folder import TOLERANCE_MM
from medsegdiff_auto.files.provenance import some
from medsegdiff_auto.writing import write_json

TABLE, SUMMARY, PAGE = "comparison.csv", "summary.json", "report.html"
logger = logging.getLogger(__name__)


def compare(folder: Path, references: Path, dataset_json: dict, preprocessed_folder: Path | None = None,
            rater_folders: Sequence[Path] = (), num_processes: int = 1) -> dict:
    """Compares the methods of a comparison's folder and writes the three files into it.

    Args:
        references: label maps, one for each case at least.
        preprocessed_folder: of the dataset, where the folds and so the patients are known.

    Returns:
        The content of ``summary.json``.

    Raises:
        UserError: a folder or a file is missing, damaged, or of other cases.
    """
    return compare_methods(read_methods(folder), folder, references, dataset_json, task=folder.resolve().parent.name,
                           preprocessed_folder=preprocessed_folder, rater_folders=rater_folders,
                           num_processes=num_processes)


def compare_methods(methods: Methods, output: Path, references: Path, dataset_json: dict, *, task: str,
                    preprocessed_folder: Path | None = None, patients_file: Path | None = None,
                    rater_folders: Sequence[Path] = (), num_processes: int = 1, tolerance_mm: float = TOLERANCE_MM,
                    shared_only: bool = False) -> dict:
    """:func:`compare` for methods whose predictions lie anywhere.

    Args:
        patients_file: ``{CASE: patient}`` as JSON.
        shared_only: compares the cases that all methods have.
    """
    require_writable(output)
    predictions = predictions_of(methods, dataset_json["file_ending"], shared_only)
    cases = sorted(set().union(*predictions.values()))
    _require_references(references, cases, dataset_json["file_ending"])
    patients = patients_of(cases, preprocessed_folder, patients_file)
    measured = measure(references, predictions, methods, dataset_json, patients, num_processes,
                       tolerance_mm=tolerance_mm, rater_folders=rater_folders)
    summary = summarised(measured, task, tolerance_mm)
    for text in summary["warnings"]:
        logger.warning("%s", text)
    measured.write_long(task, output / TABLE)
    write_json(summary, output / SUMMARY, allow_nan=False)
    write_page(measured, summary, output / PAGE)
    logger.info("Comparison: %s", output / PAGE)
    return summary


def _require_references(references: Path, cases: Sequence[str], file_ending: str) -> None:
    if not references.is_dir():
        raise UserError("The reference folder does not exist.", found=str(references),
                        expected="a folder of label maps", fix="correct the path, such as nnUNet_raw/DATASET/labelsTr")
    missing = [case for case in cases if not (references / f"{case}{file_ending}").is_file()]
    if missing:
        raise UserError(f"{len(missing)} of {len(cases)} predicted cases have no reference.", found=some(missing),
                        expected=f"{references}/CASE{file_ending} for each case", fix="correct the reference folder")
