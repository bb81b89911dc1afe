"""The choice from a model's stored samples: what it reads, checks and writes."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

from medsegdiff_auto.diffusion.configuration import DiffusionConfiguration
from medsegdiff_auto.nnunet.dataset_files import read_splits
from medsegdiff_auto.nnunet.managers import PlansManager
from medsegdiff_auto.nnunet.plans import diffusion_configuration
from medsegdiff_auto.nnunet.postprocessing_steps import FILE as POSTPROCESSING_FILE, write_postprocessing
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.files.provenance import checksum
from medsegdiff_auto.selection.choice import Scores, Selection, candidates, select
from medsegdiff_auto.selection.stored_samples import (Settings, read_reference, read_settings, read_stored_case,
                                                      samples_folder, stored_steps)
from medsegdiff_auto.nnunet.structures import ignore_label_of, structures_of
from medsegdiff_auto.decision.fitted_sampling import read_fitted_sampling
from medsegdiff_auto.selection.instructions import Sampling
from medsegdiff_auto.training.folds import require_same_fold
from medsegdiff_auto.writing import write_json

CHOICE_FILE = "choice.json"
FEWEST_SAMPLES = 4  # an interval, an expected Dice and a mutual information of fewer say next to nothing


def choose_sampling(model_folder: Path, preprocessed_folder: Path,
                    folds: list[int]) -> tuple[Sampling, Selection] | None:
    """Chooses from the samples of the folds and writes ``choice.json`` and ``postprocessing.pkl`` into the model
    folder.

    None where a fold has no stored samples at all.

    Raises:
        UserError: the samples of a fold are incomplete or were not drawn as predictions now are.
    """
    of_folds = [set(stored_steps(model_folder, fold)) for fold in folds]
    if not all(of_folds):
        return None
    dataset_json, plans_manager = (json.loads((model_folder / name).read_text(encoding="utf-8")) for name in (
        "dataset.json", "plans.json"))
    plans_manager = PlansManager(plans_manager)
    labels = plans_manager.get_label_manager(dataset_json)
    steps = sorted(set.intersection(*of_folds))
    if not steps:
        raise UserError("The folds have no number of steps in common.", found="; ".join(
            f"fold {fold}: {', '.join(map(str, sorted(stored)))}" for fold, stored in zip(folds, of_folds)),
            expected="samples of all folds at the same steps", fix=_store_again(model_folder, folds))
    splits = read_splits(preprocessed_folder)
    for fold in folds:
        require_same_fold(model_folder, splits, fold)
    cases = {fold: list(splits[fold]["val"]) for fold in folds}
    settings = _checked_settings(model_folder, cases, steps)
    fold_of = {case: fold for fold, of_fold in cases.items() for case in of_fold}
    model = SimpleNamespace(plans_manager=plans_manager, dataset_json=dataset_json)
    scores = Scores(
        cases, candidates(steps, min(s.num_samples for s in settings),
                          FEWEST_SAMPLES), lambda case, num_steps: read_stored_case(
                              samples_folder(model_folder, fold_of[case], num_steps) / f"{case}.npz"),
        lambda case: read_reference(preprocessed_folder, case, model), structures_of(dataset_json), labels,
        ignore_label_of(dataset_json))
    selection = select(scores)
    folder = model_folder / f"selection_folds_{'_'.join(map(str, folds))}"
    return _written(selection, scores, settings[0].seed, folder), selection


def _checked_settings(model_folder: Path, cases: dict[int, list[str]], steps: list[int]) -> list[Settings]:
    """Settings of every fold and number of steps; all cases are there, and drawn with what predictions use now."""
    fitted, planned = read_fitted_sampling(model_folder), _planned(model_folder)
    now = planned if fitted is None else fitted.applied_to(planned)
    found = []
    for fold, of_fold in cases.items():
        digest = checksum(model_folder / f"fold_{fold}" / "checkpoint_final.pth")
        for num_steps in steps:
            folder = samples_folder(model_folder, fold, num_steps)
            missing = [case for case in of_fold if not (folder / f"{case}.npz").is_file()]
            settings = read_settings(folder)
            wrong = [name for name, differs in (
                ("another checkpoint", settings.checkpoint != digest),
                ("another dispersion or weight", (settings.dispersion, settings.conditioner_weight)
                 != (now.sampling.dispersion, now.sampling.conditioner_weight)),
                ("another seed than other folds", bool(found) and settings.seed != found[0].seed),
                (f"no {', '.join(missing[:3])}", bool(missing))) if differs]
            if wrong:
                raise UserError("Stored samples are not those of predictions with this model.",
                                found=f"{folder}: {'; '.join(wrong)}",
                                expected="every validation case, drawn from the present checkpoint and fit",
                                fix=_store_again(model_folder, list(cases)))
            found.append(settings)
    return found


def _planned(model_folder: Path) -> DiffusionConfiguration:
    plans = json.loads((model_folder / "plans.json").read_text(encoding="utf-8"))
    return diffusion_configuration(PlansManager(plans).get_configuration(model_folder.name.rsplit("__", 1)[1]))


def _store_again(model_folder: Path, folds: list[int]) -> str:
    configuration = model_folder.name.rsplit("__", 1)[1]
    return f"medsegdiff_store_samples -d {model_folder.parent.name} -c {configuration} -f {' '.join(map(str, folds))}"


def _written(selection: Selection, scores: Scores, seed: int, folder: Path) -> Sampling:
    folder.mkdir(exist_ok=True)
    choice = selection.choice
    steps = [scores.steps[number] for number in choice.postprocessing]
    write_postprocessing(steps, folder / POSTPROCESSING_FILE)
    content = {
        "choice": asdict(choice), "held_out": {str(fold): asdict(one)
                                               for fold, one in selection.held_out.items()},
        "held_out_score": selection.held_out_score, "held_out_nll": selection.held_out_nll, "candidates": [
            asdict(candidate) | {"score": score, "nll": nll}
            for candidate, (score, nll) in selection.by_candidate.items()
        ]
    }
    write_json(content, folder / CHOICE_FILE, default=str)
    candidate = choice.candidate
    return Sampling(candidate.num_samples, candidate.num_steps, candidate.fusion, choice.temperature, seed,
                    str(folder / POSTPROCESSING_FILE))
