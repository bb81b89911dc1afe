"""The sections of a comparison's page, as HTML."""

from __future__ import annotations

from typing import Any

import numpy as np

from medsegdiff_auto.comparison import figures
from medsegdiff_auto.comparison.measured import ALL, Measured
from medsegdiff_auto.comparison.quality import ESTIMATES, best_estimate, judged
from medsegdiff_auto.comparison.summary import OF_INTERVALS, title_of, way_of
from medsegdiff_auto.comparison.targets import NO, YES
from medsegdiff_auto.decision.sizes import SIZE_COLUMNS
from medsegdiff_auto.evaluation.risk_coverage import risk_by_coverage
from medsegdiff_auto.evaluation.score import columns
from medsegdiff_auto.reporting import page
from medsegdiff_auto.reporting.figures import reliability_diagram, size_intervals
from medsegdiff_auto.reporting.tables import Column, key_value_table, table

DRAWN_BY_CASE = ("dice", "nsd", "energy_score")
MOST_DIGITS = 4


def in_short(summary: dict[str, Any]) -> str:
    """The targets with their answers, and what a reader must know before."""
    rows = [{"answer": one["answer"], "target": f"{one['target']}\nagainst {one['against']}",
             "value": value_and_interval(one), "num": one["num"] or None} for one in summary["targets"]]
    counts = {answer: sum(one["answer"] == answer for one in summary["targets"]) for answer in (YES, NO)}
    others = len(rows) - sum(counts.values())
    tiles = page.tiles([(str(counts[YES]), "targets met", "the interval says so"),
                        (str(counts[NO]), "targets missed", "the interval says so"),
                        (str(others), "left open", "not resolved, or not measured")])
    shown = table([Column("answer", "answer", marks={YES: "good", NO: "alert"}), Column("target", "target"),
                   Column("value", "measured"), Column("num", "patients")], rows)
    return tiles + shown + "".join(page.missing(text) for text in summary["warnings"])


def means(measured: Measured, summary: dict[str, Any]) -> str:
    """Every score of every method with its interval, then Dice and NSD of the single structures."""
    methods = measured.methods
    head = [Column("score", "score"), *(Column(name, methods.title(name)) for name in methods.names)]

    def row(metric: str, structure: str, label: str) -> dict[str, Any]:
        of = summary["means"][structure][metric]
        return {"score": label, **{name: mean_and_interval(of[name]) for name in of}}

    parts = [table(head, [row(metric, ALL, with_arrow(metric)) for metric in summary["means"][ALL]])]
    for structure in summary["structures"][1:]:
        rows = [row(metric, structure, with_arrow(metric)) for metric in ("dice", "nsd")]
        parts += [page.heading(structure), table(head, rows)]
    of_structures = "over the structures of a case, then " if summary["structures"][1:] else ""
    text = f"Means {of_structures}over patients; below each its 95 % interval. Arrows point to the better side."
    return page.paragraph(text) + "".join(parts)


def differences(measured: Measured, summary: dict[str, Any]) -> str:
    """A forest plot for each score, and all numbers behind them."""
    methods, found = measured.methods, summary["differences"][ALL]
    if not found:
        return page.missing("No other method shares a score with the reference.")
    panels = [page.picture(figures.forest({methods.title(name): row for name, row in of.items()}, with_arrow(metric),
                                          f"difference to {methods.title(methods.reference)}"),
                           f"differences of {title_of(metric)}") for metric, of in found.items() if all(
                               row["mean_difference"] is not None for row in of.values())]
    rows = [{"score": with_arrow(metric), "method": methods.title(name), "mean": number(row["mean_difference"], True),
             "interval": between(row), "spread": number(row["standard_deviation"]), "verdict": row["verdict"],
             "record": f"{row['wins']} / {row['ties']} / {row['losses']}", "p": p_value(row["p_holm"]),
             "num": row["num_cases"], "left": row["num_left_out"]} for metric, of in found.items()
            for name, row in of.items()]
    head = [Column("score", "score"), Column("method", "method"), Column("mean", "difference"),
            Column("interval", "95 % interval"), Column("spread", "standard deviation"),
            Column("verdict", "verdict", marks={"better": "good", "worse": "alert"}),
            Column("record", "win / tie / loss"), Column("p", "p (Holm)"), Column("num", "patients"),
            Column("left", "masks left out")]
    text = ("Green: resolved as better than the reference, orange: as worse, grey: the cases do not tell. Squares are "
            "means of paired differences, lines their 95 % bootstrap intervals.")
    return page.paragraph(text) + page.panels(panels) + page.folded("All differences as numbers", table(head, rows))


def cases(measured: Measured) -> str:
    """Every patient as a point: ours against the reference."""
    methods = measured.methods
    other = methods.reference if methods.reference != methods.ours else methods.names[1]
    panels = []
    for metric in DRAWN_BY_CASE:
        if measured.knows(metric, methods.ours) and measured.knows(metric, other):
            y, x = measured.units(metric, [methods.ours, other])[0].T
            if len(x):
                png = figures.scatter(x, y, with_arrow(metric), methods.title(other), methods.title(methods.ours),
                                      way_of(metric))
                panels.append(page.picture(png, f"{title_of(metric)} of every patient"))
    text = f"One point for each patient. In the green half {methods.title(methods.ours)} is better."
    return page.paragraph(text) + page.panels(panels) if panels else page.missing("No score is shared.")


def ranks(measured: Measured, summary: dict[str, Any]) -> str:
    """The rank of each method by score, and the range that 95 % of the resamplings give it."""
    methods, found = measured.methods, summary["ranks"][ALL]
    if not found:
        return page.missing("Ranks need two methods that have all cases.")
    names = [name for name in methods.names if any(name in of for of in found.values())]
    rows = [{"score": with_arrow(metric), **{name: rank_and_range(of[name]) for name in of if of[name]["rank"]}}
            for metric, of in found.items()]
    text = ("The rank by the mean (1 is best, equal means share it), and the ranks between which 95 % of 10,000 "
            "resamplings of the patients lie: a rank that stands alone is sure.")
    return page.paragraph(text) + table([Column("score", "score"), *(Column(name, methods.title(name))
                                                                     for name in names)], rows)


def calibration(measured: Measured, summary: dict[str, Any]) -> str:
    """Reliability of ours, of the reference and of the reference at its temperature."""
    methods, panels = measured.methods, []
    for name in dict.fromkeys([methods.ours, methods.reference, methods.at_temperature]):
        curves = {structure: measured.reliability(name, structure) for structure in measured.structures}
        known = {structure: curve for structure, curve in curves.items() if curve is not None and curve.counts.sum()}
        if known:
            title = methods.title(name)
            png = reliability_diagram({f"{title}, against the reference": known}, figures.PANEL_INCHES + 0.6)
            panels.append(page.picture(png, f"reliability of {title}"))
    if not panels:
        return page.missing("This needs probabilities: predict with --save_probabilities.")
    pooled = {methods.title(name): f"{value:.4f}" for name, value in summary["pooled_ece"].items()}
    text = ("Voxels of all cases near a structure (prediction or reference, dilated twice). On the dotted line a "
            "probability of 0.7 comes true seven times in ten. The area of a marker is its share of the voxels.")
    return (page.paragraph(text) + page.panels(panels) + page.heading("ECE of all voxels together, mean of structures")
            + key_value_table(pooled))


def quality(measured: Measured, summary: dict[str, Any]) -> str:
    """Risk-coverage curves of ours and of the reference, and every estimate of every method as numbers."""
    methods, estimates = measured.methods, summary["estimates"]
    if not estimates:
        return page.missing("This needs samples, probabilities or an expected Dice in cases.csv.")
    panels = []
    for name in dict.fromkeys([methods.ours, methods.reference]):
        curves, best = {}, None
        for estimate in estimates.get(name, {}):
            found = judged(measured, name, estimate)
            assert found is not None, (name, estimate)
            curves[ESTIMATES[estimate]] = risk_by_coverage(found.estimates, 1 - found.dice), found.risk_area()
            if estimate == (best_estimate(estimates[name], stated_first=True)):
                best = risk_by_coverage(found.dice, 1 - found.dice)
        if best is not None:
            panels.append(page.picture(figures.risk_coverage(curves, best, methods.title(name)),
                                       f"risk by coverage of {methods.title(name)}"))
    rows = [{"method": methods.title(name), "estimate": ESTIMATES[estimate], "masks": of["num_masks"],
             "pearson": value_and_interval(of["pearson"]), "error": value_and_interval(of.get("absolute_error")),
             "aurc": value_and_interval(of["aurc"]), "best": number(of["best_aurc"]),
             "random": number(of["random_aurc"])} for name, of_method in estimates.items()
            for estimate, of in of_method.items()]
    head = [Column("method", "method"), Column("estimate", "estimate"), Column("masks", "masks"),
            Column("pearson", "correlation with Dice ↑"), Column("error", "absolute error ↓"),
            Column("aurc", "AURC ↓"), Column("best", "best AURC"), Column("random", "random AURC")]
    text = ("Masks are kept in the order of the estimate, the surest first. The lower the curve, the better the "
            "estimate finds the masks that a person should look at; in brackets the area under it.")
    return page.paragraph(text) + page.panels(panels) + table(head, rows)


def sizes(measured: Measured, summary: dict[str, Any]) -> str:
    """How often the 90 % intervals of sizes hold the reference, how wide they are, and those of ours one by one."""
    methods, found = measured.methods, summary["means"][ALL]
    rows = [{"method": methods.title(name), **{metric: mean_and_interval(found[metric][name]) for metric in OF_INTERVALS
                                               if name in found.get(metric, {})}} for name in methods.names]
    rows = [row for row in rows if len(row) > 1]
    if not rows:
        return page.missing("No method gives intervals: they need samples.")
    head = [Column("method", "method"), *(Column(name, "references held" if name != OF_INTERVALS[-1] else
                                                 "width over the reference's size") for name in OF_INTERVALS)]
    size = next(column for column in SIZE_COLUMNS if f"reference_{column}" in measured.metrics)
    keys = [f"reference_{size}", f"{size}_p05", size, f"{size}_p95"]
    panels = []
    for structure in measured.structures:
        own = [row for row in measured.rows if (row["method"], row["structure"]) == (methods.ours, structure)]
        values = np.array([[row.get(key, np.nan) for key in keys] for row in own], float).reshape(-1, len(keys))
        values = values[~np.isnan(values).any(1)]
        if len(values):
            kind, unit, _ = SIZE_COLUMNS[size]
            panels.append(page.picture(size_intervals({structure: values}, unit), f"{kind} intervals of {structure}"))
    text = "A 90 % interval should hold 90 % of the references, and be narrow."
    return page.paragraph(text) + table(head, rows) + page.panels(panels)


def cost(measured: Measured, summary: dict[str, Any]) -> str:
    """Time, budget and what was fitted, as methods.json says."""
    head = [Column("method", "method"), Column("configuration", "configuration"), Column("iterations", "iterations"),
            Column("folds", "folds"), Column("device", "device"), Column("hours", "training (h)", 2),
            Column("seconds_per_case", "prediction (s per case)", 2), Column("fitted", "fitted on other folds")]
    rows = []
    for name in measured.methods.names:
        facts = summary["methods"][name]
        seconds = facts.get("training_seconds")
        fitted = facts.get("fitted")
        rows.append({"method": measured.methods.title(name), **facts, "hours": seconds / 3600 if seconds else None,
                     "folds": ", ".join(map(str, facts.get("folds", []))) or None,
                     "fitted": ", ".join(fitted) if isinstance(fitted, list) else fitted and str(fitted)})
    if all(set(row) <= {"method", "hours", "folds", "fitted"} for row in rows):
        return page.missing("Nothing is recorded of the methods' training and prediction.")
    return table(head, rows)


def reading(summary: dict[str, Any]) -> str:
    """What the numbers mean, and how they were made."""
    def names(keys: str) -> str:
        return ", ".join(dict.fromkeys(title_of(key) for key in keys.split(", ")))

    return "".join([
        page.paragraph(summary["patients"]), page.paragraph(f"Statistics: {summary['statistics']}."),
        key_value_table({names(keys): text for keys, text in summary["definitions"].items()}),
        page.paragraph("comparison.csv beside this page holds every number (task, method, case, structure, metric, "
                       "value), as pandas and challengeR read it; summary.json what is shown here."),
        page.heading("Versions"), key_value_table(summary["versions"])])


def with_arrow(metric: str) -> str:
    """The title of a score, and which way is better."""
    way = next((one.more_is_better for one in columns() if one.name == metric), None)
    return title_of(metric) + ("" if way is None else " ↑" if way else " ↓")


def number(value: float | None, signed: bool = False) -> str | None:
    """A number with four digits behind the point, fewer for large ones."""
    if value is None or value != value:
        return None
    digits = MOST_DIGITS if abs(value) < 10 else 2
    return f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"


def between(row: dict[str, Any]) -> str | None:
    """The interval of a row."""
    return None if row["low"] is None or row["low"] != row["low"] else f"{number(row['low'])} to {number(row['high'])}"


def mean_and_interval(row: dict[str, Any]) -> str | None:
    """A mean, and its interval on a line of its own."""
    return value_and_interval(row | {"value": row["mean"]})


def value_and_interval(row: dict[str, Any] | None) -> str | None:
    """The value of a statistic, and its interval on a line of its own."""
    return None if row is None or row["value"] is None else f"{number(row['value'])}\n{between(row)}"


def rank_and_range(row: dict[str, Any]) -> str:
    """``1`` where it is sure, else ``1 (1 to 3)``."""
    cumulated = np.cumsum(row["shares"])
    low, high = (int(np.searchsorted(cumulated, level - 1e-9) + 1) for level in (0.025, 0.975))
    return f"{row['rank']:g}" if low == high == row["rank"] else f"{row['rank']:g} ({low} to {high})"


def p_value(p: float | None) -> str | None:
    """Three digits, small ones as a bound."""
    return None if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"
