"""How large a case is on the way from its file to the network, before anything but the file's header is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import SimpleITK as sitk

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.files.unreadable import not_an_image
from medsegdiff_auto.nnunet.managers import ConfigurationManager, PlansManager
from medsegdiff_auto.nnunet.properties import LONE_SLICE
from medsegdiff_auto.nnunet.resampling import network_shape, require_sensible_shape


@dataclass(frozen=True)
class CaseSize:
    """Size of one case.

    Attributes:
        num_channels, num_outputs: of the network.
        image_shape: of the file, (z, y, x).
        shape: on the network's grid, (*spatial).
    """

    num_channels: int
    num_outputs: int
    image_shape: tuple[int, ...]
    shape: tuple[int, ...]

    @property
    def is_resampled(self) -> bool:
        """Whether the network's grid is another than the file's, in whatever order of the axes."""
        return sorted(self.image_shape) != sorted(self.shape)


def size_of_file(image_file: Path, num_channels: int, num_outputs: int, plans_manager: PlansManager,
                 configuration_manager: ConfigurationManager) -> CaseSize:
    """By the header of the first channel: the largest that the case can be, as if nothing were cropped.

    Raises:
        UserError: the file is no image, or the spacing makes the case empty or absurdly large.
    """
    header = sitk.ImageFileReader()
    header.SetFileName(str(image_file))
    try:
        header.ReadImageInformation()
    except RuntimeError as failure:
        finding = not_an_image(str(image_file), failure).finding
        raise UserError(f"{finding.file} {finding.check}.", found=finding.found, expected=finding.expected,
                        fix=finding.fix) from failure
    image_shape, spacing = header.GetSize()[::-1], list(header.GetSpacing()[::-1])
    if len(image_shape) == 2:
        image_shape, spacing = (1, *image_shape), [LONE_SLICE * max(spacing), *spacing]
    shape = network_shape(image_shape, spacing, plans_manager, configuration_manager)
    require_sensible_shape(shape, image_shape, spacing, str(image_file))
    return CaseSize(num_channels, num_outputs, tuple(image_shape), shape)
