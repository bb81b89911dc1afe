"""Scores of all methods on all cases, and their values as matrices of independent units and methods."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property, reduce
from operator import add
from pathlib import Path

import numpy as np
import pandas as pd

from medsegdiff_auto.comparison.methods import Methods
from medsegdiff_auto.comparison.patients import Patients
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.evaluation.calibration import Reliability
from medsegdiff_auto.evaluation.case import StructureOfCase
from medsegdiff_auto.evaluation.folder import TOLERANCE_MM, read_case, worthwhile
from medsegdiff_auto.evaluation.metrics_table import TEXT_COLUMNS, joined, read_rows
from medsegdiff_auto.evaluation.score import columns, evaluate_structure
from medsegdiff_auto.evaluation.scores.expected_dice import BETWEEN, TO_REFERENCE
from medsegdiff_auto.evaluation.scores.interval import SCORE as INTERVAL
from medsegdiff_auto.files.prediction_folder import CASES_FILE
from medsegdiff_auto.nnunet.structures import structures_of
from medsegdiff_auto.writing import read_table, write_table

ALL = "all"  # the mean over the structures of a case
RELIABILITY = "reliability"
LONG = ("task", "method", "case", "structure", "metric", "value")


@dataclass(frozen=True)
class Measured:
    """Rows of scores by method, case and structure; ``reliability`` in them are the bins behind the ECE.

    Attributes:
        patients: whose cases are averaged before anything is compared.
    """

    rows: list[dict]
    methods: Methods
    structures: list[str]
    patients: Patients
    _wide: dict[str, pd.DataFrame] = field(default_factory=dict)

    @cached_property
    def cases(self) -> list[str]:
        """Every case of any method, in order."""
        return list(dict.fromkeys(row["case"] for row in self.rows))

    @cached_property
    def cases_of(self) -> dict[str, set[str]]:
        """The cases that each method predicted."""
        return {name: {row["case"] for row in self.rows if row["method"] == name} for name in self.methods.names}

    @cached_property
    def metrics(self) -> list[str]:
        """Every column with numbers, in the order of the rows."""
        found = dict.fromkeys(column for row in self.rows for column in row)
        return [column for column in found if column not in (*TEXT_COLUMNS, "method", RELIABILITY)]

    def compared(self) -> list[str]:
        """The metrics by which methods are ranked, in the order of the table of scores."""
        given = set(self.metrics)
        return [one.name for one in columns() if one.more_is_better is not None and one.name in given]

    def wide(self, metric: str) -> pd.DataFrame:
        """A metric by case and structure (rows) and method (columns); NaN where there is none."""
        if metric not in self._wide:
            rows = [(row["case"], row["structure"], row["method"], row.get(metric, np.nan)) for row in self.rows]
            table = pd.DataFrame(rows, columns=["case", "structure", "method", "value"])
            self._wide[metric] = table.pivot(index=["case", "structure"], columns="method", values="value").reindex(
                columns=self.methods.names).astype(float)
        return self._wide[metric]

    def knows(self, metric: str, method: str) -> bool:
        """Whether a method has any number of a metric."""
        return metric in self.metrics and bool(self.wide(metric)[method].notna().any())

    def masks(self, metric: str, names: Sequence[str], structure: str = ALL) -> tuple[pd.DataFrame, int]:
        """The values of methods on the masks that all of them could score, and how many only some could."""
        wide = self.wide(metric)[list(names)]
        shared = set.intersection(*(self.cases_of[name] for name in names))
        wide = wide[wide.index.get_level_values("case").isin(shared)]
        if structure != ALL:
            wide = wide[wide.index.get_level_values("structure") == structure]
        known = wide.dropna()
        return known, int(wide.notna().any(axis=1).sum()) - len(known)

    def units(self, metric: str, names: Sequence[str], structure: str = ALL) -> tuple[np.ndarray, int]:
        """Values of independent units and methods, (n, M), and how many masks were left out.

        A mask that one of the methods could not score counts for none of them. Then the mean over the structures of a
        case, then over the cases of a patient.
        """
        known, num_left_out = self.masks(metric, names, structure)
        by_case = known.groupby(level="case", sort=False).mean()
        patients = [self.patients.of_case[case] for case in by_case.index]
        return by_case.groupby(patients, sort=False).mean().to_numpy(), num_left_out

    def reliability(self, method: str, structure: str = ALL) -> Reliability | None:
        """The probabilities of a method against the reference, the voxels of all cases together; None without any."""
        curves = [row[RELIABILITY] for row in self.rows if row["method"] == method and row[RELIABILITY] is not None
                  and structure in (ALL, row["structure"])]
        return reduce(add, curves) if curves else None

    def write_long(self, task: str, file: Path) -> None:
        """Writes one row for each number: :data:`LONG`; what is NaN is left empty."""
        write_table([dict(zip(LONG, (task, row["method"], row["case"], row["structure"], metric, _text(row[metric]))))
                     for row in self.rows for metric in self.metrics if metric in row], file)


def read_long(file: Path, reference: str, patient: Callable[[str], str] = str) -> Measured:
    """What :meth:`Measured.write_long` wrote, for the same statistics once more.

    Args:
        patient: of a case's name.

    Raises:
        UserError: the columns are others, a number stands there twice, or the reference is none of the methods.
    """
    table = read_table(file)
    if not table or tuple(table[0]) != LONG:
        raise UserError(f"{file} is no table of a comparison.", found=", ".join(table[0] if table else ["no row"]),
                        expected=", ".join(LONG), fix="take comparison.csv of a comparison's folder")
    rows: dict[tuple[str, ...], dict] = {}
    for one in table:
        key = one["method"], one["case"], one["structure"]
        row = rows.setdefault(key, {"method": key[0], "case": key[1], "structure": key[2], RELIABILITY: None})
        if one["metric"] in row:
            raise UserError(f"{file} has a number twice.", found=f"{' '.join(key)} {one['metric']}",
                            expected="one row for each", fix="take the table of one comparison")
        row[one["metric"]] = float(one["value"] or "nan")
    cases = dict.fromkeys(case for _, case, _ in rows)
    return Measured(list(rows.values()), Methods({name: Path(name) for name, _, _ in rows}, reference),
                    list(dict.fromkeys(structure for _, _, structure in rows)),
                    Patients({case: patient(case) for case in cases}, ""))


def measure(references: Path, predictions: dict[str, dict[str, Path]], methods: Methods, dataset_json: dict,
            patients: Patients, num_processes: int = 1, *, tolerance_mm: float = TOLERANCE_MM,
            rater_folders: Sequence[Path] = ()) -> Measured:
    """Scores every prediction, and adds what ``cases.csv`` in its folder says.

    A method without samples is scored as a distribution all the same: it is sure of its one mask.

    Raises:
        UserError: a file is not sound, or does not lie on the grid of its reference.
    """
    by_case: dict[str, dict[str, Path]] = {}
    for name, of_method in predictions.items():
        for case, path in of_method.items():
            by_case.setdefault(case, {})[name] = path
    jobs = [(case, references / f"{case}{dataset_json['file_ending']}", by_case[case], dataset_json, tolerance_mm,
             list(rater_folders)) for case in sorted(by_case)]
    num_processes = worthwhile(num_processes, len(jobs))
    if num_processes == 1:
        scored = [row for job in jobs for row in _score_case(job)]
    else:
        with ProcessPoolExecutor(num_processes, multiprocessing.get_context("spawn")) as pool:
            scored = [row for rows in pool.map(_score_case, jobs) for row in rows]
    rows = []
    for name, folder in methods.folders.items():
        table = folder / CASES_FILE
        own = [row for row in scored if row["method"] == name]
        judged = {(row["case"], row["structure"]) for row in own}
        sizes = read_rows(table) if table.is_file() else []
        rows += joined([row for row in sizes if (row["case"], row["structure"]) in judged], own)
    return Measured(rows, methods, [structure.name for structure in structures_of(dataset_json)], patients)


def _score_case(job: tuple) -> list[dict]:
    case, reference, of_methods, dataset_json, tolerance_mm, rater_folders = job
    rows = []
    for name, prediction in of_methods.items():
        arrays = read_case(reference, prediction, dataset_json, rater_folders)
        has_samples = arrays.samples is not None
        if not has_samples:
            arrays = replace(arrays, samples=arrays.prediction[None])
        for structure in structures_of(dataset_json):
            found = StructureOfCase(arrays, structure, tolerance_mm)
            values = evaluate_structure(found)
            if not has_samples:  # what one mask says nothing of, and what would be the Dice once more
                for column in (*INTERVAL.columns, BETWEEN, TO_REFERENCE):
                    values.pop(column.name, None)
            bins = None if arrays.probabilities is None else found.reliability
            rows.append({"method": name, "case": case, "structure": structure.name, RELIABILITY: bins, **values})
    return rows


def _text(value: float) -> str:
    return "" if value != value else f"{value:.6g}"
