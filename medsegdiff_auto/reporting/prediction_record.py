"""What a prediction folder holds, scored against references and the known posterior where these are given."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from medsegdiff_auto.evaluation.calibration import Reliability, reliability
from medsegdiff_auto.evaluation.case import CaseArrays, StructureOfCase
from medsegdiff_auto.evaluation.case_files import companion, read_map, read_posterior
from medsegdiff_auto.evaluation.folder import TOLERANCE_MM, evaluate_cases, pair_with_references, read_case
from medsegdiff_auto.evaluation.metrics_table import joined, read_rows
from medsegdiff_auto.nnunet.structures import Structure, structures_of
from medsegdiff_auto.files.prediction_folder import list_predictions
from medsegdiff_auto.reporting.model_record import read_json

NUM_UNCERTAINTY_BINS = 10


@dataclass
class PooledCurves:
    """Reliability of each structure pooled over the cases, and the error rate by uncertainty; empty where nothing was
    saved.
    """

    against_reference: dict[str, Reliability] = field(default_factory=dict)
    against_posterior: dict[str, Reliability] = field(default_factory=dict)
    errors_by_uncertainty: Reliability | None = None


@dataclass(frozen=True)
class PredictionRecord:
    """Predictions by case, their references ``{case: (reference, prediction)}``, and one row per case and structure."""

    folder: Path
    dataset_json: dict
    predictions: dict[str, Path]
    pairs: dict[str, tuple[Path, Path]]
    rows: list[dict]
    header: dict | None

    @property
    def structures(self) -> list[Structure]:
        return structures_of(self.dataset_json)

    @property
    def is_scored(self) -> bool:
        return any("dice" in row for row in self.rows)

    def values(self, structure: str, column: str) -> np.ndarray:
        """The column of a structure over the cases, without NaN."""
        values = np.array([row.get(column, np.nan) for row in self.rows if row["structure"] == structure],
                          dtype=np.float64)
        return values[~np.isnan(values)]


def read_predictions(prediction_folder: Path, reference_folder: Path | None, dataset_json: dict) -> PredictionRecord:
    """Read ``cases.csv`` and ``metrics.csv``; where the latter is absent or out of date, the cases with a reference are
    scored here.

    Raises:
        UserError: the folder is missing or holds no prediction.
    """
    ending = dataset_json["file_ending"]
    predictions = list_predictions(prediction_folder, ending)
    pairs = {} if reference_folder is None else pair_with_references(reference_folder, predictions, ending)
    table = prediction_folder / "metrics.csv"
    scores = read_rows(table) if table.is_file() and _is_current(table, predictions) else evaluate_cases(
        pairs, dataset_json)
    sizes = read_rows(prediction_folder / "cases.csv") if (prediction_folder / "cases.csv").is_file() else []
    return PredictionRecord(prediction_folder, dataset_json, predictions, pairs, joined(sizes, scores),
                            read_json(prediction_folder / "metrics.json"))


def scored_cases(record: PredictionRecord) -> Iterator[tuple[str, CaseArrays]]:
    """The arrays of every case that has a reference, one after the other."""
    for case, files in record.pairs.items():
        yield case, read_case(*files, record.dataset_json)


def pool_curves(record: PredictionRecord, posterior_folder: Path | None) -> PooledCurves:
    """Add up the curves of all scored cases on their relevant masks."""
    curves = PooledCurves()
    for case, arrays in scored_cases(record):
        posterior = None if posterior_folder is None else _posterior(posterior_folder / f"{case}.npz", arrays)
        doubtful = np.zeros(arrays.grid.shape, bool)
        for structure in record.structures:
            found = StructureOfCase(arrays, structure, TOLERANCE_MM)
            doubtful |= found.near
            _add_structure(curves, found, posterior)
        uncertainty = companion(record.predictions[case], record.dataset_json["file_ending"], "uncertainty")
        if uncertainty is not None:
            _add_uncertainty(curves, arrays, doubtful, read_map(uncertainty, arrays.grid))
    return curves


def mean_dice_by_case(record: PredictionRecord) -> dict[str, float]:
    """The mean Dice over the structures of each scored case, worst first; a case without any structure is left out."""
    scores: dict[str, list[float]] = {}
    for row in record.rows:
        if row.get("dice", np.nan) == row.get("dice", np.nan):
            scores.setdefault(row["case"], []).append(row["dice"])
    means = {case: float(np.mean(values)) for case, values in scores.items()}
    return dict(sorted(means.items(), key=lambda item: item[1]))


def _add_structure(curves: PooledCurves, found: StructureOfCase, posterior: np.ndarray | None) -> None:
    if found.probabilities is None:
        return
    _add(curves.against_reference, found.structure.name, found.reliability)
    if posterior is not None:
        true = found.structure.posterior(posterior)[found.near]
        _add(curves.against_posterior, found.structure.name, reliability(found.near_probabilities, true))


def _add_uncertainty(curves: PooledCurves, arrays: CaseArrays, mask: np.ndarray, uncertainty: np.ndarray) -> None:
    wrong = arrays.prediction != arrays.reference
    found = reliability(np.clip(uncertainty[mask], 0, 1), wrong[mask], NUM_UNCERTAINTY_BINS)
    known = curves.errors_by_uncertainty
    curves.errors_by_uncertainty = found if known is None else known + found


def _add(curves: dict[str, Reliability], name: str, curve: Reliability) -> None:
    curves[name] = curves[name] + curve if name in curves else curve


def _posterior(path: Path, arrays: CaseArrays) -> np.ndarray | None:
    return read_posterior(path, arrays.grid) if path.is_file() else None


def _is_current(table: Path, predictions: dict[str, Path]) -> bool:
    """The table is not older than any prediction and knows each of them."""
    newest = max(path.stat().st_mtime for path in predictions.values())
    return table.stat().st_mtime >= newest and set(predictions) == {row["case"] for row in read_rows(table)}
