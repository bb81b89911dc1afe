"""The page's text: paragraphs with symbols, equations, sources, sections."""

from __future__ import annotations

import math
from dataclasses import dataclass

from medsegdiff_auto.reporting import page

EQUATION_STYLE = "margin: 8px 0 12px 28px; font: italic 17px/1.5 Georgia, 'DejaVu Serif', serif"
CERTAIN_LOG_SNR = 23.0
SOURCE_STYLE = "font-size: 13px; color: #5d6b7a"


@dataclass(frozen=True)
class Section:
    """A part of the page; ``png`` is None where the model has nothing of the kind."""

    anchor: str
    heading: str
    html: str
    png: bytes | None = None


def text(html: str) -> str:
    """A paragraph that may hold symbols; names that come from the user must be escaped by the caller."""
    return f"<p>{html}</p>"


def equation(html: str) -> str:
    """An equation on its own line, readable without any script."""
    return f'<p class="equation" style="{EQUATION_STYLE}">{html}</p>'


def upright(name: str) -> str:
    """The name of a function or module within an equation."""
    return f'<span style="font-style: normal">{name}</span>'


def source(words: str) -> str:
    """Where the equations come from."""
    return f'<p style="{SOURCE_STYLE}">Source: {words}</p>'


def section(anchor: str, heading: str, before: str, png: bytes, description: str, caption: str,
            after: str = "") -> Section:
    """A section with a picture between its texts."""
    return Section(anchor, heading, before + page.picture(png, description, caption) + after, png)


def number(value: float) -> str:
    """A number with a true minus sign and at most three significant digits; infinity as its sign."""
    if value in (float("inf"), float("-inf")):
        return "∞" if value > 0 else "−∞"
    return f"{value:.3g}".replace("-", "−")


def log_snr_words(log_snr: float) -> str:
    """A log signal-to-noise ratio with one decimal; infinite where one of alpha, sigma is below 1e-5."""
    if abs(log_snr) > CERTAIN_LOG_SNR:
        return number(math.copysign(math.inf, log_snr))
    return f"{log_snr:.1f}".replace("-", "−")


def dice_words(value: float) -> str:
    """A Dice with three decimals; a dash where both masks are empty."""
    return "–" if math.isnan(value) else f"{value:.3f}"
