"""Plain figures as PNG bytes: training curves, reliability, error by uncertainty, size intervals."""

import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from medsegdiff_auto.evaluation.calibration import Reliability
from medsegdiff_auto.palette import PALETTE, colour

INK, MUTED, LINE = "#1c2530", "#5d6b7a", "#dfe4ea"
DOTS_PER_INCH = 160


def to_png(figure: Figure, dots_per_inch: float = DOTS_PER_INCH) -> bytes:
    """Render a figure."""
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dots_per_inch, facecolor="white")
    return buffer.getvalue()


def training_curves(folds: Mapping[str, Mapping[str, Sequence[float]]]) -> bytes:
    """Loss (training solid, validation dashed) and running Dice of the validation patches, one colour per fold."""
    figure = Figure(figsize=(9.6, 3.3), layout="constrained")
    losses, scores = figure.subplots(1, 2)
    for index, (name, curves) in enumerate(folds.items()):
        marker = "o" if len(curves["train_losses"]) < 3 else None
        _curve(losses, curves["train_losses"], f"{name}, training", colour(index), "-", marker)
        _curve(losses, curves["val_losses"], f"{name}, validation", colour(index), "--", marker)
        scores.plot(*_epochs(curves["mean_fg_dice"]), color=colour(index), lw=0.8, alpha=0.35)
        _curve(scores, curves["ema_fg_dice"], name, colour(index), "-", marker)
    _finish(losses, "Loss", "epoch", "loss")
    _finish(scores, "Dice on validation patches (running mean)", "epoch", "Dice")
    return to_png(figure)


def reliability_diagram(panels: Mapping[str, Mapping[str, Reliability]], panel_inches: float = 4.6) -> bytes:
    """One panel per kind of truth, one line per structure; a marker's area shows how many voxels stand behind it."""
    figure = Figure(figsize=(panel_inches * len(panels) + 0.4, panel_inches - 0.3), layout="constrained")
    for axes, (title, curves) in zip(np.atleast_1d(figure.subplots(1, len(panels), squeeze=False)[0]), panels.items()):
        axes.plot([0, 1], [0, 1], color=MUTED, lw=1, ls=":")
        for index, (name, curve) in enumerate(curves.items()):
            axes.plot(curve.mean_confidence, curve.mean_outcome, color=colour(index), lw=1.5,
                      label=f"{name} (ECE {curve.expected_calibration_error:.3f})")
            share = curve.counts / max(curve.counts.sum(), 1)
            axes.scatter(curve.mean_confidence, curve.mean_outcome, s=8 + 260 * share, color=colour(index), zorder=3)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        _finish(axes, title, "predicted probability",
                "mean outcome" if "reference" in title else "mean true probability")
    return to_png(figure)


def error_by_uncertainty(curve: Reliability) -> bytes:
    """The error rate of the voxels in each bin of uncertainty, above the share of voxels in the bin."""
    figure = Figure(figsize=(5.6, 4.2), layout="constrained")
    rate, share = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    edges = np.linspace(0, 1, len(curve.counts) + 1)
    width = edges[1] - edges[0]
    rate.plot(curve.mean_confidence, curve.mean_outcome, "o-", color=PALETTE[1], lw=1.6, ms=5)
    share.bar(edges[:-1] + width / 2, curve.counts / curve.counts.sum(), 0.86 * width, color=PALETTE[5])
    rate.set(ylim=(0, None), xlim=(0, 1))
    _finish(rate, "Error rate by uncertainty", "", "share of wrong voxels")
    _finish(share, "", "uncertainty", "share of voxels")
    return to_png(figure)


def size_intervals(intervals: Mapping[str, np.ndarray], unit: str) -> bytes:
    """One panel per structure from rows ``(reference, low, predicted, high)``: the interval against the reference's
    size.
    """
    figure = Figure(figsize=(4.6 * len(intervals) + 0.4, 4.2), layout="constrained")
    for axes, (name, rows) in zip(figure.subplots(1, len(intervals), squeeze=False)[0], intervals.items()):
        reference, low, predicted, high = rows.T
        inside = (low <= reference) & (reference <= high)
        for hit, shade, label in ((True, PALETTE[0], "holds the reference"), (False, PALETTE[1], "misses it")):
            chosen = inside == hit
            axes.vlines(reference[chosen], low[chosen], high[chosen], color=shade, lw=1.8,
                        label=f"{label} ({chosen.sum()})")
            axes.plot(reference[chosen], predicted[chosen], "o", color=shade, ms=4)
        margin = 0.06 * (rows.max() - rows.min()) or 1.0
        limits = rows.min() - margin, rows.max() + margin
        axes.plot(limits, limits, color=MUTED, lw=1, ls=":")
        axes.set(xlim=limits, ylim=limits, aspect="equal")
        _finish(axes, name, f"reference ({unit})", f"prediction, 5 to 95 % ({unit})")
    return to_png(figure)


def _epochs(values: Sequence[float]) -> tuple[np.ndarray, Sequence[float]]:
    return np.arange(1, len(values) + 1), values


def _curve(axes, values: Sequence[float], label: str, shade: str, style: str, marker: str | None) -> None:
    axes.plot(*_epochs(values), color=shade, ls=style, lw=1.5, marker=marker, ms=4, label=label)


def plot_style(axes, title: str, x_label: str, y_label: str) -> None:
    """The look of every plot: heading and labels in ink, quiet ticks, spines and grid."""
    axes.set_title(title, fontsize=10, color=INK, loc="left")
    axes.set_xlabel(x_label, fontsize=9, color=INK)
    axes.set_ylabel(y_label, fontsize=9, color=INK)
    axes.tick_params(labelsize=8, colors=MUTED)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(MUTED)
    axes.grid(color=LINE, lw=0.6)
    axes.set_axisbelow(True)


def _finish(axes, title: str, x_label: str, y_label: str) -> None:
    plot_style(axes, title, x_label, y_label)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8, frameon=False, loc="best")
