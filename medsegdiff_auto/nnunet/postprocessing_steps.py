"""nnU-Net's ``postprocessing.pkl``, whose steps are one function with other arguments: the file, and plain values."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.nnunet.plain_pickle import load_plain
from medsegdiff_auto.writing import atomically

FILE = "postprocessing.pkl"
STEP = ("nnunetv2.postprocessing.remove_connected_components", "remove_all_but_largest_component_from_segmentation")
_ARGUMENTS = {"labels_or_regions", "background_label"}


def load_postprocessing(path: Path) -> tuple[list, list]:
    """The functions of a ``postprocessing.pkl`` and their keyword arguments; nothing but nnU-Net's own steps is loaded.

    Raises:
        UserError: the file is missing, unreadable, or names anything else, which would run when loaded.
    """
    if not path.is_file():
        raise UserError("The postprocessing file does not exist.", found=str(path),
                        expected="the postprocessing.pkl of medsegdiff_find_best_configuration",
                        fix="correct -pp_pkl_file")
    content = load_plain(path, {STEP})
    try:
        functions, arguments = content
        fits = len(functions) == len(arguments) and all(
            callable(function) and are_arguments(given) for function, given in zip(functions, arguments))
    except (ValueError, TypeError, AttributeError):
        fits = False
    if not fits:
        raise UserError(f"{path} is no postprocessing of nnU-Net.", found=f"{content!r:.200}",
                        expected=f"a list of {STEP[1]}, and a list of as many sets of {', '.join(sorted(_ARGUMENTS))}",
                        fix="run medsegdiff_find_best_configuration again")
    return functions, arguments


def write_postprocessing(steps: Sequence[dict], path: Path) -> None:
    """Writes the file, with the keyword arguments of every step."""
    from nnunetv2.postprocessing.remove_connected_components import remove_all_but_largest_component_from_segmentation

    with atomically(path) as unfinished:
        unfinished.write_bytes(pickle.dumps(([remove_all_but_largest_component_from_segmentation] * len(steps),
                                             list(steps))))


def are_arguments(given: Any) -> bool:
    """Whether these are keyword arguments of a step: whole numbers, or lists of them."""
    return isinstance(given, dict) and given.keys() <= _ARGUMENTS and all(map(_are_labels, given.values()))


def as_plain(steps: Sequence[dict]) -> list[dict]:
    """The arguments of steps as JSON knows them: in a list of labels and regions, a region is a list itself."""
    return [{name: _listed(value) if name == "labels_or_regions" else int(value) for name, value in given.items()}
            for given in steps]


def from_plain(steps: Sequence[dict]) -> list[dict]:
    """The arguments that :func:`as_plain` took, as nnU-Net's function knows them: a region is a tuple."""
    return [{name: [tuple(one) if isinstance(one, list) else one for one in value] if isinstance(value, list) else value
             for name, value in given.items()} for given in steps]


def _listed(labels_or_regions: Any) -> list:
    several = labels_or_regions if isinstance(labels_or_regions, list) else [labels_or_regions]
    return [[int(label) for label in one] if isinstance(one, (tuple, list)) else int(one) for one in several]


def _are_labels(value: object) -> bool:
    return all(map(_are_labels, value)) if isinstance(value, (list, tuple)) else isinstance(value, (int, np.integer))
