"""Names and content of nnU-Net's folder of a preprocessed dataset, and its folds. Free of torch.

    DATASET/splits_final.json                            [{"train": [CASE, ...], "val": [...]}, ...], one entry per fold
            dataset_fingerprint.json
            gt_segmentations/CASE.ENDING                 references as they were given
            DATA_IDENTIFIER/CASE.b2nd                    image (C, *spatial) on the network's grid
                            CASE_seg.b2nd                label map (1, *spatial); -1: image and label 0 up to the border
                            CASE.pkl                     properties

A cascade's second stage reads the first stage's label maps in ``predicted_next_stage`` of the first one's model folder.
"""

from __future__ import annotations

import json
from pathlib import Path

from medsegdiff_auto.errors import UserError

NUM_FOLDS = 5  # nnU-Net's, where there is no split
SPLITS_FILE, FINGERPRINT_FILE = "splits_final.json", "dataset_fingerprint.json"


def references_folder(preprocessed_folder: Path) -> Path:
    """Where preprocessing copies the references, on the grids of their images."""
    return preprocessed_folder / "gt_segmentations"


def read_splits(preprocessed_folder: Path) -> list[dict[str, list[str]]]:
    """Cases ``train`` and ``val`` of every fold.

    Raises:
        UserError: the file is damaged, or a name is a path, which would lead out of the folders of the results.
    """
    file = preprocessed_folder / SPLITS_FILE
    content = json.loads(file.read_text(encoding="utf-8"))
    names = [name for fold in content for part in fold.values() for name in part] if _are_splits(content) else [None]
    wrong = [name for name in names if not isinstance(name, str) or not name or set(name) & set("/\\\0")]
    if wrong:
        raise UserError(f"{file} does not hold the folds of a dataset.",
                        found="another content" if wrong == [None] else f"a case named {wrong[0]!r:.100}",
                        expected='[{"train": [CASE, ...], "val": [CASE, ...]}, ...]',
                        fix="put back the file that the preprocessing or you have written, or delete it")
    return content


def _are_splits(content: object) -> bool:
    return isinstance(content, list) and all(isinstance(fold, dict) and fold.keys() >= {"train", "val"} and all(
        isinstance(part, list) for part in fold.values()) for fold in content)


def is_divisible(preprocessed_folder: Path) -> bool:
    """Whether there are folds to train: a split, or as many cases as nnU-Net's default has folds."""
    num_cases = len(list(references_folder(preprocessed_folder).iterdir()))
    return (preprocessed_folder / SPLITS_FILE).is_file() or num_cases >= NUM_FOLDS


def image_file(data_folder: Path, case: str) -> Path:
    """The preprocessed image of a case."""
    return data_folder / f"{case}.b2nd"


def labels_file(data_folder: Path, case: str) -> Path:
    """The preprocessed label map of a case."""
    return data_folder / f"{case}_seg.b2nd"


def properties_file(data_folder: Path, case: str) -> Path:
    """The properties of a case."""
    return data_folder / f"{case}.pkl"


def next_stage_folder(model_folder: Path, configuration: str) -> Path:
    """Where a first stage's validation leaves its label maps for this configuration."""
    return model_folder / "predicted_next_stage" / configuration
