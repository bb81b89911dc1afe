"""A folder of predictions against a folder of references: nnU-Net's summary.json, and metrics.csv with metrics.json
beside it.
"""

import json
import logging
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.evaluation.case import CaseArrays, StructureOfCase
from medsegdiff_auto.evaluation.case_files import (Grid, companion, read_channels, read_label_map, read_map,
                                                   read_npz)
from medsegdiff_auto.evaluation.metrics_table import metrics_header, write_rows
from medsegdiff_auto.evaluation.score import evaluate_structure
from medsegdiff_auto.nnunet.structures import has_regions, ignore_label_of, structures_of
from medsegdiff_auto.files.listing import files_of, passed_over
from medsegdiff_auto.files.prediction_folder import list_predictions, staged_predictions
from medsegdiff_auto.findings import findings_table, raise_errors
from medsegdiff_auto.writing import atomically, write_json

logger = logging.getLogger(__name__)

TOLERANCE_MM = 1.0
CASES_PER_PROCESS = 4    # fewer do not repay the start of a process, which takes seconds where torch is imported


def evaluate_folder(reference_folder: str | Path, prediction_folder: str | Path, dataset_json: str | Path | dict,
                    plans: str | Path | dict, output_json: str | Path | None = None, num_processes: int = 1, *,
                    tolerance_mm: float = TOLERANCE_MM, chill: bool = False,
                    rater_folders: Sequence[str | Path] = ()) -> dict:
    """Score a prediction folder and write ``summary.json`` (nnU-Net's), ``metrics.csv`` and ``metrics.json``.

    ``output_json`` names the summary, by default ``prediction_folder/summary.json``; the others lie beside it.
    ``chill`` accepts references without a prediction. ``rater_folders`` hold several references per case, for GED.

    Returns:
        ``summary`` (nnU-Net's), ``rows`` (metrics.csv) and ``header`` (metrics.json, with the means of each structure).

    Raises:
        UserError: a folder is missing, a prediction has no reference or, unless ``chill``, a reference no prediction or
            a file another ending.
    """
    dataset_json = _load(dataset_json)
    output_json = Path(output_json or Path(prediction_folder) / "summary.json")
    _require_all_read([reference_folder, prediction_folder, *rater_folders], dataset_json["file_ending"], chill)
    pairs, missing = _pair_up(Path(reference_folder), Path(prediction_folder), dataset_json["file_ending"], chill)
    rows = evaluate_cases(pairs, dataset_json, num_processes, tolerance_mm=tolerance_mm, rater_folders=rater_folders)
    summary = _nnunet_summary(reference_folder, prediction_folder, dataset_json, _load(plans), output_json,
                              worthwhile(num_processes, len(pairs)))
    header = metrics_header(rows, tolerance_mm, missing)
    write_rows(rows, output_json.with_name("metrics.csv"))
    write_json(header, output_json.with_name("metrics.json"))
    return {"summary": summary, "rows": rows, "header": header}


def evaluate_cases(pairs: dict[str, tuple[Path, Path]], dataset_json: dict, num_processes: int = 1, *,
                   tolerance_mm: float = TOLERANCE_MM, rater_folders: Sequence[str | Path] = ()) -> list[dict]:
    """One row per case and structure from ``{case: (reference, prediction)}``, in that order; nothing is written."""
    raters = [Path(folder) for folder in rater_folders]
    jobs = [(case, *files, dataset_json, tolerance_mm, raters) for case, files in pairs.items()]
    num_processes = worthwhile(num_processes, len(jobs))
    if num_processes == 1:
        return [row for job in jobs for row in _evaluate_case(job)]
    with ProcessPoolExecutor(num_processes, multiprocessing.get_context("spawn")) as pool:
        return [row for rows in pool.map(_evaluate_case, jobs) for row in rows]


def read_case(reference: Path, prediction: Path, dataset_json: dict, rater_folders: Sequence[Path] = ()) -> CaseArrays:
    """A case with all that lies beside its prediction, on the grid of its reference.

    Raises:
        UserError: a file is not sound, lies elsewhere than the reference, or holds labels that the dataset has not.
    """
    reference_map, grid = read_label_map(reference, dataset_json)
    prediction_map, _ = read_label_map(prediction, dataset_json, (reference, grid))
    readers = {"probabilities": read_channels, "samples": read_channels, "uncertainty": read_map}
    files = {kind: companion(prediction, dataset_json["file_ending"], kind) for kind in readers}
    arrays = {kind: None if path is None else readers[kind](path, grid) for kind, path in files.items()}
    npz = prediction.with_name(f"{prediction.name[:-len(dataset_json['file_ending'])]}.npz")
    if arrays["probabilities"] is None and npz.is_file():
        arrays["probabilities"] = read_npz(npz, grid)
    raters = _read_raters(reference, grid, dataset_json, rater_folders)
    arrays = CaseArrays(reference_map, prediction_map, grid, raters=raters, ignore_label=ignore_label_of(dataset_json),
                        regions=has_regions(dataset_json), **arrays)
    _require_own_probabilities(arrays, files["probabilities"] or npz, dataset_json)
    return arrays


def pair_with_references(reference_folder: Path, predictions: dict[str, Path],
                         file_ending: str) -> dict[str, tuple[Path, Path]]:
    """``{case: (reference, prediction)}`` for the predictions that have a reference."""
    paired = {case: (reference_folder / f"{case}{file_ending}", path) for case, path in predictions.items()}
    return {case: files for case, files in paired.items() if files[0].is_file()}


def worthwhile(num_processes: int, num_cases: int) -> int:
    """As many of the processes as repay their start."""
    return max(1, min(num_processes, num_cases // CASES_PER_PROCESS))


def _evaluate_case(job: tuple) -> list[dict]:
    case, reference, prediction, dataset_json, tolerance_mm, rater_folders = job
    arrays = read_case(reference, prediction, dataset_json, rater_folders)
    found = [StructureOfCase(arrays, structure, tolerance_mm) for structure in structures_of(dataset_json)]
    return [{"case": case, "structure": one.structure.name, **evaluate_structure(one)} for one in found]


def _require_all_read(folders: Sequence[str | Path], file_ending: str, chill: bool) -> None:
    findings = [finding for folder in map(Path, folders) if folder.is_dir()
                for finding in passed_over(folder, file_ending)]
    if chill and findings:
        logger.info("%s\n", findings_table(findings))
    elif findings:
        raise_errors(findings, "What is to be scored", "the table above")


def _pair_up(references: Path, predictions: Path, file_ending: str, chill: bool) -> tuple[dict, list[str]]:
    if not references.is_dir():
        raise UserError("The reference folder does not exist.", found=str(references),
                        expected="a folder of label maps",
                        fix="correct the path, such as nnUNet_raw/DatasetXXX_Name/labelsTs")
    predicted = list_predictions(predictions, file_ending)
    pairs = pair_with_references(references, predicted, file_ending)
    unmatched = sorted(set(predicted) - set(pairs))
    if unmatched:
        raise UserError(f"{len(unmatched)} prediction(s) have no reference.", found=_few(unmatched),
                        expected=f"{references}/CASE{file_ending} for each prediction",
                        fix="correct the reference folder")
    missing = sorted({path.name[:-len(file_ending)] for path in files_of(references, file_ending)[0]} - set(pairs))
    if missing and not chill:
        raise UserError(f"{len(missing)} reference(s) have no prediction.", found=_few(missing),
                        expected=f"{predictions}/CASE{file_ending} for each reference",
                        fix="predict the missing cases, or accept a part of them with --chill")
    return pairs, missing


def _nnunet_summary(reference_folder, prediction_folder, dataset_json: dict, plans: dict, output_json: Path,
                    num_processes: int) -> dict:
    from nnunetv2.evaluation.evaluate_predictions import compute_metrics_on_folder, save_summary_json

    from medsegdiff_auto.nnunet.managers import PlansManager
    from medsegdiff_auto.nnunet.readers import find_reader

    labels = PlansManager(plans).get_label_manager(dataset_json)
    scored = labels.foreground_regions if labels.has_regions else labels.foreground_labels
    ending = dataset_json["file_ending"]
    with staged_predictions(prediction_folder, ending) as stage:
        reader = find_reader(dataset_json, sorted(stage.iterdir()))
        summary = compute_metrics_on_folder(str(reference_folder), str(stage), None, reader, ending, scored,
                                            labels.ignore_label, num_processes)
    for case in summary["metric_per_case"]:
        case["prediction_file"] = str(Path(prediction_folder) / Path(case["prediction_file"]).name)
    with atomically(output_json) as unfinished:
        save_summary_json(summary, str(unfinished))
    return summary


def _require_own_probabilities(arrays: CaseArrays, file: Path, dataset_json: dict) -> None:
    """Checks that there is a channel for every structure, and that each is likelier within its predicted mask than
    outside: otherwise the order of the channels or of the voxels is another one.

    Raises:
        UserError: they do not belong to the label map.
    """
    if arrays.probabilities is None:
        return
    structures = structures_of(dataset_json)
    expected = len(structures) + (not arrays.regions)
    if len(arrays.probabilities) != expected:
        raise UserError(f"{file} has not one channel for each class.", found=f"{len(arrays.probabilities)} channels",
                        expected=f"{expected}, as dataset.json lists them", fix="predict the case again")
    for structure in structures:
        mask, p = structure.mask(arrays.prediction), arrays.probabilities[structure.channel]
        if mask.any() and not mask.all() and not p[mask].mean() > p[~mask].mean():
            raise UserError(f"{file} does not belong to the label map beside it.",
                            found=f"{structure.name} is not likelier within its mask than outside",
                            expected="probabilities in the order of the label map's voxels and labels",
                            fix="predict the case again, both files with one command")


def _read_raters(reference: Path, grid: Grid, dataset_json: dict, folders: Sequence[Path]):
    files = [folder / reference.name for folder in folders if (folder / reference.name).is_file()]
    maps = [read_label_map(file, dataset_json, (reference, grid))[0] for file in files]
    return np.stack(maps) if maps else None


def _load(json_or_dict: str | Path | dict) -> dict:
    return json_or_dict if isinstance(json_or_dict, dict) else json.loads(
        Path(json_or_dict).read_text(encoding="utf-8"))


def _few(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
