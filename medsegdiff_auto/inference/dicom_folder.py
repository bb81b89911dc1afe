"""A folder of DICOM series as the folder of images that nnU-Net's readers read."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.files.dicom_series import Series, holds_dicom, read_series_of_slices
from medsegdiff_auto.files.listing import ending_of, visible
from medsegdiff_auto.files.unreadable import UnreadableScan
from medsegdiff_auto.inference.image_input import channel_of_folder, written

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Images:
    """Images as files of the model's format.

    Attributes:
        folder: that holds them, ``CASE_0000.ENDING``.
        series: of the first channel by case; none where the images are no DICOM.
        sources: the folder of slices by the path of its image.
        left_out: cases of a series that cannot be read.
    """

    folder: Path
    series: dict[str, Series] = field(default_factory=dict)
    sources: dict[Path, Path] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    def shown(self, path: Path) -> str:
        """The name of an image in messages."""
        return str(self.sources.get(path, path))


@contextmanager
def as_images(folder: Path, file_ending: str) -> Iterator[Images]:
    """The images of a folder: itself, or its DICOM series as files that live as long as the block.

    A folder of slices is one case with the name of the folder; a folder of such folders holds a case in each, or, named
    ``CASE_0000``, ``CASE_0001``, ..., a channel of a case.

    Raises:
        UserError: DICOM series lie beside other images, or the only series is no straight, evenly spaced grid.
    """
    series_folders = _series_folders(folder)
    if not series_folders:
        yield Images(folder)
        return
    with TemporaryDirectory(prefix="medsegdiff_dicom_") as place:
        images = Images(Path(place))
        for source in series_folders:
            case, channel = channel_of_folder(source)
            path = images.folder / f"{case}_{channel:04d}{file_ending}"
            if path in images.sources:
                raise UserError(f"Two DICOM series are the same channel of {case}.",
                                found=f"{images.sources[path]}, {source}", expected="CASE_0000, CASE_0001, ...",
                                fix="rename one of the folders")
            images.sources[path] = source
            try:
                image, series = read_series_of_slices(source, str(source))
                written(image, path)
            except (UnreadableScan, UserError) as failure:
                error = failure.finding.as_user_error() if isinstance(failure, UnreadableScan) else failure
                if len(series_folders) == 1:
                    raise error from failure
                logger.error("%s", error)
                images.left_out.append(case)
            else:
                if channel == 0:
                    images.series[case] = series
        for path, source in images.sources.items():
            if channel_of_folder(source)[0] in images.left_out:
                path.unlink(missing_ok=True)
        if not any(path.exists() for path in images.sources):
            raise UserError("No DICOM series could be read.", found=f"{len(series_folders)} that failed, see above",
                            expected="series that are straight, evenly spaced grids", fix="see to the errors above")
        yield images


def _series_folders(folder: Path) -> list[Path]:
    """The folders of slices: the folder itself, or those in it; none where there is no DICOM."""
    if not folder.is_dir():
        return []
    if holds_dicom(folder):
        return [folder.resolve()]
    entries = visible(folder)
    found = [entry for entry in entries if entry.is_dir() and holds_dicom(entry)]
    others = [entry for entry in entries if entry not in found and (entry.is_dir() or ending_of(entry.name))]
    if found and others:
        raise UserError(f"{folder} holds DICOM series and something else.",
                        found=f"{len(found)} folders of DICOM files, and {others[0].name}",
                        expected="folders of one DICOM series each, or images", fix="put the others elsewhere")
    return found
