"""One image as the files that nnU-Net's readers read, whether it comes as files or in memory."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike as OsPathLike
from pathlib import Path
from collections.abc import Callable, Sequence

import SimpleITK as sitk

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.checks.dataset_json import channel_of

PathLike = str | OsPathLike


@dataclass(frozen=True)
class ImageFiles:
    """The files of one image.

    Attributes:
        paths: one per channel, in their order.
        case: that the name of the first file gives; None for an image in memory.
        image: the first channel of an image in memory.
        shown: the name of a file in messages.
    """

    paths: list[Path]
    case: str | None
    image: sitk.Image | None
    shown: Callable[[Path], str]


def image_files(image, file_ending: str, folder: Path) -> ImageFiles:
    """The files of an image: themselves, or written into ``folder`` in the format that the model reads.

    Raises:
        UserError: it is neither a path nor a SimpleITK image nor a list of one of them, or not of the model's format.
    """
    channels = list(image) if isinstance(image, (list, tuple)) else [image]
    if channels and all(isinstance(one, (str, OsPathLike)) for one in channels):
        paths = [Path(one) for one in channels]
        _require_format(paths, file_ending)
        return ImageFiles(paths, _case_of(paths, file_ending), None, str)
    if channels and all(isinstance(one, sitk.Image) for one in channels):
        paths = [written(one, folder / f"image_{number:04d}{file_ending}") for number, one in enumerate(channels)]
        return ImageFiles(paths, None, channels[0], lambda path: f"image {paths.index(path)}")
    raise UserError("This is no image.", found=", ".join(type(one).__name__ for one in channels) or "an empty list",
                    expected="a path or a SimpleITK image, or a list with one per channel",
                    fix="make an image of an array with SimpleITK.GetImageFromArray and set its spacing")


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
