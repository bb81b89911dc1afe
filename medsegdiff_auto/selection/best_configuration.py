"""Choosing configuration, ensemble and postprocessing by cross-validation, by nnU-Net's function."""

import contextlib
import io
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.nnunet.plain_pickle import require_plain
from medsegdiff_auto.nnunet.dataset_files import references_folder
from medsegdiff_auto.nnunet.known_names import read_plans
from medsegdiff_auto.paths import OUR_TRAINER, model_name

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NamedModel:
    """A model as nnU-Net names it; its folder is ``trainer__plans__configuration``."""

    plans: str
    configuration: str
    trainer: str

    def folder(self, dataset_results: Path) -> Path:
        return dataset_results / model_name(self.trainer, self.plans, self.configuration)

    def folds_validated(self, dataset_results: Path) -> list[int]:
        """The folds whose training ended with its validation."""
        summaries = self.folder(dataset_results).glob("fold_*/validation/summary.json")
        names = (summary.parent.parent.name.removeprefix("fold_") for summary in summaries)
        return sorted(int(name) for name in names if name.isdecimal())


@dataclass(frozen=True)
class Request:
    """What to choose among. ``configurations`` None stands for all that are trained in all ``folds``."""

    dataset_name: str
    configurations: Sequence[str] | None
    plans: Sequence[str]
    trainers: Sequence[str]
    folds: Sequence[int]
    allow_ensembling: bool
    num_processes: int
    overwrite: bool


def find_best(request: Request, preprocessed: Path, results: Path) -> dict:
    """nnU-Net's choice: cross-validated scores, best model or ensemble, and its postprocessing, also saved by nnU-Net.

    Raises:
        UserError: plans, a fold, its validation or the probabilities for ensembling are missing, or a file of them
            would run code.
    """
    dataset_results = results / request.dataset_name
    models = _candidates(request, preprocessed / request.dataset_name, dataset_results)
    if request.allow_ensembling and len(models) > 1:
        _require_probabilities(models, request.folds, dataset_results)
    _require_references(preprocessed / request.dataset_name)
    for model in models:
        read_plans(model.folder(dataset_results) / "plans.json")
        require_plain(model.folder(dataset_results).glob("fold_*/validation/*.pkl"))
    from nnunetv2.evaluation.find_best_configuration import find_best_configuration

    _log.info("Comparing %s%s on folds %s.", ", ".join(sorted({model.configuration for model in models})),
              " and their ensembles" if request.allow_ensembling and len(models) > 1 else "",
              ", ".join(str(fold) for fold in request.folds))
    with contextlib.redirect_stdout(io.StringIO()):
        return find_best_configuration(request.dataset_name, [asdict(model) for model in models],
                                       request.allow_ensembling, request.num_processes, request.overwrite,
                                       tuple(request.folds), strict=True)


def _candidates(request: Request, dataset_preprocessed: Path, dataset_results: Path) -> list[NamedModel]:
    models = []
    for plans in request.plans:
        planned = _planned_configurations(dataset_preprocessed, plans)
        unknown = [name for name in request.configurations or () if name not in planned]
        if unknown:
            raise UserError(f"The plans {plans} have no configuration {', '.join(unknown)}.", found=", ".join(unknown),
                            expected=", ".join(planned), fix="choose among these with -c")
        models += [NamedModel(plans, configuration, trainer)
                   for trainer in request.trainers for configuration in request.configurations or planned]
    validated = {model: model.folds_validated(dataset_results) for model in models}
    complete = [model for model in models if set(request.folds) <= set(validated[model])]
    if request.configurations is None and complete:
        return complete
    for model in models:
        if model not in complete:
            raise _incomplete(model, validated, request)
    return models


def _planned_configurations(dataset_preprocessed: Path, plans: str) -> list[str]:
    file = dataset_preprocessed / f"{plans}.json"
    if not file.is_file():
        raise UserError(f"{dataset_preprocessed.name} has no plans {plans}.", found=f"no file {file}",
                        expected="the plans that the models were trained with", fix="name them with -p")
    return list(read_plans(file)["configurations"])


def _incomplete(model: NamedModel, validated: dict[NamedModel, list[int]], request: Request) -> UserError:
    missing = [fold for fold in request.folds if fold not in validated[model]]
    present = validated[model]
    if request.configurations is None:
        what = "No configuration is trained and validated in all folds."
        found = "; ".join(f"{other.configuration}: folds {_join(folds)}" for other, folds in validated.items() if folds)
        model, present = max(validated.items(), key=lambda entry: len(entry[1]))
        missing = [fold for fold in request.folds if fold not in present]
    else:
        what = f"{model.configuration} is not validated in all folds."
        found = f"folds {_join(present)}" if present else ""
    option = "" if model.trainer == OUR_TRAINER else f" -tr {model.trainer}"
    fewer = f", or compare on fewer folds: -f {_join(present, ' ')}" if present else ""
    return UserError(what, found=found or "no finished fold",
                     expected=f"folds {_join(request.folds)} of {model.trainer}",
                     fix=f"medsegdiff_train {request.dataset_name} {model.configuration} {missing[0]}{option}{fewer}")


def _require_probabilities(models: Sequence[NamedModel], folds: Sequence[int], dataset_results: Path) -> None:
    for model in models:
        for fold in folds:
            validation = model.folder(dataset_results) / f"fold_{fold}" / "validation"
            if not any(validation.glob("*.npz")):
                raise UserError(
                    "Ensembling needs the probabilities of the validation.", found=f"no .npz file in {validation}",
                    expected="CASE.npz beside each prediction",
                    fix=f"medsegdiff_train {dataset_results.name} {model.configuration} {fold} --val --npz, "
                    "or compare single models: --disable_ensembling")


def _require_references(dataset_preprocessed: Path) -> None:
    folder = references_folder(dataset_preprocessed)
    if not folder.is_dir():
        raise UserError(f"{dataset_preprocessed.name} has no reference segmentations.",
                        found=f"no folder {folder}",
                        expected="the references that preprocessing copies there",
                        fix=f"medsegdiff_plan_and_preprocess -d {dataset_preprocessed.name}")


def _join(folds: Sequence[int], separator: str = ", ") -> str:
    return separator.join(str(fold) for fold in folds)
