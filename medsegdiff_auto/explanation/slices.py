"""A raw dataset in nnU-Net's format as small slices that a notebook learns from."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from medsegdiff_auto.checks.dataset_json import read_dataset_json, training_cases
from medsegdiff_auto.findings import raise_errors
from medsegdiff_auto.nnunet.dataset_files import SPLITS_FILE, read_splits
from medsegdiff_auto.nnunet.readers import find_reader

ONE_IN = 5  # cases that are held out where the dataset has no folds


class Slices(NamedTuple):
    """One slice per case, that with the most foreground.

    Attributes:
        images: (N, C, side, side), each channel with mean 0 and standard deviation 1, or 0 where it is constant.
        masks: (N, 1, side, side) in {0, 1}: any label above 0 in at least half of a cell.
        held_out: numbers of the cases of fold 0's validation, or of every fifth where there are no folds.
    """

    images: Tensor
    masks: Tensor
    held_out: list[int]


def read_slices(raw_folder: Path, side: int, num_cases: int | None = None) -> Slices:
    """Reads the training cases, at most the first ``num_cases``.

    Raises:
        UserError: the folder is no raw dataset.
    """
    dataset_json, findings = read_dataset_json(raw_folder)
    raise_errors(findings, "The raw dataset cannot be read", "")
    cases, findings = training_cases(raw_folder, dataset_json)
    raise_errors(findings, "The raw dataset cannot be read", "")
    names = sorted(cases)[:num_cases]
    reader = find_reader(dataset_json, [*cases[names[0]].images.values()])
    images, masks = [], []
    for name in names:
        files = cases[name]
        image = reader.read_images([str(files.images[channel]) for channel in sorted(files.images)])[0]
        is_foreground = reader.read_seg(str(files.label))[0][0] > 0
        number = int(is_foreground.sum((1, 2)).argmax())
        images.append(_resized(image[:, number], side))
        masks.append((_resized(is_foreground[None, number], side) >= 0.5).float())
    held_out = set(read_splits(raw_folder)[0]["val"]) if (raw_folder / SPLITS_FILE).is_file() else set(names[::ONE_IN])
    normalised = torch.stack(images)
    deviation = normalised.std((2, 3), keepdim=True)
    normalised = (normalised - normalised.mean((2, 3), keepdim=True)) / deviation.where(deviation > 0, 1)
    return Slices(normalised, torch.stack(masks), [n for n, name in enumerate(names) if name in held_out])


def _resized(channels: np.ndarray, side: int) -> Tensor:
    """Means over cells, or linear interpolation where the slice is smaller: (C, side, side) float32."""
    values = torch.from_numpy(channels.astype(np.float32))[None]
    if min(values.shape[2:]) < side:
        return interpolate(values, size=(side, side), mode="bilinear")[0]
    return adaptive_avg_pool2d(values, (side, side))[0]
