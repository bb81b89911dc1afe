"""Rows and columns of panels in inches, with their labels and a legend, in the look of the report's pictures."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from medsegdiff_auto.reporting.figures import INK, to_png

WIDTH_INCHES = 10.2
GAP_INCHES, LEGEND_INCHES = 0.06, 0.34


class Panels:
    """A figure of page width with places for panels of one shape.

    Args:
        columns: widths of the columns, relative to each other; 0.2 makes a gap.
        rows: heights of the rows, relative to the height of a panel of width 1.
        height_over_width: of a panel of width 1 and height 1.
        label_inches: room for the labels of the rows.
        title_inches: room above every row, for the titles; one number per row.
        largest_inches: width 1 is at most this; the figure becomes narrower.
        foot_inches: room below, for the legend.
    """

    def __init__(self, columns: Sequence[float], rows: Sequence[float], height_over_width: float, label_inches: float,
                 title_inches: Sequence[float], largest_inches: float = 1.9, foot_inches: float = LEGEND_INCHES):
        unit = min(largest_inches, (WIDTH_INCHES - label_inches) / sum(columns))
        self.width = label_inches + unit * sum(columns)
        heights = [row * unit * height_over_width for row in rows]
        self.height = sum(heights) + sum(title_inches) + foot_inches
        self.figure = Figure(figsize=(self.width, self.height))
        self.lefts = [label_inches + unit * sum(columns[:i]) for i in range(len(columns))]
        self.widths = [unit * column for column in columns]
        self.bottoms = [self.height - sum(title_inches[:i + 1]) - sum(heights[:i + 1]) for i in range(len(rows))]
        self.heights = heights

    def panel(self, row: int, column: int, last_row: int | None = None) -> Axes:
        """The panel at a place; down to ``last_row`` where it is given."""
        bottom = self.bottoms[row if last_row is None else last_row]
        top = self.bottoms[row] + self.heights[row]
        left, width = self.lefts[column], self.widths[column] - GAP_INCHES
        return self.figure.add_axes((left / self.width, (bottom + GAP_INCHES / 2) / self.height, width / self.width,
                                     (top - bottom - GAP_INCHES) / self.height))

    def row_label(self, row: int, label: str, last_row: int | None = None, right_inches: float | None = None) -> None:
        """A text before a row, or before the middle of several."""
        bottom = self.bottoms[row if last_row is None else last_row]
        middle = (bottom + self.bottoms[row] + self.heights[row]) / 2
        right = (self.lefts[0] if right_inches is None else right_inches) - 0.1
        self.figure.text(right / self.width, middle / self.height, label, ha="right", va="center",
                         fontsize=9, color=INK, linespacing=1.35)

    def headline(self, row: int, left_inches: float, label: str, title_inches: float) -> None:
        """A text above the titles of a row."""
        y = self.bottoms[row] + self.heights[row] + title_inches
        self.figure.text(left_inches / self.width, y / self.height, label, ha="left", va="top", fontsize=10, color=INK)

    def png(self, legend: Sequence[Artist] = ()) -> bytes:
        """The picture with a legend below."""
        if legend:
            self.figure.legend(handles=list(legend), loc="lower center", bbox_to_anchor=(0.5, 0),
                               ncols=min(len(legend), 6), frameon=False, fontsize=9, handlelength=1.2, handleheight=1.0)
        return to_png(self.figure)


def title(axes: Axes, words: str, size: float = 8.5) -> None:
    """A title of one or several lines above a panel."""
    axes.set_title(words, fontsize=size, color=INK, linespacing=1.35, pad=4)
