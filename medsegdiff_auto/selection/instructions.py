"""The commands that produce the prediction which cross-validation chose."""

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medsegdiff_auto.paths import OUR_PLANS, OUR_TRAINER, model_name
from medsegdiff_auto.writing import write_text

INSTRUCTIONS_FILE = "inference_instructions.txt"


@dataclass(frozen=True)
class Sampling:
    """How to predict with the best model, as chosen from stored samples, and the postprocessing of that choice."""

    num_samples: int
    num_steps: int
    fusion: str
    temperature: float
    seed: int
    postprocessing_file: str

    def flags(self) -> list[str]:
        """Flags of ``medsegdiff_predict``."""
        return ["--samples", str(self.num_samples), "--steps", str(self.num_steps), "--fusion", self.fusion,
                "--temperature", f"{self.temperature:g}", *(["--seed", str(self.seed)] if self.seed else [])]


def inference_commands(information: dict, dataset_results: Path, sampling: Sampling | None = None) -> list[list[str]]:
    """The command lines, in order, for nnU-Net's ``information`` about the best model or ensemble.

    ``sampling`` is that of a single best model, where it was chosen; else predictions take the fitted or planned
    values. INPUT_FOLDER, OUTPUT_FOLDER and the like stand for the user's folders; the last one writes to
    OUTPUT_FOLDER_PP.
    """
    best = information["best_model_or_ensemble"]
    models, folds = best["selected_model_or_models"], information["folds"]
    several = len(models) > 1
    commands, outputs = [], []
    for number, model in enumerate(models, start=1):
        outputs.append(f"OUTPUT_FOLDER_MODEL_{number}" if several else "OUTPUT_FOLDER")
        commands += _predict_commands(dataset_results, model, folds, outputs[-1], save_probabilities=several)
    if sampling is not None:
        commands[-1] += sampling.flags()
    if several:
        commands.append(["medsegdiff_ensemble", "-i", *outputs, "-o", "OUTPUT_FOLDER"])
    dataset_json = Path(best["some_plans_file"]).with_name("dataset.json")
    commands.append([
        "medsegdiff_apply_postprocessing", "-i", "OUTPUT_FOLDER", "-o", "OUTPUT_FOLDER_PP", "-pp_pkl_file",
        best["postprocessing_file"] if sampling is None else sampling.postprocessing_file, "-plans_json",
        best["some_plans_file"], "-dataset_json",
        str(dataset_json)
    ])
    return commands


def with_folders(command: Sequence[str], images: Path, predictions: Path, postprocessed: Path) -> list[str]:
    """A command line with real folders in the places of INPUT_FOLDER, OUTPUT_FOLDER and the like."""
    folders = {"INPUT_FOLDER": images, "OUTPUT_FOLDER": predictions, "OUTPUT_FOLDER_PP": postprocessed}

    def real(word: str) -> str:
        if word in folders:
            return str(folders[word])
        return word.replace("OUTPUT_FOLDER", str(predictions), 1) if word.startswith("OUTPUT_FOLDER") else word

    return [real(word) for word in command]


def write_instructions(information: dict, dataset_results: Path, sampling: Sampling | None = None) -> Path:
    """Write the commands as ``inference_instructions.txt`` into the dataset's results folder, atomically."""
    lines = ["# Replace INPUT_FOLDER and the OUTPUT_FOLDERs, then run line by line."]
    lines += [shlex.join(command) for command in inference_commands(information, dataset_results, sampling)]
    target = dataset_results / INSTRUCTIONS_FILE
    write_text("\n".join(lines) + "\n", target)
    return target


def _predict_commands(dataset_results: Path, model: dict, folds: Sequence[int], output: str,
                      save_probabilities: bool) -> list[list[str]]:
    commands, options = [], []
    previous_stage = _previous_stage(dataset_results, model)
    if previous_stage is not None:
        first_output = f"{output}_PREVIOUS_STAGE"
        commands = _predict_commands(dataset_results, {**model, "configuration": previous_stage}, folds, first_output,
                                     False)
        options = ["-prev_stage_predictions", first_output]
    ours = model["trainer"].startswith(OUR_TRAINER)
    if model["trainer"] != OUR_TRAINER:
        options += ["-tr", model["trainer"]]
    if not ours or model["plans_identifier"] != OUR_PLANS:
        options += ["-p", model["plans_identifier"]]
    if save_probabilities:
        options.append("--save_probabilities")
    return [
        *commands,
        [
            "medsegdiff_predict" if ours else "nnUNetv2_predict", "-i", "INPUT_FOLDER", "-o", output, "-d",
            dataset_results.name, "-c", model["configuration"], "-f", *(str(fold) for fold in folds), *options
        ]
    ]


def _previous_stage(dataset_results: Path, model: dict) -> str | None:
    folder = model_name(model["trainer"], model["plans_identifier"], model["configuration"])
    plans = json.loads((dataset_results / folder / "plans.json").read_text(encoding="utf-8"))
    return plans["configurations"][model["configuration"]].get("previous_stage")
