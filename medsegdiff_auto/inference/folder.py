"""Predicts a folder of images."""

from __future__ import annotations

import logging
import traceback
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from time import monotonic
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.files.dicom_series import Series
from medsegdiff_auto.failures import FULL_DISK, as_user_error
from medsegdiff_auto.sampling.case_size import size_of_file
from medsegdiff_auto.inference.continuation import images_checksum, record_prediction
from medsegdiff_auto.inference.expected_cost import case_cost, cost_statement, time_calls
from medsegdiff_auto.sampling.memory_plan import MemoryPlan, fit_beside, memory_statement
from medsegdiff_auto.inference.model import TrainedModel
from medsegdiff_auto.inference.export import Outputs
from medsegdiff_auto.inference.prediction import (Source, drawn_for_image, fused_case, prepare_case,
                                                  write_model_files)
from medsegdiff_auto.files.prediction_folder import CASES_FILE
from medsegdiff_auto.inference.predictor import MedSegDiffPredictor
from medsegdiff_auto.inference.progress import progress_over

logger = logging.getLogger(__name__)


def preprocessed_cases(cases: dict[str, list[Path]], model: TrainedModel, previous_stage: dict[str, Path] | None,
                       fits_beside: Callable[[str, str], bool]) -> Iterator[tuple[str, list[Future]]]:
    """Cases, each with a list of one Future of its image (C, *spatial) and properties, to be taken out of the list.

    The next case is prepared in a thread while one is in use.

    Args:
        fits_beside: whether the memory holds the preparation of the second case beside the first in use.
    """

    def prepare(case: str) -> tuple[np.ndarray, dict]:
        return prepare_case(model, cases[case], previous_stage[case] if previous_stage else None)

    names = list(cases)
    with ThreadPoolExecutor(max_workers=1) as pool:
        waiting = [pool.submit(prepare, names[0])]
        for case, following in zip(names, [*names[1:], None]):
            wait(waiting[:1])
            at_once = following is not None and fits_beside(case, following)
            if at_once:
                waiting.append(pool.submit(prepare, following))
            yield case, [waiting.pop(0)]  # nothing here holds the image while it is in use
            if following is not None and not at_once:
                waiting.append(pool.submit(prepare, following))


def predict_folder(predictor: MedSegDiffPredictor, cases: dict[str, list[Path]], output_folder: Path, outputs: Outputs,
                   previous_stage: dict[str, Path] | None = None, command: Sequence[str] = (),
                   keep_table: bool = False, series: dict[str, Series] | None = None) -> list[str]:
    """Predicts every case, writes its files and ``cases.csv``, and returns the cases that could not be predicted.

    A case that fails does not stop the others; its error is logged.

    Args:
        cases: case to its channel files, checked before.
        keep_table: rows of other cases stay in ``cases.csv``, those of another part's process among them.
        previous_stage: case to the label map of the cascade's first stage.
        command: the command line, kept in ``run.json``.
        series: case to the DICOM series that its image was read from.

    Raises:
        UserError: no case could be predicted.
        OSError: the disk takes no more.
        Exception: a case met a mistake of ours, after the others are done.
    """
    model = predictor.model
    write_model_files(model.plans_manager, model.dataset_json, output_folder)
    calls = time_calls(predictor)
    failures: dict[str, Exception] = {}
    start = monotonic()
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
            plans[case] = predictor.memory_plan(size, output_folder, outputs.mutual_information)
            if len(plans) == 1 or plans[case].is_on_disk:
                logger.info("%s", memory_statement(case, size, predictor.num_samples, plans[case]))
        return plans[case]

    def fits_beside(case: str, following: str) -> bool:
        try:
            return fit_beside(plan_of(case), plan_of(following))
        except UserError:  # said when the case's turn comes
            return False

    def predict(case: str, prepared: list[Future], is_first: bool) -> None:
        data, properties = prepared.pop().result()
        plan = plan_of(case)
        cost = case_cost(predictor, data.shape, calls, plan)
        if is_first:
            logger.info("%s", cost_statement(case, cost, calls, predictor, len(cases)))
        source = Source(case, properties, cases[case][0], series=(series or {}).get(case))
        drawn = drawn_for_image(predictor, source, data, plan)
        del data  # large images lie on disk from here on
        with progress.of_case(case, predictor, cost, calls):
            prediction = fused_case(predictor, source, drawn, outputs.mutual_information, plan.storage.on_cpu())
            prediction.write(output_folder, case, outputs)

    number, first = 0, next(iter(cases))
    fits_beside(first, first)  # says what the first case takes before it is prepared
    with progress_over(len(cases)) as progress:
        for case, prepared in preprocessed_cases(cases, model, previous_stage, fits_beside):
            number += 1
            try:
                predict(case, prepared, number == 1)
            except Exception as failure:
                failures[case] = _failure_of_case(case, failure, is_only=len(cases) == 1)
            seconds = (monotonic() - start) / number
            logger.info("%s (%d/%d), %.1f s a case, %.0f s left", case, number, len(cases), seconds,
                        seconds * (len(cases) - number))
    for failure in failures.values():
        if not isinstance(failure, UserError):
            raise failure
    if len(failures) == len(cases):
        raise UserError("No case could be predicted.", found=f"{len(failures)} cases that failed, see above",
                        expected="images as those that the model was trained on", fix="see to the errors above")
    return list(failures)


def _failure_of_case(case: str, failure: Exception, is_only: bool) -> Exception:
    """Logs why a case failed; what would meet the next one too, a full disk, is raised, and so is an only case's."""
    error = as_user_error(failure, case)
    if is_only or getattr(failure, "errno", None) in FULL_DISK:
        raise error or failure
    traceback.clear_frames(failure.__traceback__)  # they hold its arrays
    logger.error("%s", error or f"{case}: {type(failure).__name__}: {failure}")
    return error or failure
