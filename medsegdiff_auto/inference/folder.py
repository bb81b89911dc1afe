"""Predicts a folder of images."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from medsegdiff_auto.sampling.case_size import size_of_file
from medsegdiff_auto.inference.continuation import images_checksum, record_prediction
from medsegdiff_auto.inference.expected_cost import case_cost, cost_statement, time_calls
from medsegdiff_auto.sampling.memory_plan import MemoryPlan, fit_beside, memory_statement
from medsegdiff_auto.inference.model import TrainedModel
from medsegdiff_auto.inference.export import Outputs
from medsegdiff_auto.inference.prediction import Source, fused_case, prepare_case, write_model_files
from medsegdiff_auto.files.prediction_folder import CASES_FILE
from medsegdiff_auto.inference.predictor import MedSegDiffPredictor
from medsegdiff_auto.inference.progress import progress_over

logger = logging.getLogger(__name__)


def preprocessed_cases(cases: dict[str, list[Path]], model: TrainedModel, previous_stage: dict[str, Path] | None,
                       fits_beside: Callable[[str, str], bool]) -> Iterator[tuple[str, np.ndarray, dict]]:
    """Case, image (C, *spatial) and properties; the next case is prepared in a thread while one is in use.

    Args:
        fits_beside: whether the memory holds the preparation of the second case beside the first in use.
    """

    def prepare(case: str) -> tuple[str, np.ndarray, dict]:
        return case, *prepare_case(model, cases[case], previous_stage[case] if previous_stage else None)

    names = list(cases)
    with ThreadPoolExecutor(max_workers=1) as pool:
        waiting = [pool.submit(prepare, names[0])]
        for case, following in zip(names, [*names[1:], None]):
            waiting[0].result()
            at_once = following is not None and fits_beside(case, following)
            if at_once:
                waiting.append(pool.submit(prepare, following))
            yield waiting.pop(0).result()  # nothing here holds the image while it is in use
            if following is not None and not at_once:
                waiting.append(pool.submit(prepare, following))


def predict_folder(predictor: MedSegDiffPredictor, cases: dict[str, list[Path]], output_folder: Path, outputs: Outputs,
                   previous_stage: dict[str, Path] | None = None, command: Sequence[str] = (),
                   keep_table: bool = False) -> list[dict]:
    """Predicts every case, writes its files and ``cases.csv``, and returns the table's rows.

    Args:
        cases: case to its channel files, checked before.
        keep_table: rows of other cases stay in ``cases.csv``, those of another part's process among them.
        previous_stage: case to the label map of the cascade's first stage.
        command: the command line, kept in ``run.json``.
    """
    model = predictor.model
    write_model_files(model.plans_manager, model.dataset_json, output_folder)
    calls = time_calls(predictor)
    rows, start = [], time()
    if not keep_table:
        (output_folder / CASES_FILE).unlink(missing_ok=True)
    logger.info("%s", model.fitted.origin if model.fitted else "Sampling as planned: nothing is fitted.")
    images = {case: images_checksum([*files, *([previous_stage[case]] if previous_stage else [])])
              for case, files in cases.items()}
    record_prediction(output_folder, command, images, predictor, keep_table)
    plans: dict[str, MemoryPlan] = {}

    def plan_of(case: str) -> MemoryPlan:
        if case not in plans:
            size = size_of_file(cases[case][0], predictor.num_inputs, predictor.label_manager.num_segmentation_heads,
                                model.plans_manager, model.configuration_manager)
            plans[case] = predictor.memory_plan(size, output_folder)
            if len(plans) == 1 or plans[case].is_on_disk:
                logger.info("%s", memory_statement(case, size, predictor.num_samples, plans[case]))
        return plans[case]

    plan_of(next(iter(cases)))
    prepared = preprocessed_cases(cases, model, previous_stage, lambda *both: fit_beside(*map(plan_of, both)))
    with progress_over(len(cases)) as progress:
        for number, (case, data, properties) in enumerate(prepared, 1):
            plan = plan_of(case)
            cost = case_cost(predictor, data.shape, calls, plan)
            if number == 1:
                logger.info("%s", cost_statement(case, cost, calls, predictor, len(cases)))
            drawn = predictor.draw_case(data, case, plan)
            del data  # large images lie on disk from here on
            with progress.of_case(case, predictor, cost, calls):
                source = Source(case, properties, cases[case][0])
                prediction = fused_case(predictor, source, drawn, outputs.mutual_information, plan.storage.on_cpu())
                rows += prediction.write(output_folder, case, outputs)
            del prediction, drawn
            seconds = (time() - start) / number
            logger.info("%s (%d/%d), %.1f s a case, %.0f s left", case, number, len(cases), seconds,
                        seconds * (len(cases) - number))
    return rows
