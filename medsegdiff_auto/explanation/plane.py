"""The plane of a tile that is drawn, and the window in it."""

from __future__ import annotations

from dataclasses import dataclass
from collections.abc import Sequence

import numpy as np

WINDOW_PER_STRUCTURE, SMALLEST_WINDOW_VOX = 1.7, 40


@dataclass(frozen=True)
class Plane:
    """The slice of a tile across its first axis (2-D: the tile itself) and the window of it that is shown.

    Attributes:
        size: of the tile, (*patch).
        index: of the slice along the first axis; None in 2-D.
        rows, columns: the window, in voxels of the tile.
        aspect: height of a voxel over its width.
    """

    size: tuple[int, ...]
    index: int | None
    rows: tuple[int, int]
    columns: tuple[int, int]
    aspect: float

    @classmethod
    def through(cls, foreground: np.ndarray, spacing: Sequence[float]) -> Plane:
        """The slice with the most foreground, (*patch) bool, and a window around the structures in it."""
        index = None
        if foreground.ndim == 3:
            area = foreground.sum(axis=(1, 2))
            index = int(area.argmax()) if area.any() else len(area) // 2
        shown = foreground if index is None else foreground[index]
        return cls(foreground.shape, index, *window_around(shown, spacing[-2:]), spacing[-2] / spacing[-1])

    @property
    def height_over_width(self) -> float:
        """Height over width of the window as it is shown."""
        return (self.rows[1] - self.rows[0]) * self.aspect / (self.columns[1] - self.columns[0])

    def cut(self, array):
        """(..., *spatial) to (..., height, width); ``spatial`` is the tile's size or that of a coarser feature map."""
        if self.index is None:
            return array
        return array[..., int((self.index + 0.5) * array.shape[-3] / self.size[0]), :, :]

    def show(self, axes, picture: np.ndarray, **options) -> None:
        """A plane (height, width[, 3]) of any resolution, in the window."""
        height, width = self.size[-2:]
        axes.imshow(picture, extent=(0, width, height, 0), aspect=self.aspect, interpolation="nearest", **options)
        axes.set(xlim=self.columns, ylim=self.rows[::-1], xticks=[], yticks=[])
        axes.set_frame_on(False)

    def contour(self, axes, mask: np.ndarray, shade: str, width: float):
        """The outline of a mask (height, width) of the tile's resolution; None where there is none."""
        if not mask.any() or mask.all():
            return None
        rows, columns = (np.arange(n) + 0.5 for n in mask.shape)
        return axes.contour(columns, rows, mask.astype(np.float32), levels=[0.5], colors=[shade], linewidths=width)


def window_around(area: np.ndarray, spacing: Sequence[float]) -> list[tuple[int, int]]:
    """Start and stop along both axes of a window as square as the area's plane allows; all of it without an area."""
    if not area.any():
        return [(0, n) for n in area.shape]
    corners = [(int(places.min()), int(places.max()) + 1) for places in np.nonzero(area)]
    side = max(WINDOW_PER_STRUCTURE * (stop - start) * s for (start, stop), s in zip(corners, spacing))
    side = max(side, SMALLEST_WINDOW_VOX * min(spacing))
    window = []
    for (start, stop), s, length in zip(corners, spacing, area.shape):
        width = min(int(np.ceil(side / s)), length)
        first = int(np.clip(round((start + stop - width) / 2), 0, length - width))
        window.append((first, first + width))
    return window
