"""METHOD+T: the probabilities of a method at the temperature that its cases of the other folds ask for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import torch

from medsegdiff_auto.crossval.jobs import cases_of
from medsegdiff_auto.crossval.methods import TEMPERATURE, WITH_TEMPERATURE
from medsegdiff_auto.crossval.predictions import record_folds
from medsegdiff_auto.crossval.request import Request
from medsegdiff_auto.decision.temperature import at_temperature
from medsegdiff_auto.decision.uncertainty import entropy_map
from medsegdiff_auto.files.arrays import read_arrays
from medsegdiff_auto.files.companion_files import write_npz, write_volumes
from medsegdiff_auto.inference.case_table import read_case_table, write_case_table
from medsegdiff_auto.nnunet.managers import PlansManager
from medsegdiff_auto.nnunet.structures import ignore_label_of, structures_of
from medsegdiff_auto.sampling.volume_store import InMemory
from medsegdiff_auto.selection.cross_fitting import temperature_of_others
from medsegdiff_auto.selection.temperature_fit import nll_by_temperature
from medsegdiff_auto.nnunet.dataset_files import references_folder
from medsegdiff_auto.writing import staged_output, write_json


def apply_temperatures(request: Request, name: str) -> None:
    """Writes the folder of METHOD+T beside that of METHOD: label maps, samples and sizes as they are."""
    source, target = request.predictions(name), request.predictions(f"{name}{WITH_TEMPERATURE}")
    target.mkdir(parents=True, exist_ok=True)
    dataset_json, plans = (json.loads((source / file).read_text(encoding="utf-8")) for file in (
        "dataset.json", "plans.json"))
    manager = PlansManager(plans)
    reader, regions = manager.image_reader_writer_class(), manager.get_label_manager(dataset_json).has_regions
    structures = structures_of(dataset_json)
    ending, references = dataset_json["file_ending"], references_folder(request.preprocessed)

    def curve(case: str) -> np.ndarray:
        labels, reference = (reader.read_seg(str(folder / f"{case}{ending}"))[0][0] for folder in (source, references))
        return nll_by_temperature(read_probabilities(source, case), labels, reference, structures,
                                  regions, ignore_label_of(dataset_json))

    curves = {fold: np.stack([curve(case) for case in cases_of(request, fold)]) for fold in request.folds}
    for file in ("dataset.json", "plans.json"):
        shutil.copyfile(source / file, target / file)
    for fold in request.folds:
        temperature = temperature_of_others(curves, fold)
        print(f"fold {fold}: temperature {temperature:g}", flush=True)
        for case in cases_of(request, fold):
            _write_at(temperature, case, source, target, ending, regions)
        record = json.loads(request.predicted(name, fold).read_text(encoding="utf-8"))
        write_json(record | {"fitted": TEMPERATURE, "temperature": temperature},
                   request.predicted(f"{name}{WITH_TEMPERATURE}", fold))
    write_case_table(read_case_table(source), target)
    record_folds(request, f"{name}{WITH_TEMPERATURE}")


def read_probabilities(folder: Path, case: str) -> np.ndarray:
    """Stored probabilities, (K, z, y, x) float32."""
    return read_arrays(folder / f"{case}.npz", "probabilities")[0]


def _write_at(temperature: float, case: str, source: Path, target: Path, ending: str, regions: bool) -> None:
    label_name = f"{case}{ending}"
    with staged_output(target, last=label_name) as stage:
        for name in (label_name, f"{case}.pkl", f"{case}_samples.nii.gz"):
            if (source / name).is_file():
                shutil.copyfile(source / name, stage / name)
        scaled = at_temperature(read_probabilities(source, case), temperature, regions)
        write_volumes(scaled, len(scaled), stage / label_name, stage / f"{case}_probabilities.nii.gz")
        write_npz(scaled, len(scaled), stage / f"{case}.npz")
        write_volumes([entropy_map(InMemory(torch.from_numpy(scaled)), regions)], None, stage / label_name,
                      stage / f"{case}_uncertainty.nii.gz")
