"""What a chain states before it starts: where everything lies, each command, its hours and its memory, and the disk."""

from __future__ import annotations

import json
import math
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import replace

from medsegdiff_auto.chain.steps import (CONVERT, EVALUATE, IMAGES, POSTPROCESS, PREDICT, REPORT, Chain,
                                         hours_of_a_training, new_cases)
from medsegdiff_auto.crossval.estimates import Estimate, planned_gb, table_of, training_hours
from medsegdiff_auto.crossval.jobs import CALIBRATE, CHOOSE, PLAN, TRAIN, Job, cases_of, is_planned
from medsegdiff_auto.crossval.methods import METHODS, OURS
from medsegdiff_auto.nnunet.dataset_files import FINGERPRINT_FILE
from medsegdiff_auto.planning.resources import RESOURCES
from medsegdiff_auto.training.schedule import ITERATIONS_PER_EPOCH, TrainingLength
from medsegdiff_auto.writing import write_text

SPARE = 1.25  # more iterations than the time should hold: the clock ends the training, not they
BYTES_OF_A_VOXEL = 4
SHORT = (IMAGES, CHOOSE, POSTPROCESS, EVALUATE, REPORT)  # minutes at most


def iterations_in(hours: float, seconds_of_an_iteration: float) -> int | None:
    """Iterations for a training that the clock ends; None where nnU-Net's own length is shorter.

    They only set how finely the epochs divide the time, since the clock is looked at between two of them.
    """
    number = max(1, math.ceil(SPARE * hours * 3600 / seconds_of_an_iteration))
    return number if number < TrainingLength().num_epochs * ITERATIONS_PER_EPOCH else None


def with_hours(chain: Chain) -> Chain:
    """The chain with the iterations that its hours ask for, where no other length is given and the pace is known."""
    request = chain.training
    if chain.hours is None or request.iterations is not None or request.epochs is not None:
        return chain
    from medsegdiff_auto.chain.pace import known_pace

    paces = [pace for name in request.configurations if (pace := known_pace(chain, name)) is not None]
    if not paces:
        return chain
    share = chain.hours / (len(request.configurations) * len(request.folds))
    return replace(chain, training=replace(request, iterations=iterations_in(share, min(paces))))


def is_plan_there(chain: Chain) -> bool:
    """Whether everything is planned and preprocessed."""
    return is_planned(chain.training, METHODS[OURS].plans(chain.training.plans))


def estimates_of(chain: Chain, jobs: Mapping[str, Job]) -> dict[str, Estimate]:
    """Hours and peak memory of every command that is not done, None where nothing tells; before there is a plan, the
    memory that the planner aims at.
    """
    return {name: _estimate(chain, name) for name, job in jobs.items() if not job.is_done()}


def _estimate(chain: Chain, name: str) -> Estimate:
    kind, *rest = name.split("/")
    request, is_there = chain.training, is_plan_there(chain)
    if kind in SHORT:
        return Estimate(0.0)
    if kind == TRAIN:
        configuration, fold = rest[1], int(rest[2].removeprefix("fold_"))
        return Estimate(_hours_of_a_fold(chain, configuration, fold),
                        planned_gb(request, OURS, configuration) if is_there
                        else RESOURCES[request.resources].gpu_memory_target_gb)
    per_case = _seconds_of_a_case(chain, rest[0] if kind == CALIBRATE else chain.configuration)
    if per_case is None or kind in (CONVERT, PLAN):
        return Estimate()
    if kind == CALIBRATE:
        return Estimate(per_case * sum(len(cases_of(request, fold)) for fold in request.folds) / 3600)
    if kind == PREDICT:
        return Estimate(per_case * len(request.folds) * len(new_cases(chain)) / 3600)
    return Estimate()


def _hours_of_a_fold(chain: Chain, configuration: str, fold: int) -> float | None:
    """By the pace of folds that are over, else by the measured one; within what the hours leave."""
    from medsegdiff_auto.chain.pace import known_pace

    request, share = chain.training, hours_of_a_training(chain)
    hours, pace = training_hours(request, OURS, configuration, fold), known_pace(chain, configuration)
    if hours is None and pace is not None:
        length = (TrainingLength.of_iterations(request.iterations) if request.iterations is not None else
                  TrainingLength(request.epochs) if request.epochs is not None else TrainingLength())
        hours = length.num_epochs * length.num_iterations_per_epoch * pace / 3600
    known = [value for value in (hours, share) if value is not None]
    return min(known) if known else None


def _seconds_of_a_case(chain: Chain, configuration: str) -> float | None:
    from medsegdiff_auto.chain.pace import known_pace, seconds_of_a_case

    pace = known_pace(chain, configuration)
    return None if pace is None or not is_plan_there(chain) else seconds_of_a_case(chain, configuration, pace)


def statement(chain: Chain, jobs: Mapping[str, Job]) -> str:
    """The words before the start."""
    request = chain.training
    words = [f"{request.dataset}: {', '.join(request.configurations)}, folds {' '.join(map(str, request.folds))}, on "
             f"{request.device}. Everything lies in {chain.place.root}.",
             "Each command can be given by hand, with these variables:",
             *(f"  {line}" for line in exports(chain)), "", what_is_left(chain, jobs)]
    return "\n".join(words)


def what_is_left(chain: Chain, jobs: Mapping[str, Job]) -> str:
    """The commands that are not done with hours and memory, and what to know of them."""
    request, words = chain.training, [table_of(jobs, estimates_of(chain, jobs))]
    if not is_plan_there(chain):
        words.append("What is unknown is told when the network is planned, before the first training.")
    elif request.device == "cpu" and chain.hours is None and request.iterations is None and request.epochs is None:
        words.append("nnU-Net's own length is for a GPU: --hours H fits the trainings to a time.")
    if chain.hours is not None:
        words.append(f"--hours {chain.hours:g} is shared by the trainings that are left; validation, calibration and "
                     "predictions come on top.")
    return "\n".join([*words, _disk(chain)])


def _disk(chain: Chain) -> str:
    parts = [] if chain.sources is None else [
        f"about {sum(file.stat().st_size for file in chain.sources) / 1e9:.2f} GB of converted images"]
    fingerprint = chain.training.preprocessed / FINGERPRINT_FILE
    if fingerprint.is_file() and is_plan_there(chain):
        description = json.loads((chain.training.raw / "dataset.json").read_text(encoding="utf-8"))
        shapes = json.loads(fingerprint.read_text(encoding="utf-8"))["shapes_after_crop"]
        num_voxels = sum(math.prod(shape) for shape in shapes) * (1 + len(description["channel_names"]))
        parts.append(f"about {num_voxels * BYTES_OF_A_VOXEL * len(chain.training.configurations) / 1e9:.2f} GB of "
                     "preprocessed cases")
    there = next(folder for folder in (chain.place.root, *chain.place.root.parents) if folder.exists())
    return f"Disk: {'; '.join([*parts, f'{shutil.disk_usage(there).free / 1e9:.0f} GB are free'])}."


def exports(chain: Chain) -> list[str]:
    """The variables that every command needs, as a shell sets them."""
    return [f"export {name}={shlex.quote(str(folder))}" for name, folder in chain.place.folders.items()]


def write_commands(chain: Chain, jobs: Mapping[str, Job]) -> None:
    """Leaves all commands as a script, for a user who grows out of this one."""
    lines = ["#!/bin/sh", "# by hand, with empty folders in these variables", "set -e", *exports(chain),
             *(shlex.join([f"medsegdiff_{job.command[0]}", *job.command[1:]]) for job in jobs.values())]
    text, file = "\n".join(lines) + "\n", chain.place.commands
    if not file.is_file() or file.read_text(encoding="utf-8") != text:
        write_text(text, file)
