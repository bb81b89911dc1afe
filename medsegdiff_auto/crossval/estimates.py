"""What the jobs will take, as far as anything says so: hours from epochs and cases that are over, memory from the plan.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from medsegdiff_auto.crossval.jobs import PREDICT, TRAIN, Job, cases_of
from medsegdiff_auto.crossval.methods import METHODS, NNUNET_TRAINER
from medsegdiff_auto.crossval.request import Request
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.training.checkpoints import load_safely
from medsegdiff_auto.training.run import CHECKPOINTS_TO_CONTINUE
from medsegdiff_auto.training.schedule import TrainingLength


@dataclass(frozen=True)
class Estimate:
    """What one job takes; None where nothing tells.

    Attributes:
        hours: still to come.
        memory_gb: peak, in 1e9 bytes.
    """

    hours: float | None = None
    memory_gb: float | None = None


def estimates_of(request: Request, jobs: Mapping[str, Job]) -> dict[str, Estimate]:
    """Estimates every job that is not done."""
    memories: dict[tuple[str, str], float | None] = {}
    found = {}
    for name, job in jobs.items():
        kind, *rest = name.split("/")
        if job.is_done():
            continue
        if kind == TRAIN:
            method, configuration, fold = rest[0], rest[1], int(rest[2].removeprefix("fold_"))
            if (method, configuration) not in memories:
                memories[method, configuration] = planned_gb(request, method, configuration)
            found[name] = Estimate(training_hours(request, method, configuration, fold),
                                   memories[method, configuration])
        elif kind == PREDICT:
            found[name] = Estimate(prediction_hours(request, rest[0], int(rest[1].removeprefix("fold_"))))
        else:
            found[name] = Estimate()
    return found


def training_hours(request: Request, method: str, configuration: str, fold: int) -> float | None:
    """Hours that are left of a training, at the pace of its own iterations, else of another fold's; None before any."""
    wanted = (TrainingLength.of_iterations(request.iterations) if request.iterations is not None else TrainingLength(
        request.epochs) if request.epochs is not None else TrainingLength())
    paces = {other: pace for other in request.folds
             if (pace := _pace(request.checkpoint(method, configuration, other).parent)) is not None}
    if not paces:
        return None
    done, pace = paces.get(fold, (0, next(iter(paces.values()))[1]))
    return max(0, wanted.num_epochs * wanted.num_iterations_per_epoch - done) * pace


def _pace(fold_folder: Path) -> tuple[int, float] | None:
    """Iterations of a fold that are over, and hours of one, the validation batches included."""
    file = next((fold_folder / name for name in CHECKPOINTS_TO_CONTINUE if (fold_folder / name).is_file()), None)
    if file is None:
        return None
    try:
        checkpoint = load_safely(file)
    except UserError:  # said when the training goes on from it
        return None
    done, hours = checkpoint.get("num_train_steps_done", 0), checkpoint.get("hours", 0.0)
    return (done, hours / done) if done and hours else None


def prediction_hours(request: Request, method: str, fold: int) -> float | None:
    """Hours that the cases of a fold take as those that are predicted took; without the fit, and None before any."""
    seconds = [value for other in request.folds
               for value in _read(request.fit(method, other).with_name(f"fold_{other}_seconds.json")).values()]
    cases = cases_of(request, fold)
    return sum(seconds) / len(seconds) * len(cases) / 3600 if seconds and cases else None


def planned_gb(request: Request, method: str, configuration: str) -> float | None:
    """The planner's peak of training; None before there is a plan, and for nnU-Net's own training, which it does not
    count.
    """
    row = METHODS[method]
    file = request.preprocessed / f"{row.plans(request.plans)}.json"
    if row.trainer == NNUNET_TRAINER or not file.is_file():
        return None
    from medsegdiff_auto.nnunet.known_names import read_plans
    from medsegdiff_auto.nnunet.managers import PlansManager
    from medsegdiff_auto.planning.memory import predicted_peak_gb
    from medsegdiff_auto.training.step import HALF_PRECISION

    manager = PlansManager(read_plans(file))
    dataset_json = json.loads((request.preprocessed / "dataset.json").read_text(encoding="utf-8"))
    return predicted_peak_gb(manager, manager.get_configuration(configuration), dataset_json,
                             half_precision=request.device in HALF_PRECISION)


def _read(file: Path) -> dict:
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def table_of(jobs: Mapping[str, Job], estimates: Mapping[str, Estimate]) -> str:
    """The table of ``--dry_run``: job, hours, memory, command; and sums as far as they are known."""

    def words(value: float | None, digits: int) -> str:
        return "unknown" if value is None else f"{value:.{digits}f}"

    rows = [f"{name}: {words(one.hours, 2)} h, {words(one.memory_gb, 2)} GB\n    medsegdiff_"
            f"{shlex.join(jobs[name].command)}" for name, one in estimates.items()]
    known = [one.hours for one in estimates.values() if one.hours is not None]
    unknown = len(estimates) - len(known)
    return "\n".join([*rows, f"{len(estimates)} of {len(jobs)} jobs are to do: {sum(known):.1f} h one after the other"
                      + (f", and {unknown} jobs of unknown length" if unknown else "") + "."])
