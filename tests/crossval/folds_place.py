"""A dataset of six phantoms in two folds, and the commands on it."""

import importlib
import json
import multiprocessing
import shlex
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import SimpleNamespace

import pytest

from medsegdiff_auto.phantoms.nnunet_dataset import write_phantom_dataset
from medsegdiff_auto.phantoms.phantom import PhantomKind

CASES = [f"phantom_{number:03d}" for number in range(6)]
FOLDS = [{"train": CASES[3:], "val": CASES[:3]}, {"train": CASES[:3], "val": CASES[3:]}]
VARIABLES = {"nnUNet_raw": "raw", "nnUNet_preprocessed": "preprocessed", "nnUNet_results": "results"}


@dataclass(frozen=True)
class Place:
    """nnU-Net's folders of dataset 921, in ``root``."""

    root: Path

    @property
    def raw(self) -> Path:
        return self.root / "raw" / "Dataset921_Folds"

    @property
    def preprocessed(self) -> Path:
        return self.root / "preprocessed" / "Dataset921_Folds"

    @property
    def results(self) -> Path:
        return self.root / "results" / "Dataset921_Folds"

    @property
    def environment(self) -> dict[str, str]:
        return {variable: str(self.root / name) for variable, name in VARIABLES.items()} | {
            "nnUNet_n_proc_DA": "0", "nnUNet_def_n_proc": "1"}

    def fold(self, trainer: str, fold: int) -> Path:
        return self.results / f"{trainer}__MedSegDiffPlans__2d" / f"fold_{fold}"


def command(line: str) -> int:
    """Runs ``medsegdiff_<line>`` in this process."""
    words = shlex.split(line)
    try:
        return importlib.import_module(f"medsegdiff_auto.cli.{words[0]}").main(words[1:])
    except SystemExit as refused:
        return refused.code


def write_dataset(root: Path) -> Place:
    """The raw dataset, with two cases to predict, and nnU-Net's empty folders."""
    for name in VARIABLES.values():
        (root / name).mkdir()
    raw = write_phantom_dataset(root / "raw", 921, "Folds", (len(CASES), 2), PhantomKind(2, shape=(32, 32)))
    (raw / "splits_final.json").write_text(json.dumps(FOLDS), encoding="utf-8")
    return Place(root)


def use(place: Place, patch: pytest.MonkeyPatch) -> None:
    """Points nnU-Net's variables at the place; its process pools are threads, for a process imports torch for seconds.
    """
    for variable, value in place.environment.items():
        patch.setenv(variable, value)
    patch.setattr(multiprocessing, "get_context", lambda method=None: SimpleNamespace(Pool=ThreadPool))
