"""The one rule for DICOM series: which files are one, and which series is a straight, evenly spaced grid.

The slices are read by SimpleITK. A series that is no grid is refused, because every reader would make one of it.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from medsegdiff_auto.files.listing import ending_of, visible
from medsegdiff_auto.files.unreadable import UnreadableScan, not_an_image
from medsegdiff_auto.findings import Finding

SERIES_UID, SOP_UID, POSITION, ORIENTATION = "0020|000e", "0008|0018", "0020|0032", "0020|0037"
DICOM_ENDINGS, DIRECTORY = ("", ".dcm", ".ima"), "DICOMDIR"
SLOPE, INTERCEPT, PHOTOMETRIC, NUM_FRAMES = "0028|1053", "0028|1052", "0028|0004", "0028|0008"
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
    found = {}
    for name in sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder)):
        series = Series(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), name))
        uid = Series(series.files[:1]).tags(SERIES_UID)[0][0]
        found[uid if uid not in found else name] = series
    return found


def only_series(folder: Path, shown: str) -> Series:
    """The only series of a folder; ``shown`` is the name that messages give to it.

    Raises:
        UnreadableScan: it holds none or several, or a file that is meant as a slice and is none.
    """
    found = find_series(folder)
    slices = {Path(file).name for series in found.values() for file in series.files}
    lost = [path.name for path in visible(folder) if path.name not in slices and _is_meant_as_slice(path)]
    if lost:
        raise _no_grid(shown, f"{lost[0]} lies beside its slices but cannot be read as one", "copy the series again")
    if len(found) != 1:
        raise _no_grid(shown, f"{folder.name} holds {len(found)} DICOM series, expected one",
                       "give every series a folder of its own")
    return next(iter(found.values()))


def read_series(series: Series, shown: str) -> sitk.Image:
    """The volume of a series; floats where the slices have intensity scales of their own, as those of PET have.

    Raises:
        UnreadableScan: intensities are stored inverted, or the slices are no straight, evenly spaced grid.
        RuntimeError: a file cannot be read.
    """
    tags = series.tags(POSITION, ORIENTATION, SLOPE, INTERCEPT, PHOTOMETRIC)
    if any(photometric == "MONOCHROME1" for *_, photometric in tags):
        raise _no_grid(shown, "its intensities are stored inverted (MONOCHROME1)",
                       "convert it to MONOCHROME2")
    if len(tags) > 1:
        _require_even_slices(tags, shown)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(series.files)
    if len({(slope, intercept) for _, _, slope, intercept, _ in tags}) > 1:
        reader.SetOutputPixelType(sitk.sitkFloat32)
    image = reader.Execute()
    if len(tags) > 1:
        _require_straight_stack(image, np.array([_numbers(tag[0]) for tag in tags]), shown)
    return image


def read_series_of_slices(folder: Path, shown: str) -> tuple[sitk.Image, Series]:
    """The volume of the only series of a folder, of one file per slice, each of which says where it lies.

    Raises:
        UnreadableScan: it holds none or several, or the series cannot be read or is no straight, evenly spaced grid.
    """
    try:
        series = only_series(folder, shown)
        frames, places = zip(*((frames, place) for frames, *place in series.tags(NUM_FRAMES, POSITION, ORIENTATION)))
        if any(number not in ("", "1") for number in frames):
            raise _no_grid(shown, f"a file of {max(frames)} frames, whose places are not checked",
                           "convert it to one file per slice, or to the model's format with a tool that you trust")
        if not all(map(all, places)):
            raise _no_grid(shown, "a slice does not say where it lies", "export the series again, with its geometry")
        return read_series(series, shown), series
    except (OSError, RuntimeError, ValueError) as failure:
        raise not_an_image(shown, failure) from failure


def _is_meant_as_slice(path: Path) -> bool:
    if not path.is_file():
        return not path.is_dir()
    return path.name != DIRECTORY and (ending_of(path.name).lower() in DICOM_ENDINGS[1:] or is_dicom(path)
                                       or (path.stat().st_size == 0 and not path.suffix))


def _no_grid(shown: str, reason: str, fix: str) -> UnreadableScan:
    return UnreadableScan(Finding(shown, "is no DICOM series that is one grid", reason,
                                  "one series, all its slices, straight and evenly spaced", fix))


def _require_even_slices(tags: list[tuple[str, ...]], shown: str) -> None:
    if not all(position and orientation for position, orientation, *_ in tags):
        raise _no_grid(shown, "a slice does not say where it lies", "export the series again, with its geometry")
    rows = np.array([_numbers(orientation) for _, orientation, *_ in tags])
    if np.abs(rows - rows[0]).max() > TURNED:
        raise _no_grid(shown, "its slices are turned against each other", "give every orientation a folder of its own")
    heights = np.array([_numbers(position) for position, *_ in tags]) @ np.cross(rows[0, :3], rows[0, 3:])
    distances = np.abs(np.diff(heights))
    typical = np.median(distances)
    if typical == 0 or np.any(np.abs(distances - typical) > UNEVEN * typical):
        raise _no_grid(shown, f"its slices are not evenly spaced, {distances.min():g} to {distances.max():g} mm: some "
                       "are missing or double", "export the whole series again, or resample it on an even grid")


def _require_straight_stack(image: sitk.Image, positions_mm: np.ndarray, shown: str) -> None:
    """Compares the position that DICOM gives to each slice with that of the grid."""
    spacing_mm, direction = np.array(image.GetSpacing()), np.reshape(image.GetDirection(), (3, 3))
    step = direction[:, 2] * spacing_mm[2]
    of_grid = np.array(image.GetOrigin()) + np.arange(len(positions_mm))[:, None] * step
    displaced_mm = float(np.linalg.norm(positions_mm - of_grid, axis=1).max())
    if displaced_mm <= DISPLACED * spacing_mm.min():
        return
    way = positions_mm[-1] - positions_mm[0]
    cosine = way @ step / np.linalg.norm(way) / np.linalg.norm(step)
    degrees = np.degrees(np.arccos(min(1, abs(cosine))))
    raise _no_grid(shown, f"its slices are not stacked straight, by {degrees:.1f} degrees of gantry tilt: one lies "
                   f"{displaced_mm:.1f} mm from where a straight grid has it",
                   "resample the series on a straight grid")


def _numbers(text: str) -> list[float]:
    return [float(number) for number in text.split("\\")]
