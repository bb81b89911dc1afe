"""Which files of a prediction folder are predictions, and which are the companions that lie beside them."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.files.case_names import EXPECTED, case_name_fault, ends_like_a_companion
from medsegdiff_auto.files.listing import files_of, visible
from medsegdiff_auto.files.provenance import some
from medsegdiff_auto.run_record import Run, read_run
from medsegdiff_auto.writing import read_table

CASES_FILE = "cases.csv"
logger = logging.getLogger(__name__)


def list_predictions(folder: str | Path, file_ending: str) -> dict[str, Path]:
    """The label map of each case in a prediction folder, sorted by case: ``{case: folder/case + file_ending}``.

    The cases are those named in ``cases.csv``; where that is absent, all visible files with the file ending that are no
    companions.

    Raises:
        UserError: the folder is missing or holds no prediction, or ``cases.csv`` names a case without a file or one
            that no case can be.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError("The prediction folder does not exist.", found=str(folder), expected="a folder of predictions",
                        fix="correct the path, or run medsegdiff_predict first")
    named = _cases_of_table(folder / CASES_FILE)
    cases = _cases_by_file_name(folder, file_ending) if named is None else named
    if not cases:
        raise UserError(f"{folder} holds no prediction.", found=f"no case with the file ending {file_ending}",
                        expected=f"CASE{file_ending} for each case",
                        fix="correct the path, or run medsegdiff_predict first")
    predictions = {case: folder / f"{case}{file_ending}" for case in sorted(cases)}
    _require_files(folder, predictions)
    left_out = sorted((read_run(folder) or Run()).images.keys() - cases)
    if left_out:
        logger.warning("%s has no prediction of %s: medsegdiff_predict was interrupted, or left them out.", folder,
                       some(left_out))
    return predictions


def list_companions(folder: str | Path, file_ending: str) -> list[Path]:
    """All files of a prediction folder that are not themselves predictions, sorted."""
    predictions = set(list_predictions(folder, file_ending).values())
    return [path for path in visible(Path(folder)) if path.is_file() and path not in predictions]


@contextmanager
def staged_predictions(folder: str | Path, file_ending: str) -> Iterator[Path]:
    """A temporary folder that holds the predictions of ``folder`` alone, for functions that list every file.

    The files in it are symbolic links to the predictions, or hard links where symbolic ones are not possible.
    """
    predictions = list_predictions(folder, file_ending)
    with TemporaryDirectory(prefix="medsegdiff_predictions_") as stage:
        for path in predictions.values():
            link(path, Path(stage) / path.name)
        yield Path(stage)


def link(source: Path, target: Path) -> None:
    """Make ``target`` a symbolic link to ``source``, or a hard link on systems that refuse the former."""
    try:
        target.symlink_to(source.absolute())
    except OSError:
        os.link(source, target)


def _cases_of_table(cases_csv: Path) -> set[str] | None:
    if not cases_csv.is_file():
        return None
    rows = read_table(cases_csv)
    if not rows or "case" not in rows[0]:
        raise UserError(f"{cases_csv} has no column named case.", found=", ".join(rows[0] if rows else ["no row"]),
                        expected="the table that medsegdiff_predict writes", fix="predict again, or delete the file")
    cases = {row["case"] or "" for row in rows}
    faults = [(case, fault) for case in sorted(cases) if (fault := case_name_fault(case))]
    if faults:
        raise UserError(f"{cases_csv} names a case that {faults[0][1]}.", found=faults[0][0], expected=EXPECTED,
                        fix="predict again, or delete the file")
    return cases


def _cases_by_file_name(folder: Path, file_ending: str) -> set[str]:
    stems = (path.name[:-len(file_ending)] for path in files_of(folder, file_ending)[0])
    return {stem for stem in stems if stem and not ends_like_a_companion(stem)}


def _require_files(folder: Path, predictions: dict[str, Path]) -> None:
    missing = [path.name for path in predictions.values() if not path.is_file()]
    if missing:
        raise UserError(f"{folder / CASES_FILE} names {len(missing)} case(s) without a prediction.",
                        found=f"no file {', '.join(missing[:5])}{', ...' if len(missing) > 5 else ''}",
                        expected="a label map for each case of cases.csv", fix="predict the missing cases again")
