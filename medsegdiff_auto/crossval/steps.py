"""The steps of a cross-validation that are no command of their own."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import torch

from medsegdiff_auto.crossval.jobs import (CHOICE_FILE, COMPARE, PREDICT, PREDICT_NEW, TEMPERATURE,
                                           chosen_configuration, new_predictions)
from medsegdiff_auto.crossval.methods import ADAMW, METHODS, NNUNET, OURS, SAMPLING, Method, with_temperature
from medsegdiff_auto.crossval.methods import TEMPERATURE as FITTED_TEMPERATURE
from medsegdiff_auto.crossval.methods import WITH_TEMPERATURE
from medsegdiff_auto.crossval.processes import completed
from medsegdiff_auto.crossval.request import Request
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.nnunet.dataset_files import references_folder
from medsegdiff_auto.selection.instructions import inference_commands, with_folders
from medsegdiff_auto.training.checkpoints import load_safely
from medsegdiff_auto.writing import write_json


def do(name: str, request: Request, device: torch.device) -> None:
    """Does a step of this name.

    Raises:
        UserError: there is no such step, or what it needs is not there.
    """
    kind, *rest = name.split("/")
    steps: dict[str, Callable[[], None]] = {
        PREDICT: lambda: _predict(request, rest[0], int(rest[1].removeprefix("fold_")), device),
        TEMPERATURE: lambda: _apply_temperatures(request, rest[0]), PREDICT_NEW: lambda: _predict_new(request),
        COMPARE: lambda: _compare(request)}
    if kind not in steps:
        raise UserError("The job is a command of its own.", found=name, expected=f"one of {', '.join(steps)}",
                        fix="give the command that --dry_run shows for it")
    steps[kind]()


def _predict(request: Request, method: str, fold: int, device: torch.device) -> None:
    from medsegdiff_auto.crossval.predictions import predict_fold

    predict_fold(request, method, fold, device)


def _apply_temperatures(request: Request, method: str) -> None:
    from medsegdiff_auto.crossval.temperatures import apply_temperatures

    apply_temperatures(request, method)


def _predict_new(request: Request) -> None:
    """``imagesTs`` by the commands of the choice; predictions of an earlier choice are replaced."""
    information = json.loads((request.results / CHOICE_FILE).read_text(encoding="utf-8"))
    plain, postprocessed = new_predictions(request)
    for command in inference_commands(information, request.results):
        words = with_folders(command, request.raw / "imagesTs", plain, postprocessed)
        if words[0] == "medsegdiff_predict":
            words += ["-device", request.device, "--seed", str(request.seed or 0), "--overwrite"]
        print("$", *words, flush=True)
        code = completed(words[0].removeprefix("medsegdiff_"), words[1:])
        if code:
            raise UserError(f"{words[0]} ended with {code}.", found="its words above", expected="0",
                            fix="see to them, and give the same command again")


def _compare(request: Request) -> None:
    write_methods(request)
    try:
        from medsegdiff_auto.comparison import compare
    except ImportError as failure:
        raise UserError("The comparison is not installed.", found=str(failure), expected="medsegdiff_auto.comparison",
                        fix="install the whole package; predictions and methods.json are there") from failure
    dataset_json = json.loads((request.preprocessed / "dataset.json").read_text(encoding="utf-8"))
    raters = request.raw / "labelsTr_raters"
    compare(request.comparison, references_folder(request.preprocessed), dataset_json, request.preprocessed,
            [folder for folder in sorted(raters.iterdir()) if folder.is_dir()] if raters.is_dir() else [],
            request.num_processes)


def write_methods(request: Request) -> None:
    """Writes ``methods.json``; predictions of methods that are no longer compared stay, and are not in it."""
    from medsegdiff_auto.crossval.predictions import seconds_per_case

    rows = {}
    for row in with_temperature(request.methods):
        method = METHODS[row.removesuffix(WITH_TEMPERATURE)]
        configuration = chosen_configuration(request)
        trained = _of_checkpoints(request, method, configuration)
        fitted = FITTED_TEMPERATURE if row.endswith(WITH_TEMPERATURE) else {SAMPLING: SAMPLING}.get(method.fitted)
        rows[row] = {"title": method.title + f" ({trained['optimizer']})" * method.is_plain
                     + ", temperature" * row.endswith(WITH_TEMPERATURE),
                     "trainer": method.trainer, "plans": METHODS[method.training].plans(request.plans),
                     "configuration": configuration, "iterations": trained["iterations"], "seed": trained["seed"],
                     "folds": list(request.folds), "device": request.device,
                     "fitted": fitted if len(request.folds) > 1 else None,
                     "seconds_per_case": seconds_per_case(request, method.name),
                     "training_seconds": trained["seconds"]}
    reference = next((name for name in (ADAMW, NNUNET) if name in rows), OURS)
    write_json({"reference": reference, "methods": rows}, request.comparison / "methods.json")


def _of_checkpoints(request: Request, method: Method, configuration: str) -> dict:
    """What the checkpoints of all folds say: iterations and seed where they agree, else None; mean seconds of a fold.

    The optimizer is that of nnU-Net's network.
    """
    iterations, seeds, seconds, optimizer = set(), set(), [], ""
    for fold in request.folds:
        checkpoint = load_safely(request.checkpoint(method.name, configuration, fold))
        epochs, per_epoch, _ = checkpoint.get("length", (None, None, None))
        iterations.add(None if epochs is None else checkpoint["current_epoch"] * per_epoch)
        seeds.add(checkpoint.get("seed"))
        seconds.append(checkpoint["hours"] * 3600 if "hours" in checkpoint else np.nan)
        groups = checkpoint["optimizer_state"]["param_groups"]
        optimizer = "SGD" if "momentum" in groups[0] else "AdamW"
    return {"iterations": iterations.pop() if len(iterations) == 1 else None,
            "seed": seeds.pop() if len(seeds) == 1 else None, "optimizer": optimizer,
            "seconds": float(np.sum(seconds)) if np.isfinite(seconds).all() else None}
