"""A case as a picture: the slice through the reference's largest area, with contours, uncertainty and samples."""

from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from medsegdiff_auto.evaluation.case import CaseArrays
from medsegdiff_auto.nnunet.structures import Structure
from medsegdiff_auto.palette import structure_colour
from medsegdiff_auto.reporting.figures import INK, to_png

NUM_SAMPLES_DRAWN = 6
MARGIN, SMALLEST_MARGIN_VOX = 0.45, 10
REFERENCE_COLOUR = "white"
PANEL_INCHES, TITLE_INCHES = 2.6, 0.3


@dataclass(frozen=True)
class CasePicture:
    """What is drawn of a case; ``image`` has the grid's shape, or `(*shape, 3)` for RGB in [0, 1], or is None."""

    arrays: CaseArrays
    structures: list[Structure]
    image: np.ndarray | None
    uncertainty: np.ndarray | None


def draw_case(picture: CasePicture) -> bytes:
    """Image, contours of prediction and reference, uncertainty, contours of samples; panels without input are left out.
    """
    plane = _Plane.through(picture)
    panels = [("Image", None)] if picture.image is not None else []
    panels.append(("Prediction (reference white)", _draw_prediction))
    panels += [("Uncertainty", _draw_uncertainty)] if picture.uncertainty is not None else []
    panels += [("Samples (reference white)", _draw_samples)] if picture.arrays.samples is not None else []
    height = PANEL_INCHES * plane.height_over_width + TITLE_INCHES
    figure = Figure(figsize=(PANEL_INCHES * len(panels), height))
    figure.subplots_adjust(left=0, right=1, bottom=0, top=1 - TITLE_INCHES / height, wspace=0.03)
    for axes, (title, draw) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels):
        axes.imshow(plane.background(picture.image), cmap="gray", vmin=0, vmax=1, aspect=plane.aspect,
                    interpolation="nearest")
        if draw is not None:
            draw(axes, picture, plane)
        axes.set_title(title, fontsize=9, color=INK)
        axes.set_axis_off()
    return to_png(figure)


@dataclass(frozen=True)
class _Plane:
    """A slice of the grid across its coarsest axis, cropped to the structures; ``axis`` is None for a 2-D grid."""

    axis: int | None
    index: int
    rows: slice
    columns: slice
    aspect: float

    @classmethod
    def through(cls, picture: CasePicture) -> "_Plane":
        grid = picture.arrays.grid
        reference, prediction = (_foreground(picture, s) for s in (picture.arrays.reference, picture.arrays.prediction))
        if len(grid.shape) == 2:
            return cls(None, 0, *_crop(reference | prediction, grid.spacing_mm),
                       grid.spacing_mm[0] / grid.spacing_mm[1])
        axis = int(np.argmax(grid.spacing_mm))
        areas = (reference if reference.any() else prediction).sum(axis=tuple(a for a in range(3) if a != axis))
        index = int(areas.argmax()) if areas.any() else grid.shape[axis] // 2
        spacing = tuple(s for a, s in enumerate(grid.spacing_mm) if a != axis)
        return cls(axis, index, *_crop((reference | prediction).take(index, axis), spacing), spacing[0] / spacing[1])

    @property
    def height_over_width(self) -> float:
        return (self.rows.stop - self.rows.start) * self.aspect / (self.columns.stop - self.columns.start)

    def cut(self, array: np.ndarray) -> np.ndarray:
        """The plane of an array on the grid, which may have colours behind its spatial axes."""
        return (array if self.axis is None else array.take(self.index, self.axis))[self.rows, self.columns]

    def background(self, image: np.ndarray | None) -> np.ndarray:
        """The image in [0, 1], its darkest 1 and brightest 0.5 % clipped; even grey without an image."""
        if image is None:
            return np.full([s.stop - s.start for s in (self.rows, self.columns)], 0.25)
        shown = self.cut(image).astype(np.float32)
        if shown.ndim == 3:
            return shown
        low, high = np.nanpercentile(shown, (1, 99.5))
        return np.clip((shown - low) / max(high - low, 1e-6), 0, 1)


def _foreground(picture: CasePicture, segmentation: np.ndarray) -> np.ndarray:
    return np.any([structure.mask(segmentation) for structure in picture.structures], axis=0)


def _crop(area: np.ndarray, spacing: tuple[float, ...]) -> tuple[slice, slice]:
    """A window around the area, as near to a square in mm as the image allows."""
    if not area.any():
        return tuple(slice(0, length) for length in area.shape)
    corners = [(int(i.min()), int(i.max()) + 1) for i in np.nonzero(area)]
    side_mm = max((stop - start) * s for (start, stop), s in zip(corners, spacing)) * (1 + MARGIN)
    side_mm = max(side_mm, 2 * SMALLEST_MARGIN_VOX * max(spacing))
    return tuple(_window((start + stop) / 2, side_mm / s, length)
                 for (start, stop), s, length in zip(corners, spacing, area.shape))


def _window(center: float, width: float, length: int) -> slice:
    width = min(int(np.ceil(width)), length)
    start = int(np.clip(round(center - width / 2), 0, length - width))
    return slice(start, start + width)


def _contour(axes, mask: np.ndarray, shade: str, width: float, alpha: float = 1.0, outlined: bool = False) -> None:
    if mask.any() and not mask.all():
        drawn = axes.contour(mask.astype(np.float32), levels=[0.5], colors=[shade], linewidths=width, alpha=alpha)
        if outlined:
            drawn.set_path_effects([withStroke(linewidth=width + 1.2, foreground="black", alpha=0.6)])


def _draw_reference(axes, picture: CasePicture, plane: _Plane) -> None:
    for structure in picture.structures:
        _contour(axes, structure.mask(plane.cut(picture.arrays.reference)), REFERENCE_COLOUR, 1.2, outlined=True)


def _draw_prediction(axes, picture: CasePicture, plane: _Plane) -> None:
    _draw_reference(axes, picture, plane)
    for index, structure in enumerate(picture.structures):
        _contour(axes, structure.mask(plane.cut(picture.arrays.prediction)), structure_colour(index), 1.6)


def _draw_uncertainty(axes, picture: CasePicture, plane: _Plane) -> None:
    shown = np.clip(plane.cut(picture.uncertainty).astype(np.float32), 0, 1)
    axes.imshow(shown, cmap="inferno", vmin=0, vmax=1, alpha=0.25 + 0.75 * shown, aspect=plane.aspect,
                interpolation="nearest")
    _draw_reference(axes, picture, plane)


def _draw_samples(axes, picture: CasePicture, plane: _Plane) -> None:
    for sample in picture.arrays.samples[:NUM_SAMPLES_DRAWN]:
        for index, structure in enumerate(picture.structures):
            _contour(axes, structure.mask(plane.cut(sample)), structure_colour(index), 0.9, alpha=0.85)
    _draw_reference(axes, picture, plane)
