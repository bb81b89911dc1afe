"""From a raw dataset to plans and preprocessed cases."""

from __future__ import annotations

import logging
import shutil
import sys
from pathlib import Path

from batchgenerators.utilities.file_and_folder_operations import load_json
from nnunetv2.experiment_planning.plan_and_preprocess_api import preprocess_dataset

from medsegdiff_auto.diffusion.configuration import PLANS_KEY, DiffusionConfiguration
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.nnunet.inheritance import DATA, NETWORK, holder, holders
from medsegdiff_auto.nnunet.dataset_files import FINGERPRINT_FILE
from medsegdiff_auto.nnunet.known_names import read_plans, require_known_reader
from medsegdiff_auto.nnunet.managers import PlansManager
from medsegdiff_auto.nnunet.resampling import network_shape, require_sensible_shape
from medsegdiff_auto.nnunet.training_files import training_files
from medsegdiff_auto.planning.fingerprint import MedSegDiffFingerprintExtractor
from medsegdiff_auto.files.provenance import recorded
from medsegdiff_auto.checks.integrity import require_intact
from medsegdiff_auto.planning.made_from import (dataset_checksums, drop_stale_references, plan_checksum,
                                                renew_splits)
from medsegdiff_auto.planning.planner import MedSegDiffPlanner, require_configurations
from medsegdiff_auto.planning.raters import preprocess_raters
from medsegdiff_auto.writing import atomically, write_json

logger = logging.getLogger(__name__)


def check(raw_folder: Path, preprocessed_folder: Path, num_processes: int) -> None:
    """Checks the raw dataset; every finding goes to ``integrity.json`` in the preprocessed folder.

    Raises:
        UserError: the dataset has an error.
    """
    preprocessed_folder.mkdir(parents=True, exist_ok=True)
    require_intact(raw_folder, preprocessed_folder / "integrity.json", num_processes)


def plan(planner: MedSegDiffPlanner) -> dict:
    """Plans every configuration and writes plans JSON and plan document."""
    return planner.plan_experiment()


def adopt_plans(plans_file: Path, raw_folder: Path, preprocessed_folder: Path, plans_identifier: str | None) -> str:
    """Takes finished plans, of this dataset or of another one with the same channels and labels, instead of planning.

    Args:
        raw_folder: of the dataset, whose ``dataset.json`` goes along, as it does when nnU-Net plans.
        plans_identifier: their name here; None keeps their own.

    Returns:
        Their name here.

    Raises:
        UserError: the file is no plans of MedSegDiff-Auto.
    """
    try:
        plans = read_plans(plans_file)
        plans_identifier = plans_identifier or plans["plans_name"]
        configurations = plans["configurations"]
        for section in (configurations[name] for name in holders(plans, NETWORK)):
            section[PLANS_KEY] = DiffusionConfiguration.from_plan(section[PLANS_KEY]).to_plan()
        for section in (configurations[name] for name in holders(plans, DATA)):
            section[DATA] = section[DATA].replace(plans["plans_name"], plans_identifier, 1)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as failure:
        raise UserError(f"{plans_file} cannot be used as plans.", found=f"{type(failure).__name__}: {failure}",
                        expected="plans JSON written by medsegdiff_plan_and_preprocess of this version",
                        fix="correct --plans, or leave it out to plan anew") from failure
    plans |= {"dataset_name": preprocessed_folder.name, "plans_name": plans_identifier}
    write_json(plans, preprocessed_folder / f"{plans_identifier}.json")
    with atomically(preprocessed_folder / "dataset.json") as unfinished:
        shutil.copyfile(raw_folder / "dataset.json", unfinished)
    return plans_identifier


def fingerprint(dataset_name: str, num_processes: int, clean: bool) -> dict:
    """Extracts the fingerprint, or reads it where it exists and ``clean`` is false."""
    extractor = MedSegDiffFingerprintExtractor(dataset_name, num_processes)
    require_known_reader(extractor.dataset_json)
    extractor.show_progress_bar = sys.stderr.isatty()
    return extractor.run(overwrite_existing=clean)


def folds(raw_folder: Path, preprocessed_folder: Path) -> None:
    """Brings the folds of the preprocessed dataset up to date with the raw one.

    Raises:
        UserError: there are folds of somebody's own that are not of this dataset.
    """
    renew_splits(raw_folder, preprocessed_folder, load_json(str(raw_folder / "dataset.json")))


def require_sensible_cases(raw_folder: Path, dataset_json: dict, preprocessed_folder: Path, plans: dict,
                           configurations: list[str]) -> None:
    """Counts what resampling would make of every case in the fingerprint, before a worker tries and never ends.

    Raises:
        UserError: a case would have no voxel, or absurdly many.
    """
    fingerprint, manager = load_json(str(preprocessed_folder / FINGERPRINT_FILE)), PlansManager(plans)
    cases = training_files(raw_folder, dataset_json)
    for case, shape, spacing in zip(cases, fingerprint["shapes_after_crop"], fingerprint["spacings"]):
        for configuration in map(manager.get_configuration, configurations):
            require_sensible_shape(network_shape(shape, spacing, manager, configuration), shape, spacing, case)


def preprocess(raw_folder: Path, preprocessed_folder: Path, plans_identifier: str, configurations: list[str] | None,
               num_processes: int) -> list[str]:
    """Preprocesses the configurations (all of the plan by default) by nnU-Net and returns their names.

    Where ``labelsTr_raters`` holds several raters' labels, they are preprocessed as well.

    Raises:
        UserError: a configuration is not in the plan, or a case's spacing cannot be true.
    """
    plans = read_plans(preprocessed_folder / f"{plans_identifier}.json")
    require_configurations(configurations or [], list(plans["configurations"]))
    chosen = list(dict.fromkeys(holder(plans, name, DATA) for name in configurations or holders(plans, DATA)))
    dataset_id = int(raw_folder.name[len("Dataset"):len("Dataset") + 3])
    dataset_json = load_json(str(raw_folder / "dataset.json"))
    require_sensible_cases(raw_folder, dataset_json, preprocessed_folder, plans, chosen)
    made_from = dataset_checksums(raw_folder, dataset_json, num_processes)
    drop_stale_references(preprocessed_folder, raw_folder, dataset_json)
    for configuration in chosen:
        data_identifier = plans["configurations"][configuration][DATA]
        with recorded(preprocessed_folder / data_identifier, **made_from, plan=plan_checksum(plans, data_identifier)):
            preprocess_dataset(dataset_id, plans_identifier, [configuration], [num_processes],
                               show_progress_bar=sys.stderr.isatty())
            raters = preprocess_raters(raw_folder, preprocessed_folder, plans, configuration, num_processes)
        if raters:
            logger.info("%s: labels of %d raters, one of them drawn at every iteration.", configuration, len(raters))
    return chosen
