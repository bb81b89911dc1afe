"""The raw files of the training cases, as nnU-Net lists them."""

from __future__ import annotations

import copy
from collections import defaultdict
from pathlib import Path

from batchgenerators.utilities.file_and_folder_operations import subfiles
from nnunetv2.utilities.utils import (create_paths_fn, get_filenames_of_train_images_and_targets,
                                      get_identifiers_from_splitted_dataset_folder)


def training_files(raw_folder: Path, dataset_json: dict) -> dict[str, dict]:
    """``{case: {"images": [file of every channel], "label": file}}``.

    What ``get_filenames_of_train_images_and_targets`` gives, without its pool of 12 processes, whose start takes far
    longer than the listing.
    """
    if "dataset" in dataset_json:
        return get_filenames_of_train_images_and_targets(str(raw_folder), copy.deepcopy(dataset_json))
    folder, ending = str(raw_folder / "imagesTr"), dataset_json["file_ending"]
    channels_of = defaultdict(list)
    for file in subfiles(folder, suffix=ending, join=False, sort=True):
        channels_of[file[:-len("_0000") - len(ending)]].append(file)
    return {str(case): {"images": create_paths_fn(folder, channels_of[case], ending, case),
                        "label": str(raw_folder / "labelsTr" / f"{case}{ending}")}
            for case in get_identifiers_from_splitted_dataset_folder(folder, ending)}
