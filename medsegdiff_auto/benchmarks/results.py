"""Tables of the pages in ``results/``, made of the CSV files beside them: nothing in them is typed by hand.

    python -m medsegdiff_auto.benchmarks.results [--keep NAME=FOLDER ...] [--check]

A table stands between two comments, of which the first says what is in it:

    <!-- table: NAME.csv view=means metrics=dice,nsd -->
    <!-- end of table -->

| view | options | rows and columns |
|---|---|---|
| means | metrics, reference, structure, patient_parts | methods, and the mean of each metric with its 95 % interval |
| differences | the same | methods, and each metric less the reference's, paired; bold: resolved |
| rows | columns | the CSV as it is, or some of its columns |
| answers | | targets, and their answer on every set, with the number behind it |

The first two read comparison.csv of a comparison. ``patient_parts`` is how many parts of a case's name, divided by
``_``, are its patient. ``--keep`` takes the metrics that pages show from FOLDER/comparison.csv into NAME.csv, and what
FOLDER/summary.json answers for each target into answers.csv.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from medsegdiff_auto.cli.command import CommandParser, run
from medsegdiff_auto.comparison.folder import SUMMARY, TABLE
from medsegdiff_auto.comparison.measured import ALL, Measured, read_long
from medsegdiff_auto.comparison.patients import beginning
from medsegdiff_auto.comparison.sections import number, with_arrow
from medsegdiff_auto.comparison.summary import difference_of
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.evaluation.statistics import mean_with_interval
from medsegdiff_auto.writing import read_table, write_table, write_text

MARKER = re.compile(
    r"(?P<head><!-- table: (?P<file>\S+)(?P<options>[^>]*?) -->\n).*?(?P<end><!-- end of table -->)", re.DOTALL)
BEGIN, ANSWERS = "<!-- table:", "answers.csv"
WORDS = re.compile(r"(\w+)=(\S+)")
OPTIONS = {"view", "metrics", "reference", "structure", "patient_parts", "columns"}


def main(argv=None) -> int:
    """Rebuilds the tables of all pages; with ``--check`` says which are not up to date, and returns 1."""
    parser = CommandParser(prog="python -m medsegdiff_auto.benchmarks.results",
                           description="Makes the tables of results/*.md of the CSV files beside them.")
    parser.add_argument("--folder", type=Path, default=Path("results"), metavar="FOLDER",
                        help="pages and CSV files (default: results)")
    parser.add_argument("--keep", nargs="+", default=(), metavar="NAME=FOLDER",
                        help="take comparison.csv of a comparison's folder as NAME.csv first")
    parser.add_argument("--check", action="store_true",
                        help="write nothing, and end with 1 where a page is out of date")
    args = parser.parse_args(argv)
    return run(_rebuild, args.folder, args.keep, args.check)


def _rebuild(folder: Path, kept: list[str], check: bool) -> int:
    pages = sorted(folder.glob("*.md"))
    if not pages:
        raise UserError("There are no pages of results.", found=str(folder), expected="a folder with *.md",
                        fix="call it from the root of the repository, or give --folder")
    for text in kept:
        name, sign, source = text.partition("=")
        if not (name and sign and source):
            raise UserError("What is kept is given as NAME=FOLDER.", found=text, expected="such as phantoms=comparison",
                            fix="correct --keep")
        keep(Path(source) / TABLE, folder / f"{name}.csv", pages)
        keep_answers(Path(source) / SUMMARY, name, folder / ANSWERS)
    stale = []
    for page in pages:
        before = page.read_text(encoding="utf-8")
        now = with_tables(before, page)
        if now != before:
            stale.append(page.name)
            if not check:
                write_text(now, page)
    print(f"{'Out of date' if check else 'Rewritten'}: {', '.join(stale) or 'no page'}")
    return int(check and bool(stale))


def keep(table: Path, target: Path, pages: list[Path]) -> None:
    """Copies the metrics that the pages show of a table; all of them where no page shows it yet.

    Raises:
        UserError: there is no such table.
    """
    missing = [file for file in (table, table.with_name(SUMMARY)) if not file.is_file()]
    if missing:
        raise UserError("There is no comparison to keep.", found=f"no {missing[0]}",
                        expected="the folder that medsegdiff_compare wrote", fix="correct --keep")
    markers = [(page, found) for page in pages for found in MARKER.finditer(page.read_text(encoding="utf-8"))]
    shown = {metric for page, found in markers if found["file"] == target.name
             for metric in options_of(found["options"], page).get("metrics", "").split(",")}
    rows = read_table(table)
    write_table([row for row in rows if row["metric"] in shown] or rows, target)


def keep_answers(summary: Path, name: str, target: Path) -> None:
    """Takes the answers of a comparison in the place of those that the file has under this name."""
    content = json.loads(summary.read_text(encoding="utf-8"))
    fields = ("target", "against", "answer", "value", "low", "high", "num")
    rows = [{"comparison": name, "task": content["task"],
             **{field: "" if one[field] is None else one[field] for field in fields}} for one in content["targets"]]
    others = [row for row in read_table(target) if row["comparison"] != name] if target.is_file() else []
    write_table([*others, *rows], target)


def with_tables(text: str, page: Path) -> str:
    """The text of a page with every table made anew.

    Raises:
        UserError: a marker has no end or an unknown option, or its CSV is missing or of another kind.
    """
    if text.count(BEGIN) != len(MARKER.findall(text)):
        raise UserError(f"{page} has a table without an end.", found=f"{text.count(BEGIN)} times {BEGIN}",
                        expected="<!-- table: NAME.csv view=... --> ... <!-- end of table -->", fix="correct the page")
    return MARKER.sub(lambda found: f"{found['head']}{table_of(found, page)}\n{found['end']}", text)


def table_of(found: re.Match, page: Path) -> str:
    """The table that a marker asks for, as Markdown."""
    options, file = options_of(found["options"], page), page.parent / found["file"]
    if not file.is_file():
        raise UserError(f"{page} shows a table that is not there.", found=f"no {file}",
                        expected="a CSV beside the page", fix="make it with --keep, or correct the page")
    view = options.get("view", "rows")
    if view not in VIEWS:
        raise UserError(f"{page} asks for an unknown view.", found=view, expected=f"one of {', '.join(VIEWS)}",
                        fix="correct the page")
    return VIEWS[view](file, options)


def options_of(text: str, page: Path) -> dict[str, str]:
    """``name=value`` of a marker."""
    found = dict(WORDS.findall(text))
    unknown = sorted(set(found) - OPTIONS)
    if unknown:
        raise UserError(f"{page} has a table with an unknown option.", found=unknown[0],
                        expected=", ".join(sorted(OPTIONS)), fix="correct the page")
    return found


def means(file: Path, options: dict[str, str]) -> str:
    """Methods and metrics: means with their intervals."""
    measured, metrics = _measured(file, options), options["metrics"].split(",")

    def cell(metric: str, method: str) -> str:
        if not measured.knows(metric, method):
            return ""
        found = mean_with_interval(measured.units(metric, [method], options.get("structure", ALL))[0][:, 0])
        return f"{number(found.mean)} ({number(found.low)} to {number(found.high)})"

    num_units = len(set(measured.patients.of_case.values()))
    head = [f"{num_units} patients" if measured.patients.several_cases else f"{num_units} cases",
            *map(with_arrow, metrics)]
    return markdown([head, *([name, *(cell(metric, name) for metric in metrics)] for name in measured.methods.names)])


def differences(file: Path, options: dict[str, str]) -> str:
    """Methods and metrics: paired differences to the reference with their intervals."""
    measured, metrics = _measured(file, options), options["metrics"].split(",")
    reference, structure = measured.methods.reference, options.get("structure", ALL)

    def cell(metric: str, method: str) -> str:
        if not (measured.knows(metric, method) and measured.knows(metric, reference)):
            return ""
        found = difference_of(measured, metric, method, reference, structure)
        mean, low, high = (number(found[key], signed=True) for key in ("mean_difference", "low", "high"))
        return f"{f'**{mean}**' if found['is_resolved'] else mean} ({low} to {high})"

    head = [f"less {reference}", *map(with_arrow, metrics)]
    return markdown([head, *([name, *(cell(metric, name) for metric in metrics)] for name in measured.methods.names
                             if name != reference)])


def rows_of(file: Path, options: dict[str, str]) -> str:
    """The rows of the CSV, or some of its columns."""
    rows = read_table(file)
    columns = options["columns"].split(",") if "columns" in options else list(rows[0])
    missing = sorted(set(columns) - set(rows[0]))
    if missing:
        raise UserError(f"{file} lacks a column that a page shows.", found=", ".join(rows[0]), expected=missing[0],
                        fix="correct the page")
    return markdown([columns, *([row[column] for column in columns] for row in rows)])


def answers_of(file: Path, _options: dict[str, str]) -> str:
    """Targets by sets: the answer, the number behind it with its 95 % interval, and of how many patients it is."""
    rows = read_table(file)
    sets, targets = (list(dict.fromkeys(row[key] for row in rows)) for key in ("comparison", "target"))
    of_place = {(row["comparison"], row["target"]): row for row in rows}
    tasks = {row["comparison"]: row["task"] for row in rows}
    return markdown([["", *map(tasks.get, sets)],
                     *([target, *(_answer(of_place.get((one, target))) for one in sets)] for target in targets)])


def _answer(row: dict | None) -> str:
    if row is None or not row["value"]:
        return "" if row is None else row["answer"]
    value, low, high = (number(float(row[key])) for key in ("value", "low", "high"))
    return f"**{row['answer']}** {value} ({low} to {high}), n {row['num']}"


def markdown(rows: list[list[str]]) -> str:
    """A pipe table; the first row is its head."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], f"|{'---|' * len(rows[0])}", *lines[1:]])


def _measured(file: Path, options: dict[str, str]) -> Measured:
    if "metrics" not in options:
        raise UserError(f"A table of {file.name} names no metrics.", found=", ".join(options) or "no option",
                        expected="metrics=dice,nsd", fix="correct the page")
    num_parts = int(options.get("patient_parts", "0"))
    reference = options.get("reference") or read_table(file)[0]["method"]
    measured = read_long(file, reference, partial(beginning, num_parts=num_parts) if num_parts else str)
    unknown = [metric for metric in options["metrics"].split(",") if metric not in measured.metrics]
    if unknown:
        raise UserError(f"{file} lacks a metric that a page shows.", found=", ".join(measured.metrics),
                        expected=unknown[0], fix="take the table again with --keep, or correct the page")
    return measured


VIEWS: dict[str, Callable[[Path, dict[str, str]], str]] = {"means": means, "differences": differences, "rows": rows_of,
                                                            "answers": answers_of}


if __name__ == "__main__":
    raise SystemExit(main())
