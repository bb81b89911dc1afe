"""DICOM series as volumes, read by SimpleITK; a series with missing slices is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from medsegdiff_auto.dataset_conversion.core.reading import reading
from medsegdiff_auto.dataset_conversion.core.source import CaseProblem
from medsegdiff_auto.dataset_conversion.core.volume import Volume, volume_from_sitk

SERIES_UID, SOP_UID, POSITION, ORIENTATION = "0020|000e", "0008|0018", "0020|0032", "0020|0037"
UNEVEN = 0.02  # share of the slice distance by which distances may differ


@dataclasses.dataclass(frozen=True)
class Series:
    """The files of a series in the order of their slices."""

    files: tuple[str, ...]

    def tags(self, *names: str) -> list[tuple[str, ...]]:
        """Values of tags, one tuple per slice."""
        reader = sitk.ImageFileReader()
        values = []
        for file in self.files:
            reader.SetFileName(file)
            reader.ReadImageInformation()
            values.append(tuple(reader.GetMetaData(name).strip(" \0") for name in names))
        return values


def holds_dicom(folder: Path) -> bool:
    """Whether the first file of a folder is DICOM: the letters stand behind a preamble of 128 bytes."""
    first = next((entry for entry in sorted(folder.iterdir())
                  if entry.is_file() and entry.suffix.lower() not in (".xml", ".txt", ".csv")), None)
    if first is None:
        return False
    with open(first, "rb") as file:
        return file.read(132)[128:] == b"DICM"


def find_series(folder: Path) -> dict[str, Series]:
    """The series of a folder by their SeriesInstanceUID."""
    with reading(folder):
        names = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
        found = {}
        for name in names:
            series = Series(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), name))
            uid = Series(series.files[:1]).tags(SERIES_UID)[0][0]
            found[uid if uid not in found else name] = series
        return found


def read_series(series: Series) -> Volume:
    """The volume of a series.

    Raises:
        CaseProblem: a file cannot be read, or the slices are not evenly spaced.
    """
    with reading(Path(series.files[0]).parent):
        _require_even_slices(series)
        return volume_from_sitk(sitk.ReadImage(series.files))


def read_dicom_series(folder: Path) -> Volume:
    """The volume of the only series of a folder.

    Raises:
        CaseProblem: it holds none or several, or the series cannot be read.
    """
    found = find_series(folder)
    if len(found) != 1:
        raise CaseProblem(f"{folder.name} holds {len(found)} DICOM series, expected one")
    return read_series(next(iter(found.values())))


def _require_even_slices(series: Series) -> None:
    if len(series.files) < 3:
        return
    tags = series.tags(POSITION, ORIENTATION)
    rows = np.array([float(number) for number in tags[0][1].split("\\")])
    normal = np.cross(rows[:3], rows[3:])
    heights = np.array([[float(number) for number in position.split("\\")] for position, _ in tags]) @ normal
    distances = np.abs(np.diff(heights))
    typical = np.median(distances)
    if typical == 0 or np.any(np.abs(distances - typical) > UNEVEN * typical):
        raise CaseProblem(f"its slices are not evenly spaced, {distances.min():g} to {distances.max():g} mm: some are "
                          "missing or double")
