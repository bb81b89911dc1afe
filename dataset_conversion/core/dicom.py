"""DICOM series as volumes; what is no straight, evenly spaced grid is a problem of its case.

The rule stands in :mod:`~medsegdiff_auto.files.dicom_series`.
"""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

from medsegdiff_auto.dataset_conversion.core.reading import reading
from medsegdiff_auto.dataset_conversion.core.source import CaseProblem
from medsegdiff_auto.dataset_conversion.core.volume import Volume, volume_from_sitk
from medsegdiff_auto.files import dicom_series
from medsegdiff_auto.files.dicom_series import SERIES_UID, SOP_UID, Series, holds_dicom
from medsegdiff_auto.files.unreadable import UnreadableScan

__all__ = ["SERIES_UID", "SOP_UID", "Series", "find_series", "holds_dicom", "read_dicom_series", "read_series"]


def find_series(folder: Path) -> dict[str, Series]:
    """The series of a folder by their SeriesInstanceUID."""
    with reading(folder):
        return dicom_series.find_series(folder)


def read_series(series: Series) -> Volume:
    """The volume of a series; floats where the slices have intensity scales of their own, as those of PET have.

    Raises:
        CaseProblem: a file cannot be read, intensities are stored inverted, or the slices are no straight, evenly
            spaced grid.
    """
    folder = Path(series.files[0]).parent
    with reading(folder), _as_problem_of_the_case():
        return volume_from_sitk(dicom_series.read_series(series, folder.name))


def read_dicom_series(folder: Path) -> Volume:
    """The volume of the only series of a folder.

    Raises:
        CaseProblem: it holds none or several, or the series cannot be read.
    """
    with reading(folder), _as_problem_of_the_case():
        series = dicom_series.only_series(folder, folder.name)
    return read_series(series)


@contextmanager
def _as_problem_of_the_case():
    try:
        yield
    except UnreadableScan as unreadable:
        raise CaseProblem(f"{unreadable.finding.found}; {unreadable.finding.fix}") from unreadable
