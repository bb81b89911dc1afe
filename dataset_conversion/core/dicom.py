"""DICOM series as volumes, read by SimpleITK; a series with missing slices is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from medsegdiff_auto.dataset_conversion.core.reading import reading
from medsegdiff_auto.dataset_conversion.core.source import CaseProblem
from medsegdiff_auto.dataset_conversion.core.volume import Volume, volume_from_sitk
from medsegdiff_auto.files.listing import ending_of, visible

SERIES_UID, SOP_UID, POSITION, ORIENTATION = "0020|000e", "0008|0018", "0020|0032", "0020|0037"
DICOM_ENDINGS, DIRECTORY = ("", ".dcm", ".ima"), "DICOMDIR"
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
    """Whether a folder holds DICOM files, and at least as many of them as images of other kinds, such as previews."""
    files = [path for path in visible(folder) if path.is_file() and path.name != DIRECTORY]
    candidates = [path for path in files if ending_of(path.name).lower() in DICOM_ENDINGS]
    return sum(map(is_dicom, candidates)) >= max(1, len(files) - len(candidates))


def is_dicom(file: Path) -> bool:
    """Whether the letters stand behind a preamble of 128 bytes."""
    with open(file, "rb") as stream:
        return stream.read(132)[128:] == b"DICM"


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
    slices = {Path(file).name for series in found.values() for file in series.files}
    lost = [path.name for path in visible(folder) if path.name not in slices and _is_meant_as_slice(path)]
    if lost:
        raise CaseProblem(f"{lost[0]} lies beside its slices but cannot be read as one")
    if len(found) != 1:
        raise CaseProblem(f"{folder.name} holds {len(found)} DICOM series, expected one")
    return read_series(next(iter(found.values())))


def _is_meant_as_slice(path: Path) -> bool:
    if not path.is_file():
        return not path.is_dir()
    return path.name != DIRECTORY and (ending_of(path.name).lower() in DICOM_ENDINGS[1:] or is_dicom(path)
                                       or (path.stat().st_size == 0 and not path.suffix))


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
