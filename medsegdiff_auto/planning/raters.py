"""Several raters' labels: ``labelsTr_raters/NAME/CASE`` beside nnU-Net's ``labelsTr``, preprocessed as the labels are.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from batchgenerators.utilities.file_and_folder_operations import load_json

from medsegdiff_auto.files.rater_folders import rater_folders
from medsegdiff_auto.nnunet.dataset_files import image_file
from medsegdiff_auto.nnunet.managers import PlansManager
from medsegdiff_auto.nnunet.training_files import training_files

SUFFIX = "_raters"


def preprocess_raters(raw_folder: Path, preprocessed_folder: Path, plans: dict, configuration: str,
                      num_processes: int) -> list[str]:
    """Preprocesses every rater's labels of a configuration by nnU-Net; returns the raters' names.

    They go to ``DATA_IDENTIFIER_raters/NAME``, labels and properties only: the images are those of the configuration.
    """
    folders = rater_folders(raw_folder)
    if not folders:
        return []
    dataset_json = load_json(str(raw_folder / "dataset.json"))
    plans_manager = PlansManager(plans)
    manager = plans_manager.get_configuration(configuration)
    cases = training_files(raw_folder, dataset_json)
    jobs = []
    for folder in folders:
        target = preprocessed_folder / f"{manager.data_identifier}{SUFFIX}" / folder.name
        target.mkdir(parents=True, exist_ok=True)
        for case, files in cases.items():
            label = folder / Path(files["label"]).name
            if label.is_file():
                jobs.append((target, case, files["images"], label))

    def preprocess(job: tuple[Path, str, list[str], Path]) -> None:
        target, case, images, label = job
        manager.preprocessor_class(verbose=False).run_case_save(str(target / case), images, str(label), plans_manager,
                                                                manager, dataset_json)
        image_file(target, case).unlink()

    with ThreadPoolExecutor(num_processes) as pool:
        list(pool.map(preprocess, jobs))
    return [folder.name for folder in folders]
