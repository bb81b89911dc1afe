"""The whole chain on small phantoms, by the commands that a user types."""

import importlib
import multiprocessing
import shlex
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import SimpleNamespace

import pytest

from medsegdiff_auto.phantoms.nnunet_dataset import Labelling, write_phantom_dataset
from medsegdiff_auto.phantoms.phantom import PhantomKind

NUM_TRAINING, NUM_TEST, FOLDS = 6, 2, (0, 1)


@dataclass(frozen=True)
class Chain:
    """Where the chain left its files."""

    root: Path
    dataset: str
    configuration: str

    @property
    def raw(self) -> Path:
        return self.root / "raw" / self.dataset

    @property
    def preprocessed(self) -> Path:
        return self.root / "preprocessed" / self.dataset

    @property
    def model(self) -> Path:
        return self.root / "results" / self.dataset / f"nnUNetTrainerMedSegDiff__MedSegDiffPlans__{self.configuration}"

    @property
    def predictions(self) -> Path:
        return self.root / "predictions"

    @property
    def final(self) -> Path:
        return self.root / "final"

    @property
    def cases(self) -> list[str]:
        return [f"phantom_{i:03d}" for i in range(NUM_TRAINING, NUM_TRAINING + NUM_TEST)]


def threads_for_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """nnU-Net's process pools as threads: each new process would import torch for seconds."""
    monkeypatch.setattr(multiprocessing, "get_context", lambda method=None: SimpleNamespace(Pool=ThreadPool))


def command(line: str, *paths: Path) -> int:
    """Runs ``medsegdiff_<line>`` in this process; ``{0}``, ``{1}``, ... in the line stand for the paths."""
    words = [word.format(*paths) for word in shlex.split(line)]
    try:
        return importlib.import_module(f"medsegdiff_auto.cli.{words[0]}").main(words[1:])
    except SystemExit as refused:  # while the words were parsed
        return refused.code


def run_chain(root: Path, kind: PhantomKind, labelling: Labelling) -> Chain:
    """Plans, trains two folds for ten iterations, selects, predicts, postprocesses, evaluates and reports."""
    dataset_id, configuration = {2: (902, "2d"), 3: (903, "3d_fullres")}[kind.dimension]
    folder = write_phantom_dataset(root / "raw", dataset_id, "Chain", (NUM_TRAINING, NUM_TEST), kind, labelling)
    chain = Chain(root, folder.name, configuration)
    lines = [f"plan_and_preprocess -d {dataset_id} -c {configuration} --resources tiny -np 1"]
    lines += [f"train {dataset_id} {configuration} {fold} --iterations 10 -device cpu --npz --seed 0" for fold in FOLDS]
    lines += [
        f"find_best_configuration {dataset_id} -c {configuration} -f 0 1 -np 1",
        f"predict -i {{0}} -o {{1}} -d {dataset_id} -c {configuration} -f 0 1 -device cpu --samples 3 "
        "--save_uncertainty --save_mutual_information --save_samples --save_probabilities --flag_below 0.999",
        "apply_postprocessing -i {1} -o {2} -pp_pkl_file {3} -plans_json {4} -dataset_json {5} -np 1",
        "evaluate {6} {2} -djfile {5} -pfile {4} -np 1",
        "report -m {7} -p {2} --references {6} --images {0} --posterior {8} -o {9}",
    ]
    best = chain.model / "crossval_results_folds_0_1"
    paths = (chain.raw / "imagesTs", chain.predictions, chain.final, best / "postprocessing.pkl",
             chain.model / "plans.json", chain.model / "dataset.json", chain.raw / "labelsTs", chain.model,
             chain.raw / "posterior", root / "report.html")
    for line in lines:
        assert command(line, *paths) == 0, line
    return chain
