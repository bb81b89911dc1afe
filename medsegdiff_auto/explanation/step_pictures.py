"""Pictures of the step-by-step notebook: rows of maps, and curves, small enough to be read on a forge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from medsegdiff_auto.reporting.figures import INK, MUTED, colour, plot_style, to_png

DOTS_PER_INCH = 72
LARGEST_INCHES_OF_A_MAP, INCHES_OF_A_LABEL, INCHES_OF_A_TITLE, INCHES_OF_A_BAR = 1.3, 1.15, 0.2, 0.62
INCHES_BETWEEN, INCHES_OF_THE_BORDER = 0.08, 0.08
LARGEST_WIDTH_INCHES = 10.5


class Kind(NamedTuple):
    """How a map is shown; without limits as far as most of its own values go, and without a colour bar."""

    colours: str
    limits: tuple[float, float] | None


KINDS = {"image": Kind("gray", None), "feature": Kind("RdBu_r", None), "state": Kind("gray", (-1, 1)),
         "mask": Kind("gray", (0, 1)), "share": Kind("viridis", (0, 1)), "signed": Kind("RdBu_r", (-3, 3))}


class Picture:
    """A figure that a notebook shows where it is the last value of a cell."""

    def __init__(self, figure: Figure):
        self.figure = figure

    def _repr_png_(self) -> bytes:
        return to_png(self.figure, DOTS_PER_INCH)


def maps(rows: Mapping[str, tuple[str, Sequence[Any]]], titles: Sequence[str] = (), images: Sequence[Any] = (),
         outline: Any = None) -> Picture:
    """Rows of maps, each named on its left.

    Args:
        rows: by their names, the kind of :data:`KINDS` and maps (..., height, width) with one value per pixel; None
            leaves a place empty.
        titles: of the columns, that of the images included.
        images: one per row, shown to the left of its maps.
        outline: a mask (..., height, width) whose border is drawn into every map of its size.
    """
    placed = [[("image", image)] * (image is not None) + [(kind, values) for values in row]
              for (kind, row), image in zip(rows.values(), [*images, *[None] * (len(rows) - len(images))])]
    num_columns, above = max(map(len, placed)), 0.04 + INCHES_OF_A_TITLE * max(map(_num_lines, titles), default=0)
    room = LARGEST_WIDTH_INCHES - INCHES_OF_A_LABEL - INCHES_OF_A_BAR
    size = min(LARGEST_INCHES_OF_A_MAP, room / num_columns) - INCHES_BETWEEN
    pitch = size + INCHES_BETWEEN
    width = INCHES_OF_A_LABEL + num_columns * pitch + INCHES_OF_A_BAR
    height = above + len(rows) * pitch + INCHES_OF_THE_BORDER
    figure = Figure(figsize=(width, height))
    for number, (name, row) in enumerate(zip(rows, placed)):
        bottom = 1 - (above + (number + 1) * pitch - INCHES_BETWEEN) / height
        figure.text(0.06 / width, bottom + size / height / 2, name, fontsize=9, color=INK, va="center")
        for column, (kind, values) in enumerate(row):
            if values is not None:
                left = (INCHES_OF_A_LABEL + column * pitch) / width
                axes = figure.add_axes((left, bottom, size / width, size / height))
                shown = _show(axes, _plane(values), KINDS[kind], outline)
                if number == 0 and column < len(titles):
                    axes.set_title(titles[column], fontsize=9, color=INK, pad=4)
        if KINDS[row[-1][0]].limits:
            bar = figure.add_axes(((width - INCHES_OF_A_BAR + 0.05) / width, bottom, 0.09 / width, size / height))
            figure.colorbar(shown, cax=bar, ticks=np.linspace(*KINDS[row[-1][0]].limits, 3))
            bar.tick_params(labelsize=7, colors=MUTED, length=2)
    return Picture(figure)


def curves(panels: Mapping[str, tuple[str, str, Mapping[str, Any]]], logarithmic: str = "",
           height: float = 2.9) -> Picture:
    """Panels of curves.

    Args:
        panels: by their titles, the words of both axes, and curves (x, y) by their names; a name that begins with a dot
            is drawn in dots.
        logarithmic: the axes of all panels that are, of ``xy``.
    """
    figure = Figure(figsize=(min(LARGEST_WIDTH_INCHES, 5.2 * len(panels)), height), layout="constrained")
    for axes, (title, (x_label, y_label, lines)) in zip(figure.subplots(1, len(panels), squeeze=False)[0],
                                                        panels.items()):
        for index, (name, (x, y)) in enumerate(lines.items()):
            dotted = name.startswith(".")
            style = {"ls": "", "marker": "o", "ms": 4, "markevery": max(1, len(x) // 25)} if dotted else {"lw": 1.6}
            axes.plot(np.asarray(x), np.asarray(y), color=colour(index), label=name.removeprefix("."), **style)
        axes.set(**{f"{axis}scale": "log" for axis in logarithmic})
        plot_style(axes, title, x_label, y_label)
        if any(lines):
            axes.legend(fontsize=8, frameon=False, loc="best")
    return Picture(figure)


def _num_lines(words: str) -> int:
    return words.count("\n") + 1 if words else 0


def _plane(values: Any) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    return values.reshape(values.shape[-2:])


def _show(axes: Any, values: np.ndarray, kind: Kind, outline: Any) -> Any:
    limits = kind.limits or np.percentile(values, (1, 99))
    if kind is KINDS["feature"]:
        largest = np.percentile(np.abs(values), 95)
        limits = (-largest, largest)
    shown = axes.imshow(values, cmap=kind.colours, vmin=limits[0], vmax=limits[1], interpolation="nearest")
    if outline is not None and _plane(outline).shape == values.shape:
        axes.contour(_plane(outline), levels=[0.5], colors=[colour(1)], linewidths=1.0)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    return shown
