"""One image as the files that nnU-Net's readers read, whether it comes as files or in memory."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike as OsPathLike
from pathlib import Path
from collections.abc import Callable, Sequence

import nibabel
import numpy as np
import SimpleITK as sitk

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.checks.dataset_json import channel_of
from medsegdiff_auto.files.dicom_series import Series, read_series_of_slices
from medsegdiff_auto.files.sound import require_sound
from medsegdiff_auto.files.unreadable import UnreadableScan
from medsegdiff_auto.inference.array_input import channels_of_array, nibabel_file

PathLike = str | OsPathLike


@dataclass(frozen=True)
class ImageFiles:
    """The files of one image.

    Attributes:
        paths: one per channel, in their order.
        case: that the name of the first file gives; None for an image in memory.
        image: the first channel of an image in memory.
        shown: the name of a file in messages.
        series: the DICOM series of the first channel.
    """

    paths: list[Path]
    case: str | None
    image: sitk.Image | None
    shown: Callable[[Path], str]
    series: Series | None = None


def image_files(image, dataset_json: dict, folder: Path, spacing_mm: Sequence[float] | None = None) -> ImageFiles:
    """The files of an image: themselves, or written into ``folder`` in the format that the model reads.

    Args:
        image: a path, a folder of one DICOM series, a SimpleITK or nibabel image, or a list with one per channel; or an
            array of :func:`~medsegdiff_auto.inference.array_input.channels_of_array`.
        dataset_json: of the model.
        spacing_mm: of an array.

    Raises:
        UserError: it is none of these, not of the model's format, or a series is no straight, evenly spaced grid.
    """
    file_ending = dataset_json["file_ending"]
    if isinstance(image, np.ndarray):
        image = channels_of_array(image, spacing_mm, dataset_json)
    elif spacing_mm is not None:
        raise UserError("Only arrays are given a spacing.", found=f"spacing_mm and {type(image).__name__}",
                        expected="an image that says its spacing itself, or an array", fix="leave out spacing_mm")
    channels = list(image) if isinstance(image, (list, tuple)) else [image]
    in_folder = [folder / f"image_{number:04d}{file_ending}" for number in range(len(channels))]
    if channels and all(isinstance(one, nibabel.spatialimages.SpatialImage) for one in channels):
        channels = [_read_by_itk(one, number, folder) for number, one in enumerate(channels)]
    if channels and all(isinstance(one, (str, OsPathLike)) for one in channels):
        paths = [Path(one) for one in channels]
        if all(path.is_dir() for path in paths):
            return _of_dicom(paths, in_folder)
        _require_format(paths, file_ending)
        return ImageFiles(paths, _case_of(paths, file_ending), None, str)
    if channels and all(isinstance(one, sitk.Image) for one in channels):
        paths = [written(one, path) for one, path in zip(channels, in_folder)]
        return ImageFiles(paths, None, channels[0], lambda path: f"image {paths.index(path)}")
    raise UserError("This is no image.", found=", ".join(type(one).__name__ for one in channels) or "an empty list",
                    expected="a path, a folder of DICOM files, an image of SimpleITK or nibabel, or a list with one "
                    "per channel; or an array of numpy", fix="give one of these")


def written(image: sitk.Image, file: Path) -> Path:
    """The image as a file of this format.

    Raises:
        UserError: the format cannot hold it.
    """
    try:
        sitk.WriteImage(image, str(file))
    except RuntimeError as failure:
        raise UserError("The image cannot be brought into the model's format.", found=image.GetPixelIDTypeAsString(),
                        expected=f"an image that fits into a {file.name[file.name.index('.'):]} file",
                        fix="cast it as in the training data, for example with SimpleITK.Cast") from failure
    return file


def _of_dicom(folders: Sequence[Path], paths: list[Path]) -> ImageFiles:
    """The series of each folder as a file; the name of the first folder is the case, as of ``medsegdiff_predict``."""
    try:
        read = [read_series_of_slices(folder, str(folder)) for folder in folders]
    except UnreadableScan as unreadable:
        raise unreadable.finding.as_user_error() from unreadable
    for (image, _), path in zip(read, paths):
        written(image, path)
    first, series = read[0]
    return ImageFiles(paths, case_of_folder(folders[0]), first, lambda path: str(folders[paths.index(path)]), series)


def case_of_folder(folder: Path) -> str:
    """The case that the name of a folder of slices says: without a channel ``_0000``."""
    return channel_of_folder(folder)[0]


def channel_of_folder(folder: Path) -> tuple[str, int]:
    """Case and channel that the name of a folder of slices says; channel 0 where it says none."""
    name = folder.resolve().name
    return channel_of(Path(f"{name}.dcm"), ".dcm") or (name, 0)


def _read_by_itk(image: nibabel.spatialimages.SpatialImage, number: int, folder: Path) -> sitk.Image:
    """An image of nibabel as SimpleITK reads its file."""
    file = nibabel_file(image, folder / f"nibabel_{number:04d}.nii")
    try:
        require_sound(file, f"image {number}")
        return sitk.ReadImage(str(file))
    except UnreadableScan as unreadable:
        raise unreadable.finding.as_user_error() from unreadable


def _require_format(paths: Sequence[Path], file_ending: str) -> None:
    for path in paths:
        if not path.name.endswith(file_ending):
            raise UserError(f"{path} is not of the model's format.", found=path.name,
                            expected=f"a name that ends in {file_ending}",
                            fix=f"give SimpleITK.ReadImage({str(path)!r}) instead, which is converted")


def _case_of(paths: Sequence[Path], file_ending: str) -> str:
    """The case of the first file; names with channel numbers have to be in their order."""
    names = [channel_of(path, file_ending) for path in paths]
    numbers = [name[1] for name in names if name is not None]
    if len(paths) > 1 and len(numbers) == len(paths) and numbers != list(range(len(paths))):
        raise UserError("The channels are not in their order.", found=", ".join(path.name for path in paths),
                        expected=", ".join(f"_{number:04d}" for number in range(len(paths))),
                        fix="sort the list of files")
    return names[0][0] if names[0] is not None else paths[0].name[:-len(file_ending)]
