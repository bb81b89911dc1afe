"""Every training case as its own fold predicts it, with what is fitted taken from the other folds.

    comparison/predictions/METHOD/      what medsegdiff_predict writes, and fold_of_case.json
    comparison/fits/METHOD/fold_K.json  configuration, folds, seed, checkpoints; fitted: sampling.json of others

The fit is stored before the first case. A case that is not older than it, with its rows in the table, is done.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from time import monotonic

import numpy as np
import torch

from medsegdiff_auto.crossval.jobs import cases_of, chosen_configuration
from medsegdiff_auto.crossval.methods import METHODS, NNUNET_TRAINER, SAMPLING, Method
from medsegdiff_auto.crossval.request import Request
from medsegdiff_auto.decision.fitted_sampling import FittedSampling
from medsegdiff_auto.decision.sizes import size_column, size_of_voxel
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.files.companion_files import FORMATS_WITH_SPACING
from medsegdiff_auto.files.prediction_folder import CASES_FILE
from medsegdiff_auto.files.scans import is_whole_scan
from medsegdiff_auto.inference.case_table import add_to_case_table, read_case_table
from medsegdiff_auto.inference.export import Outputs, to_image_grid, write_case
from medsegdiff_auto.inference.image_grid import ImageGrid
from medsegdiff_auto.inference.model import TrainedModel, load_model
from medsegdiff_auto.inference.options import SamplingOptions
from medsegdiff_auto.inference.plain_network import PlainModel, plain_of_nnunet, plain_of_ours
from medsegdiff_auto.inference.prediction import Source, fused_case, write_model_files
from medsegdiff_auto.inference.predictor import MedSegDiffPredictor
from medsegdiff_auto.decision.fused_mean import PLAIN
from medsegdiff_auto.locks import alone
from medsegdiff_auto.nnunet.dataset_files import references_folder
from medsegdiff_auto.nnunet.preprocessed import PreprocessedCase, read_cases, require_data_folder
from medsegdiff_auto.nnunet.properties import spacing_of
from medsegdiff_auto.planning.made_from import require_preprocessed
from medsegdiff_auto.sampling.volume_store import InMemory
from medsegdiff_auto.schemas import validated
from medsegdiff_auto.selection.cross_fitting import fit_on, fold_cases, of_other_folds
from medsegdiff_auto.training.console import clock
from medsegdiff_auto.writing import write_json

CHECKPOINT, FOLDS_FILE, DECIMALS = "checkpoint_final.pth", "fold_of_case.json", ".6g"
Predict = Callable[[PreprocessedCase, Path], list[dict]]


def predict_fold(request: Request, name: str, fold: int, device: torch.device) -> None:
    """Fits on the other folds what the method has to fit, and predicts every case of the fold that is not done.

    Raises:
        UserError: a fold is not trained, its data is not there, or the configuration is a cascade.
    """
    method, configuration = METHODS[name], chosen_configuration(request)
    stamp, fitted = _fit(request, method, configuration, fold, device)
    model, predict = _predictor(request, method, configuration, fold, fitted, device)
    folder = request.predictions(name)
    with alone(_lock(folder)):
        write_model_files(model.plans_manager, model.dataset_json, folder)
    cases = cases_of(request, fold)
    names = _unfinished(cases, folder, request.fit(name, fold), model)
    seconds = _seconds_before(request, name, fold, cases)
    for number, case in enumerate(read_cases(data_folder(request, model), names), 1):
        start = monotonic()
        add_to_case_table(predict(case, folder), folder)
        seconds[case.name] = monotonic() - start
        write_json(seconds, _seconds_file(request, name, fold))
        left = np.mean(list(seconds.values())) * (len(names) - number)
        print(f"case {number}/{len(names)} {case.name} | {seconds[case.name]:.1f} s | {clock(left)} left", flush=True)
    record_folds(request, name)
    write_json(stamp | {"cases": cases, "fitted": None if fitted is None else SAMPLING}, request.predicted(name, fold))


def record_folds(request: Request, name: str) -> None:
    """Writes which fold predicts which case."""
    with alone(_lock(request.predictions(name))):
        write_json({case: fold for fold in request.folds for case in cases_of(request, fold)},
                   request.predictions(name) / FOLDS_FILE)


def seconds_per_case(request: Request, name: str) -> float | None:
    """Mean over the cases of all folds, of the process that predicted them; None where that is not known."""
    files = [_seconds_file(request, name, fold) for fold in request.folds]
    seconds = [value for file in files if file.is_file()
               for value in json.loads(file.read_text(encoding="utf-8")).values()]
    return float(np.mean(seconds)) if seconds else None


def data_folder(request: Request, model: TrainedModel | PlainModel) -> Path:
    """The preprocessed cases of a model.

    Raises:
        UserError: they are not there, not those of its plans, or the model is a cascade.
    """
    if model.configuration_manager.previous_stage_name is not None:
        raise UserError("A cascade cannot be judged by itself.", found=str(model.folder),
                        expected="a single-stage configuration", fix="take the configuration of its first stage")
    identifier = model.configuration_manager.data_identifier
    require_preprocessed(request.preprocessed, model.plans_manager.plans, identifier, model.dataset_json)
    return require_data_folder(request.preprocessed, identifier)


def _fit(request: Request, method: Method, configuration: str, fold: int,
         device: torch.device) -> tuple[dict, FittedSampling | None]:
    """The record of what the fold predicts with; and the fit on the other folds, made or read."""
    model_folder = request.model(method.name, configuration)
    with_others = method.fitted == SAMPLING and len(request.folds) > 1
    stamp = {"configuration": configuration, "folds": list(request.folds), "seed": request.seed, "checkpoints": {
        f"fold_{other}": request.checkpoint(method.name, configuration, other).stat().st_mtime_ns
        for other in (request.folds if with_others else (fold,))}}
    file = request.fit(method.name, fold)
    if file.is_file():
        found = json.loads(file.read_text(encoding="utf-8"))
        if {key: found.get(key) for key in stamp} == stamp:
            return stamp, None if found["fitted"] is None else validated(FittedSampling, found["fitted"])
    fitted = None
    if with_others:
        options = SamplingOptions(seed=request.seed or 0)
        others = of_other_folds({other: other for other in request.folds}, fold)
        print(f"fitting on folds {', '.join(map(str, others))}", flush=True)
        fitted, _ = fit_on([fold_cases(model_folder, request.preprocessed, other, options, device, CHECKPOINT)
                            for other in others])
    write_json(stamp | {"fitted": None if fitted is None else asdict(fitted)}, file)
    return stamp, fitted


def _predictor(request: Request, method: Method, configuration: str, fold: int, fitted: FittedSampling | None,
               device: torch.device) -> tuple[TrainedModel | PlainModel, Predict]:
    folder, references = request.model(method.name, configuration), references_folder(request.preprocessed)
    if method.trainer == NNUNET_TRAINER:
        plain = plain_of_nnunet(folder, fold, device)
        return plain, lambda case, out: _predict_plain(plain, case, out, references)
    model = load_model(folder, [fold], CHECKPOINT, use_fitted=False)
    if method.is_plain:
        plain = plain_of_ours(model, 0, device)
        return plain, lambda case, out: _predict_plain(plain, case, out, references)
    if fitted is not None:
        model = model.with_fitted(fitted)
    predictor = MedSegDiffPredictor(model, SamplingOptions(seed=request.seed or 0), device)
    return model, lambda case, out: _predict_samples(predictor, case, out, references)


def _predict_samples(predictor: MedSegDiffPredictor, case: PreprocessedCase, folder: Path,
                     references: Path) -> list[dict]:
    source = Source(case.name, case.properties, references / f"{case.name}{predictor.dataset_json['file_ending']}")
    prediction = fused_case(predictor, source, predictor.draw_case(case.image, case.name))
    return prediction.write(folder, case.name, Outputs(uncertainty=True, samples=True, probabilities=True))


def _predict_plain(plain: PlainModel, case: PreprocessedCase, folder: Path, references: Path) -> list[dict]:
    """The files of a case, and rows with the sizes alone: one mask has no interval and expects nothing of itself."""
    grid = ImageGrid(case.properties, plain.plans_manager, plain.configuration_manager, plain.dataset_json)
    drawn = [(PLAIN, InMemory(plain.probabilities(case.image)))]
    on_image = to_image_grid(drawn, grid, 1.0, "mean")
    write_case(on_image, folder, case.name, references / f"{case.name}{plain.dataset_json['file_ending']}",
               Outputs(uncertainty=True, probabilities=True))
    return plain_rows(case.name, on_image.segmentation, plain.dataset_json, spacing_of(case.properties))


def plain_rows(case: str, segmentation: np.ndarray, dataset_json: dict, spacing_mm: list[float]) -> list[dict]:
    """Rows of ``cases.csv`` of a label map (z, y, x) without samples."""
    from medsegdiff_auto.planning.fingerprint import structure_labels

    is_flat = segmentation.shape[0] == 1
    measure = size_column(2 if is_flat else 3, dataset_json["file_ending"] in FORMATS_WITH_SPACING)
    voxel = size_of_voxel(measure, float(np.prod(spacing_mm[1:] if is_flat else spacing_mm)))
    absent = dict.fromkeys((f"{measure}_p05", f"{measure}_p95", "interval", "expected_dice", "expected_dice_low",
                            "estimate", "expected_dice_between_samples"), "")
    return [{"case": case, "structure": name, measure: f"{np.isin(segmentation, values).sum() * voxel:{DECIMALS}}",
             **absent, "num_samples": 0} for name, values in structure_labels(dataset_json).items()]


def _unfinished(cases: list[str], folder: Path, fit: Path, model: TrainedModel | PlainModel) -> list[str]:
    """The cases whose label map, which is written last, is older than the fit or cut, or has no row in the table."""
    in_table = {row["case"] for row in read_case_table(folder)} if (folder / CASES_FILE).is_file() else set()
    reader, ending = model.plans_manager.image_reader_writer_class(), model.dataset_json["file_ending"]

    def is_finished(case: str) -> bool:
        file = folder / f"{case}{ending}"
        return case in in_table and file.is_file() and (
            file.stat().st_mtime_ns >= fit.stat().st_mtime_ns) and is_whole_scan(file, reader)

    return [case for case in cases if not is_finished(case)]


def _seconds_file(request: Request, name: str, fold: int) -> Path:
    return request.fit(name, fold).with_name(f"fold_{fold}_seconds.json")


def _seconds_before(request: Request, name: str, fold: int, cases: list[str]) -> dict[str, float]:
    file = _seconds_file(request, name, fold)
    before = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return {case: value for case, value in before.items() if case in cases}


def _lock(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder / ".folds.lock"
