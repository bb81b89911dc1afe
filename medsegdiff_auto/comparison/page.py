"""``report.html`` of a comparison: one offline file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medsegdiff_auto.comparison import sections
from medsegdiff_auto.comparison.measured import Measured
from medsegdiff_auto.reporting import page
from medsegdiff_auto.writing import write_text


def write_page(measured: Measured, summary: dict[str, Any], file: Path) -> None:
    """Writes the page from the scores and the summary made of them."""
    parts = [
        ("short", "In short", sections.in_short(summary)),
        ("means", "Scores", sections.means(measured, summary)),
        ("differences", "Differences", sections.differences(measured, summary)),
        ("cases", "Case by case", sections.cases(measured)),
        ("ranks", "Ranks", sections.ranks(measured, summary)),
        ("calibration", "Are the probabilities true?", sections.calibration(measured, summary)),
        ("quality", "Does a method know its bad masks?", sections.quality(measured, summary)),
        ("sizes", "Do the intervals hold?", sections.sizes(measured, summary)),
        ("cost", "What it costs", sections.cost(measured, summary)),
        ("reading", "How to read this", sections.reading(summary)),
    ]
    write_text(page.document(f"{summary['task']}: comparison", _subtitle(measured, summary), parts), file)


def _subtitle(measured: Measured, summary: dict[str, Any]) -> str:
    methods = measured.methods
    others = len(methods.names) - 1
    patients = f" of {summary['num_patients']} patients" if measured.patients.several_cases else ""
    return (f"{methods.title(methods.ours)} and {others} other method{'s' * (others > 1)} on {summary['num_cases']} "
            f"cases{patients}; differences are to {methods.title(methods.reference)}")
