"""Predicts a folder of images."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from time import time
from typing import Iterator, Sequence

import numpy as np

from medsegdiff_auto.inference.case_table import read_case_table
from medsegdiff_auto.inference.expected_cost import case_cost, statement, time_calls
from medsegdiff_auto.inference.model import TrainedModel
from medsegdiff_auto.inference.prediction import Outputs, predict_case, prepare_case, write_model_files
from medsegdiff_auto.inference.prediction_folder import CASES_FILE
from medsegdiff_auto.inference.predictor import MedSegDiffPredictor
from medsegdiff_auto.inference.progress import progress_over
from medsegdiff_auto.run_record import write_run

logger = logging.getLogger(__name__)


def preprocessed_cases(cases: dict[str, list[Path]], model: TrainedModel,
                       previous_stage: dict[str, Path] | None) -> Iterator[tuple[str, np.ndarray, dict]]:
    """Case, image (C, *spatial) and properties, the next case prepared in a thread while one is in use."""

    def prepare(case: str) -> tuple[str, np.ndarray, dict]:
        return case, *prepare_case(model, cases[case], previous_stage[case] if previous_stage else None)

    names = list(cases)
    with ThreadPoolExecutor(max_workers=1) as pool:
        waiting = pool.submit(prepare, names[0])
        for following in [*names[1:], None]:
            ready = waiting.result()
            waiting = pool.submit(prepare, following) if following is not None else None
            yield ready


def finished_cases(output_folder: Path, outputs: Outputs, file_ending: str) -> set[str]:
    """Cases of ``cases.csv`` whose label map lies there, which moves last, with everything that is asked for beside it."""
    if not (output_folder / CASES_FILE).is_file():
        return set()
    wanted = [file_ending] + ["_uncertainty.nii.gz"] * outputs.uncertainty + ["_samples.nii.gz"] * outputs.samples
    wanted += ["_probabilities.nii.gz", ".npz"] * outputs.probabilities
    wanted += ["_mutual_information.nii.gz"] * outputs.mutual_information
    return {row["case"] for row in read_case_table(output_folder)
            if all((output_folder / f"{row['case']}{ending}").is_file() for ending in wanted)}


def predict_folder(predictor: MedSegDiffPredictor, model: TrainedModel, cases: dict[str, list[Path]],
                   output_folder: Path, outputs: Outputs, previous_stage: dict[str, Path] | None = None,
                   command: Sequence[str] = (), keep_table: bool = False) -> list[dict]:
    """Predicts every case, writes its files and ``cases.csv``, and returns the table's rows.

    Args:
        cases: case to its channel files, checked before.
        keep_table: rows of other cases stay in ``cases.csv``, those of another part's process among them.
        previous_stage: case to the label map of the cascade's first stage.
        command: the command line, kept in ``run.json``.
    """
    write_model_files(model.plans_manager, model.dataset_json, output_folder)
    calls = time_calls(predictor)
    rows, start = [], time()
    if not keep_table:
        (output_folder / CASES_FILE).unlink(missing_ok=True)
    with progress_over(len(cases)) as progress:
        for number, (case, data, properties) in enumerate(preprocessed_cases(cases, model, previous_stage), 1):
            cost = case_cost(predictor, data.shape, calls)
            if number == 1:
                logger.info("%s", statement(case, cost, calls, predictor, len(cases)))
            with progress.of_case(case, predictor, cost, calls):
                prediction = predict_case(predictor, model, case, data, properties, cases[case][0],
                                          mutual_information=outputs.mutual_information)
                rows += prediction.write(output_folder, case, outputs)
            seconds = (time() - start) / number
            logger.info("%s (%d/%d), %.1f s a case, %.0f s left", case, number, len(cases), seconds,
                        seconds * (len(cases) - number))
    write_run(output_folder, command, model=str(model.folder), folds=list(model.folds), views=predictor.views,
              samples_per_fold=predictor.num_samples, steps=predictor.num_steps, temperature=predictor.temperature,
              options=asdict(predictor.options))
    return rows
