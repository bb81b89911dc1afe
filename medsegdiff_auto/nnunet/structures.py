"""The structures of a dataset: what is scored, and which labels and probability channels belong to it."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Structure:
    """One foreground label or region of ``dataset.json``.

    ``key`` is nnU-Net's (an int for a label, a tuple of ints for a region), ``labels`` the label values that make it
    up, ``channel`` its place on the class axis of the probabilities (softmax: the background is channel 0; regions:
    none).
    """

    name: str
    key: int | tuple[int, ...]
    labels: tuple[int, ...]
    channel: int

    def mask(self, segmentation: np.ndarray) -> np.ndarray:
        """The boolean mask of this structure in a label map of any shape."""
        return np.isin(segmentation, self.labels)

    def posterior(self, class_probabilities: np.ndarray) -> np.ndarray:
        """P(structure) `(*spatial)` in [0, 1] from the probabilities `(num_labels, *spatial)` of all labels, background
        first.
        """
        return class_probabilities[list(self.labels)].sum(axis=0, dtype=np.float32)


def structures_of(dataset_json: dict) -> list[Structure]:
    """The foreground structures of a dataset in the order of ``dataset_json["labels"]``, as nnU-Net scores them.

    Labels are scored one by one unless at least one entry joins several of them; then every entry is a region.
    """
    foreground = {name: labels for name, labels in _entries(dataset_json).items() if set(labels) != {0}}
    if not has_regions(dataset_json):
        return [Structure(name, labels[0], labels, channel=labels[0]) for name, labels in foreground.items()]
    return [Structure(name, _region_key(dataset_json["labels"][name]), labels, channel)
            for channel, (name, labels) in enumerate(foreground.items())]


def has_regions(dataset_json: dict) -> bool:
    """Whether structures overlap: at least one entry joins several labels."""
    return any(len(labels) > 1 for labels in _entries(dataset_json).values())


def ignore_label_of(dataset_json: dict) -> int | None:
    """The label value whose voxels are left out of every score, or None."""
    value = dataset_json["labels"].get("ignore")
    return None if value is None else int(value)


def _entries(dataset_json: dict) -> dict[str, tuple[int, ...]]:
    return {name: _as_tuple(value) for name, value in dataset_json["labels"].items() if name != "ignore"}


def _as_tuple(value: int | Iterable[int]) -> tuple[int, ...]:
    return tuple(int(v) for v in value) if isinstance(value, (list, tuple)) else (int(value),)


def _region_key(value: int | Iterable[int]) -> int | tuple[int, ...]:
    return _as_tuple(value) if isinstance(value, (list, tuple)) else int(value)
