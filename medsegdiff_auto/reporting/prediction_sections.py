"""The sections about predictions: headline, per-case table, pictures, calibration, uncertainty, sizes."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from medsegdiff_auto.decision.sizes import SIZE_COLUMNS
from medsegdiff_auto.evaluation.calibration import error_detection_auroc
from medsegdiff_auto.evaluation.case_files import companion, read_map
from medsegdiff_auto.evaluation.folder import read_case
from medsegdiff_auto.evaluation.score import columns as scored_columns
from medsegdiff_auto.evaluation.score import scores_among
from medsegdiff_auto.evaluation.scores.interval import nominal_coverage
from medsegdiff_auto.overlap import mean_without_nan
from medsegdiff_auto.reporting import figures, page
from medsegdiff_auto.reporting.images import read_image
from medsegdiff_auto.reporting.pictures import CasePicture, draw_case
from medsegdiff_auto.reporting.prediction_record import PooledCurves, PredictionRecord, mean_dice_by_case
from medsegdiff_auto.reporting.tables import Column, key_value_table, table

OF_CASES = [(45, Column("low_high", "5 to 95 %")), (65, Column("expected_dice", "expected Dice")),
            (66, Column("expected_dice_low", "90 % above")), (67, Column("estimate", "whose estimate")),
            (68, Column("flagged", "flagged"))]  # of cases.csv, with their places among the scores
NUM_EXTREME_CASES = 2


def headline(record: PredictionRecord) -> str:
    """The means over all structures as large numbers; only those that were measured."""
    tiles = []
    for column in scored_columns():
        means = [_mean(record, structure.name, column.name) for structure in record.structures]
        mean = mean_without_nan(value for value in means if value is not None)
        if column.tile and mean == mean:
            name, note = column.tile
            best = "" if column.best is None else f", {column.best:g} is best"
            value = f"{mean:.0%}" if column.is_claim else f"{mean:.{column.decimals}f}"
            tiles.append((value, name, note.format(tolerance=_tolerance(record)) + best))
    flagged = [row["flagged"] == "yes" for row in record.rows if row.get("flagged")]
    if flagged:
        tiles.append(
            (f"{sum(flagged)} of {len(flagged)}", "Flagged", "structures whose expected Dice is below the limit"))
    return page.tiles(tiles) if tiles else ""


def scores(record: PredictionRecord, page_folder: Path) -> str:
    """The mean of each metric per structure, then one row per case and structure with a link to the file of all digits.

    ``page_folder`` is where the page will lie.
    """
    if not record.rows:
        return page.missing(
            "There are neither scores nor sizes: give the references, or predict with medsegdiff_predict.")
    among = scores_among(column for row in record.rows for column in row)
    meanings = {column.name: score.explained(_tolerance(record)) for score, given in among for column in given}
    columns = [replace(column, meaning=meanings.get(column.key, "")) for column in _columns(record)]
    parts = []
    if record.is_scored:
        metrics = [column for column in columns[2:] if column.key not in ("low_high", "estimate", "flagged")]
        means = [{"structure": s.name, "cases": record.values(s.name, "dice").size}
                 | {column.key: _mean(record, s.name, column.key) for column in metrics} for s in record.structures]
        mean_columns = [Column("structure", "structure"), Column("cases", "cases with Dice"), *metrics]
        parts += [page.heading("Means"), table(mean_columns, means)]
        titles = {score: ", ".join(one.title for one in given if one.place is not None) for score, given in among}
        explained = {shown: score.explained(_tolerance(record)) for score, shown in titles.items() if shown}
        parts.append(key_value_table(explained))
    else:
        parts.append(page.missing("No reference: the predictions are listed with their sizes, not scored."))
    parts.append(_flagged_list(record))
    claims = {column.name for column in scored_columns() if column.is_claim}
    cells = [_cells(row, _size_column(record), claims) for row in record.rows]
    parts += [page.heading("Cases"), table(columns, cells, _source(record, page_folder))]
    return "\n".join(parts)


def _source(record: PredictionRecord, page_folder: Path) -> str | None:
    """The address of the table that the cases stand in, from the page; None where there is none on the same drive."""
    files = [record.folder / name for name in ("metrics.csv", "cases.csv") if (record.folder / name).is_file()]
    try:
        return Path(os.path.relpath(files[0], page_folder)).as_posix() if files else None
    except ValueError:  # another drive of Windows
        return None


def _flagged_list(record: PredictionRecord) -> str:
    """The structures that a person should look at, worst first; nothing where nobody asked for them."""
    if not any(row.get("flagged") for row in record.rows):
        return ""
    rows = sorted((row for row in record.rows if row.get("flagged") == "yes"), key=lambda row: row["expected_dice"])
    columns = [
        Column("case", "case"),
        Column("structure", "structure"),
        Column("expected_dice", "expected Dice"),
        Column("dice", "Dice")
    ]
    return page.heading("For a person to look at") + (table(columns, rows) if rows else page.paragraph(
        "No structure is expected to score less than the limit of --flag_below."))


def pictures(record: PredictionRecord, image_folder: Path | None) -> str:
    """The two worst and the two best cases by mean Dice; all cases where there are no more than four."""
    ranking = [case for case in mean_dice_by_case(record) if case in record.pairs]
    if not ranking:
        return page.missing("Pictures need the references of the predicted cases.")
    few = len(ranking) <= 2 * NUM_EXTREME_CASES
    chosen = ranking if few else ranking[:NUM_EXTREME_CASES] + ranking[-NUM_EXTREME_CASES:]
    parts = [] if image_folder is not None else [
        page.missing("The images were not given: the contours are drawn without them.")
    ]
    dice = mean_dice_by_case(record)
    for case in chosen[::-1]:
        rank = "" if few else (
            "among the best, " if dice[case] >= dice[ranking[-NUM_EXTREME_CASES]] else "among the worst, ")
        png = draw_case(_picture_of(record, case, image_folder))
        parts.append(page.picture(png, f"contours of {case}", f"{case}: {rank}mean Dice {dice[case]:.3f}"))
    colours = "; ".join(f"{s.name}: {('orange', 'sky blue', 'yellow')[i]}" for i, s in enumerate(record.structures[:3]))
    return page.paragraph(f"The slice through the reference's largest area. White: reference. {colours}.") + "\n".join(
        parts)


def calibration(record: PredictionRecord, curves: PooledCurves) -> str:
    """Reliability against the reference and, where it is known, against the true posterior."""
    if not curves.against_reference:
        return page.missing("Calibration needs references and predictions saved with --save_probabilities.")
    panels = {"Against the reference": curves.against_reference}
    if curves.against_posterior:
        panels["Against the known posterior"] = curves.against_posterior
    picture = page.picture(
        figures.reliability_diagram(panels), "reliability diagram of " + " and ".join(panels),
        "Voxels of all cases near a structure (prediction or reference, dilated twice), in 15 bins. On the dotted line "
        "a probability "
        "of 0.7 comes true seven times in ten. The area of a marker is the share of voxels. The voxels of a boundary "
        "err together: "
        "with few cases the curve against the reference strays even where the probabilities are true.")
    rows = [{
        "structure": name, "truth": title.lower(), "voxels": int(curve.counts.sum()),
        "ece": curve.expected_calibration_error
    } for title, panel in panels.items() for name, curve in panel.items()]
    columns = [Column("structure", "structure"), Column("truth", "measured"), Column("voxels", "voxels"),
               Column("ece", "pooled ECE")]
    note = "" if curves.against_posterior else page.missing("The true posterior of these cases is not known.")
    return picture + table(columns, rows) + note


def uncertainty(curves: PooledCurves) -> str:
    """Whether the uncertainty finds the errors."""
    curve = curves.errors_by_uncertainty
    if curve is None or not curve.counts.sum():
        return page.missing("This needs references and predictions saved with --save_uncertainty.")
    auroc = error_detection_auroc(curve)
    text = (f"Near the structures {curve.sum_outcome.sum() / curve.counts.sum():.1%} of the voxels are wrong. "
            f"Uncertainty ranks a wrong voxel above a right one with probability {auroc:.3f} (0.5 is chance).")
    return page.paragraph(text) + page.picture(figures.error_by_uncertainty(curve), "error rate by uncertainty")


def sizes(record: PredictionRecord) -> str:
    """Each structure's size with its interval against the reference."""
    column = _size_column(record)
    kind, unit, _ = SIZE_COLUMNS[column]
    intervals = {structure.name: _interval_rows(record, structure.name, column) for structure in record.structures}
    intervals = {name: rows for name, rows in intervals.items() if len(rows)}
    if not intervals:
        return page.missing("This needs references and cases.csv with the samples' intervals.")
    covered = sum(int(((rows[:, 1] <= rows[:, 0]) & (rows[:, 0] <= rows[:, 3])).sum()) for rows in intervals.values())
    total = sum(len(rows) for rows in intervals.values())
    counts = {
        int(row["num_samples"])
        for row in record.rows if row.get("num_samples", np.nan) == row.get("num_samples", np.nan)
    }
    nominal = "".join(
        f" The interval of {n} perfect samples would hold {nominal_coverage(n):.0%} of them." for n in sorted(counts))
    share = f"{covered} of {total} references ({covered / total:.0%})"
    text = f"The 5 to 95 % interval of the {kind} holds {share}.{nominal}"
    return page.paragraph(text) + page.picture(figures.size_intervals(intervals, unit),
                                               f"{kind} intervals against the reference")


def _columns(record: PredictionRecord) -> list[Column]:
    """Those of the table of scores, and the columns of cases.csv in their places among them."""
    placed = [(column.place, Column(column.name, column.title, column.decimals))
              for column in scored_columns() if column.place is not None]
    return [Column("case", "case"), Column("structure", "structure"),
            *(column for _, column in sorted(placed + OF_CASES, key=lambda one: one[0]))]


def _cells(row: dict, size: str, claims: set[str]) -> dict:
    """The row with its interval as text and what it claims as truth values."""
    shown = {key: None if value == "" else value for key, value in row.items()}
    shown |= {key: bool(row[key]) for key in claims & set(row) if row[key] == row[key]}
    if f"{size}_p05" in row:
        shown["low_high"] = " – ".join(f"{row[f'{size}_{end}']:.{SIZE_COLUMNS[size][2]}f}" for end in ("p05", "p95"))
    return shown


def _interval_rows(record: PredictionRecord, structure: str, column: str) -> np.ndarray:
    keys = (f"reference_{column}", f"{column}_p05", column, f"{column}_p95")
    rows = [[row[key] for key in keys] for row in record.rows
            if row["structure"] == structure and all(key in row for key in keys)]
    rows = np.array(rows, dtype=np.float64).reshape(-1, 4)
    return rows[~np.isnan(rows).any(1)]


def _size_column(record: PredictionRecord) -> str:
    return next((column for column in SIZE_COLUMNS for row in record.rows if column in row), "volume_ml")


def _mean(record: PredictionRecord, structure: str, column: str) -> float | None:
    values = record.values(structure, column)
    return float(values.mean()) if values.size else None


def _tolerance(record: PredictionRecord) -> str:
    header = record.header or {}
    unit = "px" if _size_column(record) == "area_px" else "mm"
    return f"{header.get('nsd_tolerance', 1.0):g} {header.get('nsd_tolerance_unit', unit)}"


def _picture_of(record: PredictionRecord, case: str, image_folder: Path | None) -> CasePicture:
    arrays = read_case(*record.pairs[case], record.dataset_json)
    image = None if image_folder is None else read_image(image_folder, case, record.dataset_json, arrays.grid)
    path = companion(record.predictions[case], record.dataset_json["file_ending"], "uncertainty")
    return CasePicture(arrays, record.structures, image, None if path is None else read_map(path, arrays.grid))
