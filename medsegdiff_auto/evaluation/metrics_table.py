"""The table of metrics: one row per case and structure, what its numbers mean, and the means per structure."""

from collections.abc import Collection, Sequence
from importlib.metadata import version
from pathlib import Path

from medsegdiff_auto.decision.sizes import SIZE_COLUMNS, interval_check
from medsegdiff_auto.evaluation.score import scores_among
from medsegdiff_auto.evaluation.scores.interval import check_of
from medsegdiff_auto.overlap import mean_without_nan
from medsegdiff_auto.writing import read_table, write_table

LIBRARIES = ("medsegdiff-auto", "nnunetv2", "numpy")


def metrics_header(rows: list[dict], tolerance_mm: float, references_without_prediction: Sequence[str] = ()) -> dict:
    """What the numbers of metrics.csv mean, the library versions behind them, and their means per structure."""
    names = dict.fromkeys(column for row in rows for column in row)
    return explanation(names, tolerance_mm) | {
        "num_cases": len({row["case"] for row in rows}),
        "references_without_prediction": list(references_without_prediction),
        "mean": means_by_structure(rows),
        "num_scored": _by_structure(rows, lambda values: sum(value == value for value in values)),
    }


def explanation(names: Collection[str], tolerance_mm: float) -> dict:
    """What the columns of these names mean, their best values, and the versions behind them."""
    unit, found = "px" if "hd95_px" in names else "mm", scores_among(names)
    libraries = dict.fromkeys([*LIBRARIES, *(library for score, _ in found for library in score.libraries)])
    return {
        "definitions": {", ".join(column.name for column in given): score.explained(f"{tolerance_mm:g} {unit}")
                        for score, given in found},
        "best": {column.name: column.best for _, given in found for column in given if column.best is not None},
        "nsd_tolerance": tolerance_mm,
        "nsd_tolerance_unit": unit,
        "versions": {name: version(name) for name in libraries},
    }


def means_by_structure(rows: list[dict]) -> dict[str, dict[str, float]]:
    """``{structure: {metric: mean over the cases where it is not NaN}}``; None where no case could be scored."""
    means = _by_structure(rows, mean_without_nan)
    return {
        name: {metric: value if value == value else None
               for metric, value in row.items()}
        for name, row in means.items()
    }


def write_rows(rows: list[dict], path: Path) -> None:
    """Write metrics.csv: NaN as an empty field, floats with six digits."""
    write_table([{column: _text(value) for column, value in row.items()} for row in rows], path)


TEXT_COLUMNS = ("case", "structure", "interval", "estimate", "flagged")


def read_rows(path: Path) -> list[dict]:
    """Read metrics.csv or cases.csv: an empty field is NaN, what is not a number stays text."""
    return [{column: value if column in TEXT_COLUMNS else float(value or "nan") for column, value in row.items()}
            for row in read_table(path)]


def joined(sizes: list[dict], scores: list[dict]) -> list[dict]:
    """Rows of cases.csv and of metrics.csv as one, by case and structure.

    Whether an interval holds the reference, and its width, are those of cases.csv where that interval is conformal or
    the samples were not saved.
    """
    rows = {(row["case"], row["structure"]): dict(row) for row in sizes}
    for row in scores:
        rows.setdefault((row["case"], row["structure"]), {}).update(row)
    return [row | _interval_check(row) for row in rows.values()]


def _interval_check(row: dict) -> dict:
    for size in SIZE_COLUMNS:
        is_needed = interval_check(size) not in row or row.get("interval") == "conformal"
        if is_needed and f"reference_{size}" in row and f"{size}_p05" in row:
            return check_of(size, row[f"{size}_p05"], row[f"{size}_p95"], row[f"reference_{size}"])
    return {}


def _by_structure(rows: list[dict], reduce) -> dict[str, dict]:
    columns = dict.fromkeys(column for row in rows for column in row if column not in TEXT_COLUMNS)
    structures = dict.fromkeys(row["structure"] for row in rows)
    return {name: {column: reduce([row.get(column, float("nan")) for row in rows if row["structure"] == name])
                   for column in columns} for name in structures}


def _text(value) -> str:
    if isinstance(value, float):
        return "" if value != value else f"{value:.6g}"
    return str(value)
