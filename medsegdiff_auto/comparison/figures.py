"""Figures of a comparison as PNG bytes, each narrow enough for a phone: differences, cases, risk by coverage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from medsegdiff_auto.reporting.figures import INK, MUTED, PALETTE, colour, plot_style, to_png

PANEL_INCHES = 3.2  # three beside each other on the page, one on a phone
VERDICT_COLOURS = {"better": PALETTE[2], "worse": PALETTE[1], "not resolved": MUTED}


def forest(differences: Mapping[str, Mapping], title: str, x_label: str) -> bytes:
    """The mean difference of every method with its interval; the colour says what is resolved.

    Args:
        differences: by the method's title, with ``mean_difference``, ``low``, ``high`` and ``verdict``.
    """
    figure = Figure(figsize=(PANEL_INCHES, 0.95 + 0.3 * len(differences)), layout="constrained")
    axes = figure.subplots()
    axes.axvline(0, color=INK, lw=1)
    for place, row in enumerate(reversed(differences.values())):
        shade = VERDICT_COLOURS[row["verdict"]]
        axes.plot([row["low"], row["high"]], [place, place], color=shade, lw=2.2, solid_capstyle="butt")
        axes.plot(row["mean_difference"], place, "s", color=shade, ms=6)
    plot_style(axes, title, x_label, "")
    axes.set_yticks(range(len(differences)), reversed(differences.keys()), fontsize=8.5, color=INK)
    axes.set_ylim(-0.6, len(differences) - 0.4)
    axes.locator_params(axis="x", nbins=5)
    axes.grid(axis="y", visible=False)
    return to_png(figure)


def scatter(x: np.ndarray, y: np.ndarray, title: str, x_label: str, y_label: str, more_is_better: bool) -> bytes:
    """One point for each patient; the side of the diagonal on which the method of the y axis is better is shaded."""
    figure = Figure(figsize=(PANEL_INCHES, PANEL_INCHES), layout="constrained")
    axes = figure.subplots()
    both = np.concatenate([x, y])
    margin = 0.05 * np.ptp(both) or 0.05
    limits = float(both.min() - margin), float(both.max() + margin)
    edge = limits[1] if more_is_better else limits[0]
    axes.fill_between(limits, limits, [edge, edge], color=PALETTE[2], alpha=0.08, lw=0)
    axes.plot(limits, limits, color=MUTED, lw=1, ls=":")
    axes.plot(x, y, "o", color=PALETTE[0], ms=4.5, alpha=0.6, mew=0)
    axes.set(xlim=limits, ylim=limits, aspect="equal")
    plot_style(axes, title, x_label, y_label)
    return to_png(figure)


def risk_coverage(curves: Mapping[str, tuple[np.ndarray, float]], best: np.ndarray, title: str) -> bytes:
    """Mean risk of the masks that are kept, as more and more are kept, by estimate.

    Args:
        curves: by label, the risks (n,) of the 1, 2, ... n surest masks, and the AURC.
        best: that of a perfect order.
    """
    figure = Figure(figsize=(1.3 * PANEL_INCHES, PANEL_INCHES), layout="constrained")
    axes = figure.subplots()
    axes.plot(_coverages(best), best, color=MUTED, lw=1.2, ls="--", label=f"perfect order ({best.mean():.3f})")
    axes.axhline(best[-1], color=MUTED, lw=1, ls=":", label=f"no order ({best[-1]:.3f})")
    for index, (label, (risks, area)) in enumerate(curves.items()):
        axes.plot(_coverages(risks), risks, color=colour(index), lw=1.8, label=f"{label} ({area:.3f})")
    axes.set(xlim=(0, 1), ylim=(0, None))
    plot_style(axes, title, "share of masks that are kept", "mean 1 - Dice of the kept")
    axes.legend(fontsize=8, frameon=False, loc="best")
    return to_png(figure)


def _coverages(risks: Sequence[float]) -> np.ndarray:
    return np.arange(1, len(risks) + 1) / len(risks)
