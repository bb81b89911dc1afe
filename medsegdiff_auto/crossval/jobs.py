"""The jobs of a cross-validation, derived from what is asked for: what each needs, its command, and whether the folders
say that it is done.

    plan/PLANS                        plans and preprocessed cases
    train/METHOD/CONFIGURATION/fold_K one fold, validated
    calibrate/CONFIGURATION           ours, fitted on all folds
    choose                            configuration and postprocessing
    predict/METHOD/fold_K             the fold's cases, with what is fitted on the other folds
    temperature/METHOD                METHOD+T: its probabilities at the temperatures of the other folds
    predict_imagesTs                  the unseen images, by the choice
    compare                           tables and report

A file is not older than what it was made from, or it counts as not made.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from medsegdiff_auto.crossval.methods import METHODS, NNUNET, OURS, SAMPLING, UPGRADE, WITH_TEMPERATURE, Method
from medsegdiff_auto.crossval.request import UPGRADE_SHARE, Request
from medsegdiff_auto.decision.fitted_sampling import FILE as FITTED_FILE
from medsegdiff_auto.files.listing import listed
from medsegdiff_auto.files.provenance import FINISHED, read_record
from medsegdiff_auto.nnunet.dataset_files import SPLITS_FILE, read_splits
from medsegdiff_auto.nnunet.inheritance import DATA, resolved
from medsegdiff_auto.nnunet.known_names import read_plans
from medsegdiff_auto.paths import OUR_TRAINER, model_name
from medsegdiff_auto.run_record import RUN_FILE
from medsegdiff_auto.selection.instructions import INSTRUCTIONS_FILE

CROSSVAL, CHOICE_FILE = "crossval", "inference_information.json"
PLAN, TRAIN, CALIBRATE, CHOOSE, PREDICT, TEMPERATURE, PREDICT_NEW, COMPARE = (
    "plan", "train", "calibrate", "choose", "predict", "temperature", "predict_imagesTs", "compare")
LENGTH_FLAGS = ("--iterations", "--epochs")


@dataclass(frozen=True)
class Job:
    """A step that one process does.

    Attributes:
        needs: names of the jobs whose files it reads.
        command: words behind ``medsegdiff_``.
        is_done: asks the folders.
    """

    name: str
    needs: tuple[str, ...]
    command: tuple[str, ...]
    is_done: Callable[[], bool]

    @property
    def file_name(self) -> str:
        """Its name without slashes."""
        return self.name.replace("/", "_")

    @property
    def group(self) -> str:
        """The jobs that are submitted together: all trainings, all folds that a method predicts."""
        parts = self.name.split("/")
        return "_".join(parts[:2]) if parts[0] == PREDICT else parts[0]


def jobs_of(request: Request, words: tuple[str, ...]) -> dict[str, Job]:
    """All jobs by name, each behind those that it needs.

    Args:
        words: of the cross-validation itself, with which its own steps are called.
    """
    found = [*_plans(request), *_trainings(request), *_choices(request), *_predictions(request, words)]
    return {job.name: job for job in found}


def newer(made: Path, sources: Iterable[Path]) -> bool:
    """Whether a file is there, as are those that it was made from, none of which is younger."""
    return made.is_file() and all(file.is_file() and file.stat().st_mtime <= made.stat().st_mtime for file in sources)


def cases_of(request: Request, fold: int) -> list[str]:
    """The validation cases of a fold; none before the folds are drawn."""
    if not (request.preprocessed / SPLITS_FILE).is_file():
        return []
    splits = read_splits(request.preprocessed)
    return list(splits[fold]["val"]) if fold < len(splits) else []


def chosen_configuration(request: Request) -> str:
    """The configuration that is compared: of several, the one in which ours does best by itself.

    Every fold's score is of cases that it has not seen; the choice among so few hardly flatters the chosen one, and
    all methods are compared in it.
    """
    if len(request.configurations) == 1:
        return request.configurations[0]
    scores = json.loads((request.results / CHOICE_FILE).read_text(encoding="utf-8"))["all_results"]
    plans = METHODS[OURS].plans(request.plans)
    return max(request.configurations, key=lambda name: scores[model_name(OUR_TRAINER, plans, name)])


def _plans(request: Request) -> Iterator[Job]:
    for method in request.trained:
        if method.name == OURS or method.planning:
            name = method.plans(request.plans)
            command = ("plan_and_preprocess", "-d", request.number, "-c", *request.configurations, "--resources",
                       request.resources, "-np", str(request.num_processes), "-overwrite_plans_name", name,
                       *method.planning)
            yield Job(f"{PLAN}/{name}", (), command, lambda name=name: is_planned(request, name))


def is_planned(request: Request, plans_name: str) -> bool:
    """Whether the plans lie there with the preprocessed cases of every configuration."""
    file = request.preprocessed / f"{plans_name}.json"
    if not file.is_file():
        return False
    plans = read_plans(file)
    folders = [request.preprocessed / resolved(plans, name)[DATA] for name in request.configurations
               if name in plans["configurations"]]
    records = [read_record(folder) for folder in folders]
    return len(folders) == len(request.configurations) and all(
        folder.is_dir() and (record is None or record[FINISHED]) for folder, record in zip(folders, records))


def _trainings(request: Request) -> Iterator[Job]:
    for method in request.trained:
        for configuration in request.configurations:
            for fold in request.folds:
                yield Job(training(method, configuration, fold), tuple(_needed_to_train(
                    request, method, configuration, fold)), training_command(request, method, configuration, fold),
                    lambda key=(method.name, configuration, fold): is_trained(request, *key))


def training(method: Method, configuration: str, fold: int) -> str:
    """Name of the job that trains the checkpoints of a method."""
    return f"{TRAIN}/{method.training}/{configuration}/fold_{fold}"


def _needed_to_train(request: Request, method: Method, configuration: str, fold: int) -> Iterator[str]:
    if method.name == UPGRADE:
        yield training(METHODS[NNUNET], configuration, fold)
    else:
        yield f"{PLAN}/{method.plans(request.plans) if method.planning else METHODS[OURS].plans(request.plans)}"


def training_command(request: Request, method: Method, configuration: str, fold: int) -> tuple[str, ...]:
    """The line that trains a fold, or goes on with it."""
    words = ["train", request.number, configuration, str(fold), "-tr", method.trainer, "--c", "auto", "-device",
             request.device, *_length(request, method.name)]
    if method.name == UPGRADE:
        words += ["-p", request.plans, "--upgrade", str(request.checkpoint(NNUNET, configuration, fold))]
    else:
        words += ["-p", method.plans(request.plans)]
    words += ["--seed", str(request.seed)] if request.seed is not None else []
    return (*words, *(["--npz"] if len(request.configurations) > 1 and method.name == OURS else []))


def _length(request: Request, method: str) -> list[str]:
    for flag, number in zip(LENGTH_FLAGS, (request.iterations, request.epochs)):
        if number is not None:
            return [flag, str(max(1, number // UPGRADE_SHARE) if method == UPGRADE else number)]
    return []


def is_trained(request: Request, method: str, configuration: str, fold: int) -> bool:
    """Whether a fold is trained to the length and with the seed that are asked for, and validated.

    ``run.json`` has the line that trained it. After another one ``medsegdiff_train --c auto`` looks for what is left.
    """
    final = request.checkpoint(method, configuration, fold)
    run = final.parent / RUN_FILE
    if not newer(final.parent / "validation" / "summary.json", [final]) or not newer(run, [final]):
        return False
    words = json.loads(run.read_text(encoding="utf-8"))["command"]
    length = [word for flag, number in pairwise(words) if flag in LENGTH_FLAGS for word in (flag, number)]
    is_of_seed = request.seed is None or ("--seed", str(request.seed)) in pairwise(words)
    return is_of_seed and length == _length(request, method)


def _choices(request: Request) -> Iterator[Job]:
    folds, ours = tuple(map(str, request.folds)), METHODS[OURS]
    of_all = []
    for configuration in request.configurations:
        needs = tuple(training(ours, configuration, fold) for fold in request.folds)
        of_all += needs
        command = ("calibrate", "-d", request.number, "-c", configuration, "-f", *folds, "-p",
                   ours.plans(request.plans), "-device", request.device)
        yield Job(f"{CALIBRATE}/{configuration}", needs, command,
                  lambda configuration=configuration: is_calibrated(request, configuration))
    ensembling = () if len(request.configurations) > 1 else ("--disable_ensembling",)
    yield Job(CHOOSE, tuple(of_all), ("find_best_configuration", request.number, "-c", *request.configurations, "-f",
                                      *folds, "-p", ours.plans(request.plans), "-np", str(request.num_processes),
                                      *ensembling), lambda: is_chosen(request))


def is_calibrated(request: Request, configuration: str) -> bool:
    """Whether the fit of the model is one on all of its folds, as they are."""
    file = request.model(OURS, configuration) / FITTED_FILE
    checkpoints = [request.checkpoint(OURS, configuration, fold) for fold in request.folds]
    return newer(file, checkpoints) and set(json.loads(file.read_text(encoding="utf-8"))["checkpoints"]) == {
        f"{checkpoint.parent.name}/{checkpoint.name}" for checkpoint in checkpoints}


def is_chosen(request: Request) -> bool:
    """Whether the choice is one among all of the configurations by all of the folds, as they are validated."""
    validations = [request.checkpoint(OURS, configuration, fold).parent / "validation" / "summary.json"
                   for configuration in request.configurations for fold in request.folds]
    file = request.results / CHOICE_FILE
    if not newer(request.results / INSTRUCTIONS_FILE, validations) or not newer(file, validations):
        return False
    found = json.loads(file.read_text(encoding="utf-8"))
    plans = METHODS[OURS].plans(request.plans)
    return list(found["folds"]) == list(request.folds) and {
        model_name(OUR_TRAINER, plans, name) for name in request.configurations} <= set(found["all_results"])


def _predictions(request: Request, words: tuple[str, ...]) -> Iterator[Job]:
    def itself(name: str, needs: Iterable[str], is_done: Callable[[], bool]) -> Job:
        return Job(name, tuple(needs), (CROSSVAL, *words, "--job", name), is_done)

    chosen, all_of_them = [CHOOSE] if len(request.configurations) > 1 else [], []
    for method in map(METHODS.__getitem__, request.methods):
        of_folds = []
        trained = [training(method, configuration, fold) for configuration in request.configurations
                   for fold in request.folds]
        for fold in request.folds:
            of_folds.append(itself(f"{PREDICT}/{method.name}/fold_{fold}", [*chosen, *trained],
                                   lambda key=(method.name, fold): is_predicted(request, *key)))
        yield from of_folds
        all_of_them += [job.name for job in of_folds]
        if method.fitted != SAMPLING:
            job = itself(f"{TEMPERATURE}/{method.name}", [job.name for job in of_folds],
                         lambda name=method.name: is_at_temperature(request, name))
            all_of_them.append(job.name)
            yield job
    if images_to_predict(request):
        yield itself(PREDICT_NEW, [*(f"{CALIBRATE}/{name}" for name in request.configurations), CHOOSE],
                     lambda: is_done_with_new(request))
    yield itself(COMPARE, all_of_them, lambda: is_compared(request))


def is_predicted(request: Request, method: str, fold: int) -> bool:
    """Whether all cases of a fold are predicted with the checkpoints and folds of now."""
    record = request.predicted(method, fold)
    if not record.is_file() or not request.predictions(method).is_dir():
        return False
    found = json.loads(record.read_text(encoding="utf-8"))
    if not newer(record, [request.checkpoint(method, found["configuration"], other) for other in request.folds]):
        return False
    is_same = (found["folds"], found["cases"], found["seed"]) == (
        list(request.folds), cases_of(request, fold), request.seed)
    return is_same and (len(request.configurations) == 1
                        or is_chosen(request)) and found["configuration"] == chosen_configuration(request)


def is_at_temperature(request: Request, method: str) -> bool:
    """Whether METHOD+T is made of the method's predictions as they are."""
    records = [request.predicted(method, fold) for fold in request.folds]
    return all(is_predicted(request, method, fold) for fold in request.folds) and all(
        newer(request.predicted(f"{method}{WITH_TEMPERATURE}", fold), records) for fold in request.folds)


def images_to_predict(request: Request) -> list[Path]:
    """The first channel of every image in ``imagesTs``; none where there is no such folder."""
    folder = request.raw / "imagesTs"
    return listed(folder, "*_0000.*") if folder.is_dir() else []


def new_predictions(request: Request) -> tuple[Path, Path]:
    """Folders of the predictions of ``imagesTs``, as predicted and postprocessed."""
    return tuple(request.results / f"predictions_imagesTs{ending}" for ending in ("", "_postprocessed"))


def is_done_with_new(request: Request) -> bool:
    """Whether all unseen images are predicted with the fit and the choice of now."""
    fits = [request.model(OURS, name) / FITTED_FILE for name in request.configurations]
    names = [image.name.replace("_0000.", ".", 1) for image in images_to_predict(request)]
    return all(newer(new_predictions(request)[1] / name, [*fits, request.results / INSTRUCTIONS_FILE])
               for name in names)


def is_compared(request: Request) -> bool:
    """Whether the tables are of these methods and of the predictions as they are."""
    methods = request.comparison / "methods.json"
    rows = [method for name in request.methods for method in (name, f"{name}{WITH_TEMPERATURE}")]
    records = [file for file in (request.predicted(row, fold) for row in rows for fold in request.folds)
               if file.is_file()]
    if not all(newer(request.comparison / name, [methods, *records]) for name in ("summary.json", "report.html")):
        return False
    listed_there = json.loads(methods.read_text(encoding="utf-8"))["methods"]
    return [name for name in listed_there if not name.endswith(WITH_TEMPERATURE)] == list(request.methods)
