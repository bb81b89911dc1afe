"""The noise schedule: log-SNR, alpha and sigma, the solver's times, and the structure sizes behind the shift."""

from __future__ import annotations

import math
from html import escape

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from medsegdiff_auto.diffusion.configuration import DiffusionConfiguration
from medsegdiff_auto.diffusion.schedules import Schedule, trailing_times
from medsegdiff_auto.explanation.layout import WIDTH_INCHES
from medsegdiff_auto.explanation.words import Section, equation, number, section, source, text, upright
from medsegdiff_auto.planning.fingerprint import STRUCTURES_KEY
from medsegdiff_auto.palette import PALETTE
from medsegdiff_auto.reporting.figures import INK, MUTED, plot_style, to_png
from medsegdiff_auto.reporting.tables import Column, table

SHOWN_LOG_SNR = 14.0
CIRCLES = {"mfc": "white", "mew": 1.5, "ms": 5.5, "clip_on": False, "zorder": 5}
PLANNED, UNSHIFTED, SIGMA = PALETTE[0], MUTED, PALETTE[1]


def contributions(c: DiffusionConfiguration) -> list[float]:
    """log(ref / d_i) of every axis; their sum is the shift."""
    return [math.log(c.noise.reference_vox / diameter) for diameter in c.noise.structure_diameter_vox]


def is_compared(c: DiffusionConfiguration) -> bool:
    """Whether the cosine schedule without a shift is another one than the plan's."""
    return c.noise.schedule != "cosine" or c.noise.log_snr_shift != 0


def structure_rows(fingerprint: dict | None, spacing: list[float], transpose: list[int]) -> list[dict]:
    """Name and diameter in voxels of every structure that the planner measured; the axes are the network's."""
    rows = []
    for name, measured in ((fingerprint or {}).get(STRUCTURES_KEY) or {}).items():
        if measured["share_of_cases"] > 0:
            diameter_mm = [measured["diameter_mm"][axis] for axis in transpose][-len(spacing):]
            rows.append({"name": name} | {f"axis {i}": mm / s for i, (mm, s) in enumerate(zip(diameter_mm, spacing))})
    return rows


def draw_schedule(c: DiffusionConfiguration, num_steps: int) -> bytes:
    """log-SNR, alpha and sigma over t, with the solver's times, and the shift's parts per axis where there is one."""
    shifted = c.noise.log_snr_shift != 0
    figure = Figure(figsize=(WIDTH_INCHES, 3.5), layout="constrained")
    log_snr, signal, *parts = figure.subplots(1, 2 + shifted, width_ratios=[1.25, 1.1, 1][:2 + shifted])
    times = trailing_times(num_steps)[:-1]
    _draw_log_snr(log_snr, c, times)
    _draw_signal(signal, c, times)
    if shifted:
        _draw_parts(parts[0], c)
    return to_png(figure)


def _draw_log_snr(axes: Axes, c: DiffusionConfiguration, times: torch.Tensor) -> None:
    t, schedule = torch.linspace(0.001, 1, 1000, dtype=torch.float64), c.noise.law
    if is_compared(c):
        axes.plot(t, Schedule("cosine").log_snr(t), color=UNSHIFTED, lw=1.4, ls="--", label="cosine, not shifted")
    axes.plot(
        t, schedule.log_snr(t), color=PLANNED, lw=2,
        label=f"{c.noise.schedule}, shifted by {number(c.noise.log_snr_shift)}"
        if c.noise.log_snr_shift else f"{c.noise.schedule} (planned)")
    values = schedule.log_snr(times)
    axes.plot(times, values.clamp(min=-SHOWN_LOG_SNR), "o", color=PLANNED, **CIRCLES,
              label=f"the solver's {len(times)} evaluations" if len(times) > 1 else "the solver's evaluation")
    axes.axhline(0, color=INK, lw=0.8)
    axes.text(0.99, 0.35, "as much signal as noise", ha="right", va="bottom", fontsize=8, color=MUTED)
    axes.set(xlim=(0, 1), ylim=(-SHOWN_LOG_SNR, SHOWN_LOG_SNR))
    plot_style(axes, "Log signal-to-noise ratio", "time $t$", r"$\lambda_t = \log(\alpha_t^2/\sigma_t^2)$")
    axes.legend(fontsize=8, frameon=False, loc="lower left")


def _draw_signal(axes: Axes, c: DiffusionConfiguration, times: torch.Tensor) -> None:
    t = torch.linspace(0, 1, 1001, dtype=torch.float64)
    shades, names = (PLANNED, SIGMA), (r"$\alpha_t$, signal", r"$\sigma_t$, noise")
    if is_compared(c):
        for values, shade in zip(Schedule("cosine").alpha_sigma(t), shades):
            axes.plot(t, values, color=shade, ls="--", lw=1.1, alpha=0.6)
    for values, shade, name in zip(c.noise.law.alpha_sigma(t), shades, names):
        axes.plot(t, values, color=shade, lw=2, label=name)
    for values, shade in zip(c.noise.law.alpha_sigma(times), shades):
        axes.plot(times, values, "o", color=shade, **CIRCLES)
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    plot_style(axes, "What is left of the mask", "time $t$", "factor of mask and noise")
    axes.legend(fontsize=8, loc="center right", framealpha=0.92, edgecolor="none", borderpad=0.3)


def _draw_parts(axes: Axes, c: DiffusionConfiguration) -> None:
    values = [*contributions(c), c.noise.log_snr_shift]
    names = [f"axis {i}\n$d_{i}$ = {diameter:.3g} voxels" for i, diameter in enumerate(c.noise.structure_diameter_vox)]
    rows = range(len(values))
    axes.barh(rows, values, height=0.62, color=[PALETTE[5]] * len(names) + [PLANNED])
    for row, value in zip(rows, values):
        axes.text(value / 2, row, number(value), ha="center", va="center", fontsize=9,
                  color="white" if row == len(names) else INK)
    axes.set_yticks(list(rows), [*names, "shift, their sum"])
    axes.invert_yaxis()
    axes.axvline(0, color=INK, lw=0.8)
    plot_style(axes, f"The shift: $\\log(\\mathrm{{ref}}/d_i)$, ref = {number(c.noise.reference_vox)}",
               "added to the log-SNR", "")
    axes.grid(visible=False, axis="y")


def schedule_section(c: DiffusionConfiguration, num_steps: int, structures: list[dict]) -> Section:
    """The section about the schedule; ``structures`` from :func:`structure_rows`."""
    before = text(
        "A sample is a mask that is drawn out of noise. At time <i>t</i> the state is a mixture of the mask "
        "<i>x</i><sub>0</sub> and of noise; the schedule says how much is left of the mask, from <i>t</i> = 0 "
        "(the mask alone) to <i>t</i> = 1 (the noise alone).")
    before += equation("α<sub>t</sub><sup>2</sup> + σ<sub>t</sub><sup>2</sup> = 1, &nbsp; λ<sub>t</sub> = "
                       f"{upright('log')}(α<sub>t</sub><sup>2</sup> / σ<sub>t</sub><sup>2</sup>)")
    before += _shift_words(c, structures) if c.noise.schedule == "cosine" else _linear_words(c)
    times = ", ".join(number(t) for t in trailing_times(num_steps)[:-1].tolist()[:12])
    after = text(
        f"The solver ({escape(c.sampling.solver)}) asks the network at t = "
        f"{times}{' ...' if num_steps > 12 else ''} "
        "(circles). They are evenly spaced and begin at the start time itself, so that the first state is what "
        "the network was trained on there.")
    return section("schedule", "The noise schedule", before, draw_schedule(c, num_steps),
                   "Log signal-to-noise ratio, alpha and sigma over time",
                   "Solid: the plan's schedule. Dashed: the cosine schedule without a shift. Circles: where the solver "
                   "evaluates the network; a circle on the lower edge stands for pure noise.", after)


def _shift_words(c: DiffusionConfiguration, structures: list[dict]) -> str:
    words = equation(f"λ<sub>t</sub> = −2 {upright('log tan')}(π<i>t</i> / 2) + {upright('shift')}")
    if not c.noise.log_snr_shift:
        return words + text("The plan does not shift it.")
    words += text("A structure that is many voxels wide can be read through voxel-wise noise by averaging over it. The "
                  "noise then hides little, there is little to learn at those times, and samples hardly differ. So the "
                  "planner lowers the signal by the size of the structures in voxels, axis by axis:")
    terms = " + ".join(
        f"{upright('log')}({number(c.noise.reference_vox)} / {d:g})" for d in c.noise.structure_diameter_vox)
    words += equation(
        f"{upright('shift')} = Σ<sub>i</sub> {upright('log(ref')} / d<sub>i</sub>{upright(')')} = {terms} = "
        f"{number(c.noise.log_snr_shift)}")
    if structures:
        axes = [key for key in structures[0] if key != "name"]
        words += text("These are the median diameters, in voxels of the network's grid, that the planner measured; "
                      "<i>d</i><sub>i</sub> is their geometric mean over the structures.")
        words += table([Column("name", "structure"), *[Column(key, key, 1) for key in axes]], structures)
    return words + source("the cosine schedule and its shift by 2 log(ref / side of the image) are those of Hoogeboom "
                          "et al. 2023, “simple diffusion”, section 3.1; taking the structures' diameters for the "
                          "image's side, on every axis, is this project's rule.")


def _linear_words(c: DiffusionConfiguration) -> str:
    words = equation("α<sub>t</sub><sup>2</sup> = Π<sub>j ≤ tT</sub> (1 − β<sub>j</sub>), &nbsp; T = "
                     f"{c.noise.num_train_steps}")
    words += text(
        "The β<sub>j</sub> rise linearly. This schedule is fixed: the planner does not shift it with the size "
        f"of the structures ({' x '.join(f'{d:g}' for d in c.noise.structure_diameter_vox)} voxels here).")
    return words + source(
        "Ho et al. 2020, “Denoising diffusion probabilistic models”, section 4; MedSegDiff (Wu et al. "
        "2022) takes it over.")
