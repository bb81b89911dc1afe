"""``cases.csv``: the size of every structure with its interval, and how good the segmentation is expected to be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.files.companion_files import FORMATS_WITH_SPACING
from medsegdiff_auto.decision.conformal import Margins, margin_for
from medsegdiff_auto.files.prediction_folder import CASES_FILE
from medsegdiff_auto.decision.sizes import SIZE_COLUMNS, size_column, size_of_voxel
from medsegdiff_auto.decision.uncertainty import describe_structure
from medsegdiff_auto.inference.export import ImageGridPrediction
from medsegdiff_auto.inference.model import TrainedModel
from medsegdiff_auto.locks import alone
from medsegdiff_auto.sampling.volume_store import VolumeStore, in_memory
from medsegdiff_auto.planning.fingerprint import structure_labels
from medsegdiff_auto.writing import read_table, write_table

LOCK = f".{CASES_FILE}.lock"


@dataclass(frozen=True)
class StructureSize:
    """One structure of a case.

    Attributes:
        measure: ``volume_ml``, ``area_mm2`` in 2-D, ``area_px`` for formats without spacing.
        size: of the fused mask, in this unit.
        lower, upper: the 90 % interval of the size.
        interval: whose it is: ``samples`` (their 5 to 95 %), or ``conformal`` where a margin is fitted.
        expected_dice: mean Dice of the fused mask with the samples, [0, 1], NaN where none of them has the structure;
            of a calibrated model that of the fitted :mod:`~medsegdiff_auto.decision.quality`.
        expected_dice_low: 90 % of the cases lie above; NaN unless fitted.
        estimate: whose the expected Dice is: ``fitted`` or ``samples``.
        expected_dice_between_samples: NaN for a single one, and where none has the structure.
    """

    measure: str
    size: float
    lower: float
    upper: float
    interval: str
    expected_dice: float
    expected_dice_low: float
    estimate: str
    expected_dice_between_samples: float


def structure_sizes(segmentation: np.ndarray, samples: Sequence[VolumeStore], dataset_json: dict,
                    spacing_mm: list[float], margins: dict[str, Margins] | None = None) -> dict[str, StructureSize]:
    """Every structure's; shapes as in :class:`ImageGridPrediction`, spacing in the same axis order.

    ``margins`` are the fitted ones of the volume intervals, by structure.
    """
    fitted = {structure: margin_for(of_structure, len(samples)) for structure, of_structure in (margins or {}).items()}
    two_dimensional = segmentation.shape[0] == 1
    column = size_column(2 if two_dimensional else 3, dataset_json["file_ending"] in FORMATS_WITH_SPACING)
    voxel_size = size_of_voxel(column, float(np.prod(spacing_mm[1:] if two_dimensional else spacing_mm)))
    return {structure: StructureSize(
        measure=column, interval="samples" if fitted.get(structure) is None else "conformal",
        expected_dice_low=math.nan, estimate="samples",
        **describe_structure(in_memory(segmentation), samples, values, voxel_size, fitted.get(structure)))
        for structure, values in structure_labels(dataset_json).items()}


def with_quality(sizes: dict[str, StructureSize], on_image: ImageGridPrediction, model: TrainedModel,
                 temperature: float) -> dict[str, StructureSize]:
    """The expected Dice as it is fitted on cases with a reference.

    Without such a fit it stays the samples', at most what the network reached on its validation patches: samples that
    are alike do not make a weak network a good one.

    Args:
        temperature: of the prediction's probabilities, which a user may choose; the fit is one of the fitted.
    """
    quality = model.fitted.quality if model.fitted else None
    if quality is None:
        most = {name: model.validation_dice.get(name, 1.0) for name in sizes}
        return {name: replace(one, expected_dice=float(np.minimum(one.expected_dice, most[name])))
                for name, one in sizes.items()}
    soft_dices, described = on_image.soft_dices(model.temperature / temperature), {}
    for name, one in sizes.items():
        expected, low = quality.expected_dice(name, soft_dices[name], one.size)
        described[name] = one if math.isnan(expected) else replace(one, expected_dice=expected, expected_dice_low=low,
                                                                   estimate="fitted")
    return described


def case_rows(case: str, sizes: dict[str, StructureSize], num_samples: int) -> list[dict]:
    """One row per structure; what is NaN is left empty."""
    return [{
        "case": case, "structure": structure, one.measure: f"{one.size:.6g}", f"{one.measure}_p05": f"{one.lower:.6g}",
        f"{one.measure}_p95": f"{one.upper:.6g}", "interval": one.interval,
        "expected_dice": _decimals(one.expected_dice),
        "expected_dice_low": _decimals(one.expected_dice_low), "estimate": one.estimate,
        "expected_dice_between_samples": _decimals(one.expected_dice_between_samples),
        "num_samples": num_samples
    } for structure, one in sizes.items()]


def _decimals(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4f}"


def add_to_case_table(rows: list[dict], folder: Path) -> None:
    """Adds the rows of a case, in the place of earlier ones; processes that predict parts of a folder take turns."""
    with alone(folder / LOCK):
        cases = {row["case"] for row in rows}
        before = read_case_table(folder) if (folder / CASES_FILE).is_file() else []
        write_case_table(
            sorted([row for row in before if row["case"] not in cases] + rows, key=lambda row: row["case"]), folder)


def flag_cases(folder: Path, below: float) -> list[dict]:
    """Sets the column ``flagged`` of every row, ``yes`` where the expected Dice is below the limit, else ``no``, as for
    a structure that is absent and has none.

    Returns:
        The flagged rows, the lowest expected Dice first; none where there is no table.
    """
    if not (folder / CASES_FILE).is_file():
        return []
    with alone(folder / LOCK):
        rows = [
            row | {"flagged": "yes" if float(row["expected_dice"] or "nan") < below else "no"}
            for row in read_case_table(folder)
        ]
        write_case_table(rows, folder)
    return sorted((row for row in rows if row["flagged"] == "yes"), key=lambda row: float(row["expected_dice"]))


def write_case_table(rows: list[dict], folder: Path) -> None:
    """Writes the table anew."""
    write_table(rows, folder / CASES_FILE)


def read_case_table(folder: Path) -> list[dict]:
    """The rows of a folder's table, values as text.

    Raises:
        UserError: the table has no column of cases.
    """
    rows = read_table(folder / CASES_FILE)
    if rows and "case" not in rows[0]:
        raise UserError(f"{folder / CASES_FILE} has no column named case.", found=", ".join(rows[0]),
                        expected="the table that medsegdiff_predict writes", fix="predict again, or delete the file")
    return rows


def with_sizes_of(rows: list[dict], folder: Path, dataset_json: dict) -> list[dict]:
    """The rows with the sizes of the label maps in ``folder``; intervals and expected Dice stay those of the samples.
    """
    structures = structure_labels(dataset_json)
    measured = []
    for row in rows:
        column = next((name for name in SIZE_COLUMNS if name in row), None)
        if column is not None:
            image = sitk.ReadImage(str(folder / f"{row['case']}{dataset_json['file_ending']}"))
            spacing_mm = image.GetSpacing()[:3 if column == "volume_ml" else 2]
            num_voxels = np.isin(sitk.GetArrayViewFromImage(image), structures[row["structure"]]).sum()
            row = {**row, column: f"{num_voxels * size_of_voxel(column, float(np.prod(spacing_mm))):.6g}"}
        measured.append(row)
    return measured
