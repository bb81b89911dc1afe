"""The commands of a chain, derived from what is asked for; whether each is done, the folders say.

    convert, images                  one's own files to a raw dataset, new images to its form
    plan, train, calibrate, choose   as in a cross-validation, see :mod:`~medsegdiff_auto.crossval.jobs`
    predict, postprocess             new images, by what was chosen
    evaluate                         their scores, where they have references
    report
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medsegdiff_auto.chain.place import Place
from medsegdiff_auto.checks.dataset_json import channel_files
from medsegdiff_auto.crossval.jobs import (CALIBRATE, CHOICE_FILE, CHOOSE, PLAN, TRAIN, Job, is_chosen, is_trained,
                                           jobs_of, newer)
from medsegdiff_auto.crossval.methods import OURS
from medsegdiff_auto.crossval.request import Request
from medsegdiff_auto.decision.fitted_sampling import FILE as FITTED_FILE
from medsegdiff_auto.run_record import RUN_FILE
from medsegdiff_auto.selection.instructions import INSTRUCTIONS_FILE, inference_commands, with_folders
from medsegdiff_auto.training.checkpoints import load_safely

CONVERT, IMAGES, PREDICT, POSTPROCESS, EVALUATE, REPORT = (
    "convert", "images", "predict", "postprocess", "evaluate", "report")
SHORTEST_HOURS = 0.001


@dataclass(frozen=True)
class Chain:
    """What a chain is asked for.

    Attributes:
        training: what is trained, with which length: the words of a cross-validation without competitors.
        first: commands that make the raw dataset and bring new images into its form.
        images: new images in the form of the dataset; None for none.
        references: reference label maps of them.
        hours: that all trainings together may take; None for as long as their iterations do.
        sources: files that are converted first; None where nothing is.
    """

    place: Place
    training: Request
    first: tuple[Job, ...] = ()
    images: Path | None = None
    references: Path | None = None
    hours: float | None = None
    sources: list[Path] | None = None

    @property
    def model(self) -> Path:
        """Folder of the model: of the configuration that was chosen, else of the first."""
        return self.training.model(OURS, self.configuration)

    @property
    def configuration(self) -> str:
        """The configuration of the chosen model, the first one of an ensemble; the first one before the choice."""
        if len(self.training.configurations) == 1 or not is_chosen(self.training):
            return self.training.configurations[0]
        return self.choice["best_model_or_ensemble"]["selected_model_or_models"][0]["configuration"]

    @property
    def choice(self) -> dict:
        """What cross-validation chose, as nnU-Net writes it."""
        return json.loads((self.training.results / CHOICE_FILE).read_text(encoding="utf-8"))

    @property
    def crossval_results(self) -> Path:
        """Where nnU-Net leaves the postprocessing of a single model."""
        return self.model / f"crossval_results_folds_{'_'.join(map(str, self.training.folds))}"


def steps_of(chain: Chain) -> dict[str, Job]:
    """All commands by name, in their order."""
    found = [*chain.first, *_of_training(chain)]
    if chain.images is not None:
        found += [*_predictions(chain), *_evaluation(chain)]
    found.append(_report(chain))
    return {job.name: job for job in found}


def _of_training(chain: Chain) -> Iterator[Job]:
    share = hours_of_a_training(chain)
    for job in jobs_of(chain.training, ()).values():
        if job.group == TRAIN and share is not None:
            job = replace(job, command=(*job.command, "--max_hours", f"{share:.4g}"))
        if job.group in (PLAN, TRAIN, CALIBRATE, CHOOSE):
            yield job


def hours_of_a_training(chain: Chain) -> float | None:
    """The hours that are left, shared among the trainings that are; those that are over say what they took.

    A training that was interrupted has the same share again, all of its starts together.
    """
    if chain.hours is None:
        return None
    request, taken, number = chain.training, 0.0, 0
    for configuration in request.configurations:
        for fold in request.folds:
            if is_trained(request, OURS, configuration, fold):
                taken += load_safely(request.checkpoint(OURS, configuration, fold)).get("hours", 0.0)
            else:
                number += 1
    return max(SHORTEST_HOURS, (chain.hours - taken) / max(1, number))


def new_cases(chain: Chain) -> list[str]:
    """The names of the new images; none before they are in the form of the dataset."""
    file = chain.training.raw / "dataset.json"
    if chain.images is None or not chain.images.is_dir() or not file.is_file():
        return []
    return list(channel_files(chain.images, _ending(chain))[0])


def have_references(chain: Chain, folder: Path) -> bool:
    """Whether a folder holds a reference label map of every new image."""
    masks = _masks(chain, folder)
    return bool(masks) and all(mask.is_file() for mask in masks)


def _ending(chain: Chain) -> str:
    return json.loads((chain.training.raw / "dataset.json").read_text(encoding="utf-8"))["file_ending"]


def _made_with(chain: Chain) -> list[Path]:
    """What predictions depend on."""
    request = chain.training
    return [*(request.model(OURS, name) / FITTED_FILE for name in request.configurations),
            request.results / INSTRUCTIONS_FILE]


def _masks(chain: Chain, folder: Path) -> list[Path]:
    return [folder / f"{case}{_ending(chain)}" for case in new_cases(chain)]


def _are_newer(masks: Sequence[Path], sources: Sequence[Path]) -> bool:
    return bool(masks) and all(newer(mask, sources) for mask in masks)


def _is_predicted(chain: Chain) -> bool:
    """Whether every new image has a mask that is not older than what it was made with, and than the image."""
    images = channel_files(chain.images, _ending(chain))[0] if new_cases(chain) else {}
    return bool(images) and all(
        newer(chain.place.predictions[0] / f"{case}{_ending(chain)}", [*_made_with(chain), *files.values()])
        for case, files in images.items())


def _is_postprocessed(chain: Chain) -> bool:
    plain, final = chain.place.predictions
    return bool(new_cases(chain)) and all(
        newer(mask, [plain / mask.name, *_made_with(chain)]) for mask in _masks(chain, final))


def _predictions(chain: Chain) -> Iterator[Job]:
    request, (plain, final) = chain.training, chain.place.predictions
    if len(request.configurations) > 1:  # known when it is chosen
        commands = inference_commands(chain.choice, request.results) if is_chosen(request) else []
        for number, command in enumerate(commands):
            words = with_folders(command, chain.images, plain, final)
            extra = _of_prediction(chain) if words[0] == "medsegdiff_predict" else ()
            yield Job(f"{PREDICT}/{number}", (), (words[0].removeprefix("medsegdiff_"), *words[1:], *extra),
                      lambda: _is_postprocessed(chain))
        return
    yield Job(PREDICT, (), ("predict", "-i", str(chain.images), "-o", str(plain), "-d", request.number, "-c",
                            chain.configuration, "-f", *map(str, request.folds), *_of_prediction(chain)),
              lambda: _is_predicted(chain))
    best = chain.crossval_results
    yield Job(POSTPROCESS, (), ("apply_postprocessing", "-i", str(plain), "-o", str(final), "-pp_pkl_file",
                                str(best / "postprocessing.pkl"), "-plans_json", str(best / "plans.json"),
                                "-dataset_json", str(best / "dataset.json"), "-np", str(request.num_processes)),
              lambda: _is_postprocessed(chain))


def _of_prediction(chain: Chain) -> tuple[str, ...]:
    """How new images are predicted: what is there is kept, unless it was made with something else."""
    folder = chain.place.predictions[0]
    is_stale = folder.is_dir() and not newer(folder / RUN_FILE, _made_with(chain))
    probabilities = ("--save_probabilities",) if chain.references is not None else ()
    return ("-device", chain.training.device, "--seed", str(chain.training.seed or 0), "--save_uncertainty",
            "--save_samples", *probabilities, "--overwrite" if is_stale else "--continue_prediction")


def _evaluation(chain: Chain) -> Iterator[Job]:
    if chain.references is None:
        return
    final, model = chain.place.predictions[1], chain.model
    yield Job(EVALUATE, (), ("evaluate", str(chain.references), str(final), "-djfile", str(model / "dataset.json"),
                             "-pfile", str(model / "plans.json"), "-np", str(chain.training.num_processes)),
              lambda: bool(new_cases(chain)) and newer(final / "summary.json", _masks(chain, final)))


def _report(chain: Chain) -> Job:
    words, sources = ["report", "-m", str(chain.model)], _made_with(chain)
    if chain.images is not None:
        final, posterior = chain.place.predictions[1], chain.training.raw / "posterior"
        words += ["-p", str(final), "--images", str(chain.images)]
        if chain.references is not None:
            words += ["--references", str(chain.references)]
            words += ["--posterior", str(posterior)] if posterior.is_dir() else []
            sources = [*sources, final / "summary.json"]
    is_done: Callable[[], bool] = lambda: newer(chain.place.report, sources) and (
        chain.images is None or _are_newer([chain.place.report], _masks(chain, chain.place.predictions[1])))
    return Job(REPORT, (), (*words, "-o", str(chain.place.report)), is_done)
