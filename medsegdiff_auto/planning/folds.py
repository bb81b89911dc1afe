"""The folds of a preprocessed dataset: those of ``splits_final.json``, else nnU-Net's default of five."""

from __future__ import annotations

from pathlib import Path

NUM_FOLDS = 5
SPLITS_FILE = "splits_final.json"


def is_divisible(preprocessed_folder: Path) -> bool:
    """Whether there are folds to train: a split, or as many cases as nnU-Net's default has folds."""
    num_cases = len(list((preprocessed_folder / "gt_segmentations").iterdir()))
    return (preprocessed_folder / SPLITS_FILE).is_file() or num_cases >= NUM_FOLDS
