"""Reading preprocessed cases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.nnunet.plain_pickle import require_plain
from medsegdiff_auto.nnunet.dataset_files import SPLITS_FILE, properties_file


@dataclass(frozen=True)
class PreprocessedCase:
    """A case on the network's grid.

    Attributes:
        image: (C, *spatial).
        reference: label map, (*spatial).
        previous: the first stage's label map, (*spatial); None without one.
    """

    name: str
    image: np.ndarray
    reference: np.ndarray
    previous: np.ndarray | None
    properties: dict


def require_data_folder(preprocessed_folder: Path, data_identifier: str) -> Path:
    """The folder of a configuration's cases.

    Raises:
        UserError: it is missing, or the split that the model was trained by is.
    """
    folder = preprocessed_folder / data_identifier
    if not folder.is_dir() or not (preprocessed_folder / SPLITS_FILE).is_file():
        raise UserError("The preprocessed cases of the model are not there.", found=f"no {folder} with {SPLITS_FILE}",
                        expected="the folders that the training used",
                        fix="set nnUNet_preprocessed to them, or preprocess again")
    return folder


def read_cases(data_folder: Path, names: Sequence[str],
               previous_stage: Path | None = None) -> Iterator[PreprocessedCase]:
    """These cases one after the other; what nnU-Net marks as outside of the image is background.

    Args:
        previous_stage: folder of the first stage's label maps, for a cascade.

    Raises:
        UserError: the properties of a case would run code.
    """
    require_plain(properties_file(data_folder, name) for name in names)
    dataset_class = infer_dataset_class(str(data_folder))
    dataset = dataset_class(str(data_folder), list(names), previous_stage and str(previous_stage))
    for name in names:
        image, labels, previous, properties = dataset.load_case(name)
        yield PreprocessedCase(name, np.asarray(image[:]), np.maximum(np.asarray(labels[:])[0], 0),
                               None if previous is None else np.asarray(previous[:]), properties)
