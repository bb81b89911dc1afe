"""Training on several raters: at every draw of a case, the labels of one rater by chance."""

from __future__ import annotations

from pathlib import Path
from collections.abc import Sequence

import blosc2
import numpy as np
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

from medsegdiff_auto.nnunet.dataset_files import labels_file, properties_file
from medsegdiff_auto.nnunet.plain_pickle import load_plain
from medsegdiff_auto.planning.raters import SUFFIX


def rater_folders(data_folder: str | Path) -> list[Path]:
    """Folders of the raters' preprocessed labels beside those of the cases, sorted."""
    folder = Path(f"{data_folder}{SUFFIX}")
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def labels_of_raters(data_folder: str | Path, case: str) -> np.ndarray:
    """The label maps of the raters that saw a case, (num_raters, *spatial) on the network's grid, without the
    preprocessing's -1; (0,) where none did.
    """
    files = [labels_file(folder, case) for folder in rater_folders(data_folder)]
    found = [np.maximum(blosc2.open(urlpath=str(file), mode="r")[0], 0) for file in files if file.is_file()]
    return np.stack(found) if found else np.empty(0, np.int16)


class RaterDataset(nnUNetDatasetBlosc2):
    """nnU-Net's dataset, whose labels are those of one of the raters that saw the case; the reference's where none did.

    A network trained on it learns the distribution of the raters, each as likely.
    """

    def __init__(self, folder: str, identifiers: Sequence[str], previous_stage: str | None, raters: Sequence[Path]):
        super().__init__(folder, list(identifiers), previous_stage)
        self.raters = {case: [rater for rater in raters if labels_file(rater, case).is_file()] for case in identifiers}

    def load_case(self, identifier: str):
        """Image, labels, previous stage and properties, as nnU-Net's loader expects them."""
        image, labels, previous, properties = super().load_case(identifier)
        raters = self.raters[identifier]
        if raters:
            rater = raters[np.random.randint(len(raters))]
            labels = blosc2.open(urlpath=str(labels_file(rater, identifier)), mode="r", dparams={"nthreads": 1},
                                 **self.mmap_kwargs)
            properties = load_plain(properties_file(rater, identifier))
        return image, labels, previous, properties
