"""The learned filters as frequency maps, before and after training."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from medsegdiff_auto.explanation.layout import Panels, title
from medsegdiff_auto.explanation.responses import Response, profile
from medsegdiff_auto.explanation.words import Section, equation, number, section, source, text, upright
from medsegdiff_auto.reporting import page
from medsegdiff_auto.palette import PALETTE
from medsegdiff_auto.reporting.figures import INK, LINE, MUTED, plot_style

BAND = (5, 95)
SMALLEST_REACH = 0.01
LEGEND_BELOW = -0.3
COLOURS = "RdBu_r"
PANEL_INCHES, MAP_GAP, PROFILE_GAP, PROFILE_WIDTH, RIGHT_MARGIN = 1.7, 0.12, 0.34, 1.3, 0.06
LABEL_INCHES, TITLE_INCHES, ROW_GAP_INCHES, FOOT_INCHES = 1.35, 0.5, 0.1, 1.05


def draw_filters(found: list[Response]) -> bytes:
    """One row per filter: before, the mean over the channels, the most changed channel and its phase, the profile."""
    panels = Panels([*[1, MAP_GAP] * 3, 1, PROFILE_GAP, PROFILE_WIDTH, RIGHT_MARGIN], [1] * len(found), 1.0,
                    LABEL_INCHES, [TITLE_INCHES] + [ROW_GAP_INCHES] * (len(found) - 1), PANEL_INCHES, FOOT_INCHES)
    profiles, shown = [], [maps_of(one) for one in found]
    limits = limits_of(shown)
    for row, (one, maps) in enumerate(zip(found, shown)):
        panels.row_label(row, f"{one.name}\n{len(one.after)} channels", right_inches=LABEL_INCHES - 0.42)
        for column, (name, values) in enumerate(maps.items()):
            axes = panels.panel(row, 2 * column)
            _draw_map(axes, values, limits[column], first=column == 0, last=row == len(found) - 1)
            if row == 0:
                title(axes, name)
        profiles.append(panels.panel(row, 2 * len(maps)))
        _draw_profile(profiles[-1], one, first=row == 0, last=row == len(found) - 1)
    reach = max(max(abs(end - 1) for end in axes.get_ylim()) for axes in profiles)
    for axes in profiles:
        axes.set_ylim(1 - reach, 1 + reach)
    for column in limits:
        _draw_bar(panels, 2 * column, limits[column])
    return panels.png()


def maps_of(one: Response) -> dict[str, np.ndarray]:
    """The four maps of a row by their titles."""
    changed = one.after[one.most_changed]
    return {"before training\n$|A|$, mean of channels": np.abs(one.before).mean(0),
            "after training\n$|A|$, mean of channels": np.abs(one.after).mean(0),
            "after, $|A|$ of the\nmost changed channel": np.abs(changed),
            "its phase\n(radians)": np.angle(changed)}


def limits_of(shown: list[dict[str, np.ndarray]]) -> dict[int, tuple[float, float]]:
    """Ends of the colours per column, around 1 for magnitudes and 0 for the phase; the first two columns share theirs.
    """
    neutral = (1, 1, 1, 0)
    reach = [max(SMALLEST_REACH, *(np.abs(list(maps.values())[column] - neutral[column]).max() for maps in shown))
             for column in range(4)]
    reach[0] = reach[1]
    return {column: (neutral[column] - reach[column], neutral[column] + reach[column]) for column in range(4)}


def _draw_map(axes: Axes, values: np.ndarray, limits: tuple[float, float], first: bool, last: bool) -> None:
    axes.imshow(values, cmap=COLOURS, vmin=limits[0], vmax=limits[1], extent=(-0.5, 0.5, 0.5, -0.5),
                interpolation="nearest")
    axes.set_xticks([-0.5, 0, 0.5], ["−½", "0", "½"])
    axes.set_yticks([-0.5, 0, 0.5], ["−½", "0", "½"])
    axes.tick_params(labelsize=7.5, colors=MUTED, labelbottom=last, labelleft=first, length=2.5, pad=2)
    axes.set_xlabel("cycles per voxel" if last else "", fontsize=8, color=INK, labelpad=2)
    axes.spines[:].set_color(LINE)


def _draw_profile(axes: Axes, one: Response, first: bool, last: bool) -> None:
    radii, after = profile(np.abs(one.after))
    axes.fill_between(radii, *np.percentile(after, BAND, axis=0), color=PALETTE[0], alpha=0.22, lw=0,
                      label=f"{BAND[0]} to {BAND[1]} % of channels")
    axes.plot(radii, after.mean(0), color=PALETTE[0], lw=1.8, label="mean, after")
    axes.plot(radii, profile(np.abs(one.before))[1].mean(0), color=INK, lw=1, ls="--", label="before")
    plot_style(axes, "", "cycles per voxel" if last else "", "")
    axes.set(xlim=(0, 0.5))
    axes.tick_params(labelbottom=last)
    if first:
        title(axes, "$|A|$ by distance\nfrom zero frequency")
    if last:
        axes.legend(fontsize=7.5, frameon=False, loc="upper center", bbox_to_anchor=(0.5, LEGEND_BELOW), ncols=2,
                    columnspacing=1.0, handlelength=1.4, borderaxespad=0)


def _draw_bar(panels: Panels, column: int, limits: tuple[float, float]) -> None:
    place = panels.lefts[column] / panels.width, 0.3 / panels.height, \
        (panels.widths[column] - 0.06) / panels.width, 0.09 / panels.height
    axes = panels.figure.add_axes(place)
    bar = panels.figure.colorbar(ScalarMappable(Normalize(*limits), COLOURS), cax=axes, orientation="horizontal")
    middle = sum(limits) / 2
    ticks = [middle + 0.8 * (end - middle) for end in (limits[0], middle, limits[1])]
    bar.set_ticks(ticks, labels=[number(tick) for tick in ticks])
    bar.outline.set_visible(False)
    axes.tick_params(labelsize=7.5, colors=MUTED, length=2.5, pad=2)


def filters_section(found: list[Response], dimension: int) -> Section:
    """The section about the filters, or that there are none."""
    heading = "The filters in the Fourier domain"
    if not found:
        return Section("filters", heading, page.missing("This model has none: its preset filters no features in the "
                                                        "Fourier domain."))
    before = text("MedSegDiff lets the features of the noisy mask pass through a filter before they meet the image: "
                  "noise lives at all frequencies, the mask mostly at low ones, and the filter (the FF-Parser) learns "
                  "per channel what to let through. <i>m</i> are the features, <i>A</i> the learned complex map, one "
                  "value per channel and frequency:")
    before += equation(f"m′ = {upright('IFFT')}(A · {upright('FFT')}(m))")
    before += text(
        "|A| &gt; 1 (red) lets a frequency through stronger than before, |A| &lt; 1 (blue) damps it, and a "
        "phase moves it in space. Before training every filter is the identity, A = 1. The maps are what the "
        "modules of the averaged network do to an "
        "impulse" + ("; they show the plane of zero frequency along the first axis." if dimension == 3 else "."))
    after = text(
        "Frequencies are in cycles per voxel of the stage's own grid: 1/2 is a pattern that changes from voxel "
        "to voxel, 0 the mean. A coarser stage sees longer structures at the same frequency. Where the maps "
        "stay near 1, training has hardly changed the filter.")
    after += source("MedSegDiff (Wu et al. 2022), equations 5 and 6; here A is kept on a grid of frequencies and "
                    "interpolated, so that one filter serves every patch size. MedSegDiff-V2 (Wu et al. 2023) filters "
                    "query and key of its transformer instead, depending on t; its filters are shown at t = 1/2.")
    return section(
        "filters", heading, before, draw_filters(found), "Learned filters as frequency maps before and after "
        "training", "Zero frequency in the middle of each map. Axes in cycles per voxel. One colour scale per column; "
        "the first two share theirs.", after)
