"""DICOM series as volumes, read by SimpleITK; a series that is no straight, evenly spaced grid is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from medsegdiff_auto.dataset_conversion.core.reading import reading
from medsegdiff_auto.dataset_conversion.core.source import CaseProblem
from medsegdiff_auto.dataset_conversion.core.volume import LPS_TO_RAS, Volume, volume_from_sitk
from medsegdiff_auto.files.listing import ending_of, visible

SERIES_UID, SOP_UID, POSITION, ORIENTATION = "0020|000e", "0008|0018", "0020|0032", "0020|0037"
DICOM_ENDINGS, DIRECTORY = ("", ".dcm", ".ima"), "DICOMDIR"
SLOPE, INTERCEPT, PHOTOMETRIC = "0028|1053", "0028|1052", "0028|0004"
UNEVEN = 0.02  # share of the slice distance by which distances may differ
DISPLACED = 0.25  # of a voxel's smallest edge: so far a slice may lie from where the grid has it
TURNED = 1e-3  # by which direction cosines of slices may differ


@dataclasses.dataclass(frozen=True)
class Series:
    """The files of a series in the order of their slices."""

    files: tuple[str, ...]

    def tags(self, *names: str) -> list[tuple[str, ...]]:
        """Values of tags, one tuple per slice; "" where a slice has none."""
        reader = sitk.ImageFileReader()
        values = []
        for file in self.files:
            reader.SetFileName(file)
            reader.ReadImageInformation()
            values.append(tuple(reader.GetMetaData(name).strip(" \0") if reader.HasMetaDataKey(name) else ""
                                for name in names))
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
    """The volume of a series; floats where the slices have intensity scales of their own, as those of PET have.

    Raises:
        CaseProblem: a file cannot be read, intensities are stored inverted, or the slices are no straight, evenly
            spaced grid.
    """
    with reading(Path(series.files[0]).parent):
        tags = series.tags(POSITION, ORIENTATION, SLOPE, INTERCEPT, PHOTOMETRIC)
        if any(photometric == "MONOCHROME1" for *_, photometric in tags):
            raise CaseProblem("its intensities are stored inverted (MONOCHROME1); convert it to MONOCHROME2")
        if len(tags) > 1:
            _require_even_slices(tags)
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(series.files)
        if len({(slope, intercept) for _, _, slope, intercept, _ in tags}) > 1:
            reader.SetOutputPixelType(sitk.sitkFloat32)
        volume = volume_from_sitk(reader.Execute())
        if len(tags) > 1:
            _require_straight_stack(volume, np.array([_numbers(tag[0]) for tag in tags]))
        return volume


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


def _require_even_slices(tags: list[tuple[str, ...]]) -> None:
    if not all(position and orientation for position, orientation, *_ in tags):
        raise CaseProblem("a slice does not say where it lies")
    rows = np.array([_numbers(orientation) for _, orientation, *_ in tags])
    if np.abs(rows - rows[0]).max() > TURNED:
        raise CaseProblem("its slices are turned against each other")
    heights = np.array([_numbers(position) for position, *_ in tags]) @ np.cross(rows[0, :3], rows[0, 3:])
    distances = np.abs(np.diff(heights))
    typical = np.median(distances)
    if typical == 0 or np.any(np.abs(distances - typical) > UNEVEN * typical):
        raise CaseProblem(f"its slices are not evenly spaced, {distances.min():g} to {distances.max():g} mm: some are "
                          "missing or double")


def _require_straight_stack(volume: Volume, positions_mm: np.ndarray) -> None:
    """Compares the position that DICOM gives to each slice with that of the grid."""
    affine = LPS_TO_RAS @ volume.affine
    of_grid = affine[:3, 3] + np.arange(len(positions_mm))[:, None] * affine[:3, 2]
    displaced_mm = float(np.linalg.norm(positions_mm - of_grid, axis=1).max())
    if displaced_mm <= DISPLACED * np.linalg.norm(affine[:3, :3], axis=0).min():
        return
    way = positions_mm[-1] - positions_mm[0]
    cosine = way @ affine[:3, 2] / np.linalg.norm(way) / np.linalg.norm(affine[:3, 2])
    degrees = np.degrees(np.arccos(min(1, abs(cosine))))
    raise CaseProblem(f"its slices are not stacked straight, by {degrees:.1f} degrees of gantry tilt: one lies "
                      f"{displaced_mm:.1f} mm from where a straight grid has it; "
                      "resample the series on a straight grid")


def _numbers(text: str) -> list[float]:
    return [float(number) for number in text.split("\\")]
