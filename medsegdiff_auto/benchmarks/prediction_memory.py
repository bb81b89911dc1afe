"""Peak memory of ``medsegdiff_predict`` on a synthetic CT of any size: what it states beforehand beside what it takes.

The model is planned for phantoms by the package's own planner and not trained: its tiles are all in doubt, so that none
is left out, which is the most that a prediction can cost. The prediction runs in a process of its own.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk

GB = 1e9
NUM_STRUCTURES = 3
PHANTOM_SHAPE = (96, 96, 96)
CASE, DATASET_ID, CONFIGURATION = "large", 1, "3d_fullres"
PREDICT_AND_MEASURE = """
import sys
from medsegdiff_auto.cli.predict import main
from medsegdiff_auto.sampling.process_memory import peak_resident_bytes
code = main(sys.argv[1:])
print("peak", peak_resident_bytes())
sys.exit(code)
"""


@dataclass(frozen=True)
class Measured:
    """One prediction.

    Attributes:
        statement: the command's line before the case.
    """

    statement: str
    stated_gb: float
    measured_gb: float
    seconds: float


def write_ct(file: Path, size: Sequence[int], spacing_mm: float, seed: int = 0) -> None:
    """A body of water with three organs and noise in air, int16 Hounsfield units; size in the order x, y, z."""
    generator, across = np.random.default_rng(seed), [np.linspace(-1, 1, n, dtype=np.float32) for n in size]
    x, y = across[0][None], across[1][:, None]
    volume = np.empty(size[::-1], np.int16)
    for number, z in enumerate(across[2]):
        plane = np.where(x ** 2 + y ** 2 < 0.8, 0, -1000).astype(np.float32)
        for organ, value in enumerate((60, 120, 200)[:NUM_STRUCTURES]):
            middle = 0.45 * np.array([np.cos(2.1 * organ), np.sin(2.1 * organ)])
            plane[(x - middle[0]) ** 2 + (y - middle[1]) ** 2 + z ** 2 < 0.08] = value
        volume[number] = plane + generator.normal(0, 20, plane.shape)
    image = sitk.GetImageFromArray(volume)
    image.SetSpacing([spacing_mm] * 3)
    sitk.WriteImage(image, str(file), useCompression=True)


def untrained_model(folder: Path, num_classes: int = NUM_STRUCTURES + 1, resources: str = "tiny") -> Path:
    """A model of so many classes, planned for phantoms of a CT, with the weights that it begins with."""
    from batchgenerators.utilities.file_and_folder_operations import load_json, save_json
    from torch import device

    from medsegdiff_auto import paths
    from medsegdiff_auto.training.planned_training import initialized_trainer
    from medsegdiff_auto.cli.plan_and_preprocess import main as plan
    from medsegdiff_auto.diffusion.configuration import PLANS_KEY
    from medsegdiff_auto.phantoms.nnunet_dataset import write_phantom_dataset
    from medsegdiff_auto.phantoms.phantom import PhantomKind
    from medsegdiff_auto.training.trainer import nnUNetTrainerMedSegDiff

    folders = {name: folder / name for name in ("raw", "preprocessed", "results")}
    for one in folders.values():
        one.mkdir(parents=True)
    paths.use_folders(**folders)
    kind = PhantomKind(3, "CT", num_structures=NUM_STRUCTURES, shape=PHANTOM_SHAPE)
    dataset = write_phantom_dataset(folders["raw"], DATASET_ID, "Memory", (3, 0), kind)
    assert plan(["-d", str(DATASET_ID), "-c", CONFIGURATION, "--resources", resources, "--no_pp", "-np", "1",
                 "-overwrite_target_spacing", "1", "1", "1"]) == 0
    plans = load_json(str(folders["preprocessed"] / dataset.name / "MedSegDiffPlans.json"))
    dataset_json = load_json(str(dataset / "dataset.json"))
    if num_classes != NUM_STRUCTURES + 1:  # the plan's network has as many outputs as dataset.json has labels
        dataset_json["labels"] = {"background": 0} | {f"structure {n}": n for n in range(1, num_classes)}
        plans["configurations"][CONFIGURATION][PLANS_KEY]["loss"]["class_weights"] = []
    trainer = initialized_trainer(nnUNetTrainerMedSegDiff, plans, CONFIGURATION, dataset_json, device("cpu"),
                                  num_epochs=1)
    model = folders["results"] / "model"
    (model / "fold_0").mkdir(parents=True)
    trainer.save_checkpoint(str(model / "fold_0" / "checkpoint_final.pth"))
    save_json(plans, str(model / "plans.json"))
    save_json(dataset_json, str(model / "dataset.json"))
    return model


def predict_measured(model: Path, images: Path, output: Path, options: Sequence[str]) -> Measured:
    """Runs the command on a folder of one image; the peak is that of its process alone.

    Raises:
        CalledProcessError: the command failed.
    """
    start = perf_counter()
    run = subprocess.run([
        sys.executable, "-c", PREDICT_AND_MEASURE, "-i",
        str(images), "-o",
        str(output), "-m",
        str(model), "-device", "cpu", *options
    ], capture_output=True, text=True)
    seconds = perf_counter() - start
    print(run.stdout + run.stderr, file=sys.stderr, flush=True)
    run.check_returncode()
    statement = next(line for line in run.stderr.splitlines() if line.endswith("at most"))
    return Measured(statement, float(re.search(r"about ([\d.]+) GB at most", statement)[1]),
                    float(re.search(r"^peak (\S+)$", run.stdout, re.MULTILINE)[1]) / GB, seconds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-size", type=int, nargs=3, default=(512, 512, 600), metavar=("X", "Y", "Z"))
    parser.add_argument("-m", type=Path, metavar="FOLDER", help="model folder (default: an untrained one for phantoms)")
    parser.add_argument("--spacing_mm", type=float, default=1.0,
                        help="of the CT; the default model's is 1, others are resampled")
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--classes", type=int, default=NUM_STRUCTURES + 1, help="of the untrained model")
    parser.add_argument("--mirrors", type=int, default=1)
    parser.add_argument("-step_size", type=float, default=0.5)
    parser.add_argument("--max_memory", type=float, metavar="GB", help="given to the command (default: the limit)")
    parser.add_argument("--limit_gb", type=float, default=8.0)
    parser.add_argument("--save", nargs="*", default=["uncertainty"], metavar="WHAT",
                        help="uncertainty, samples, probabilities, mutual_information")
    args = parser.parse_args()
    with TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "images").mkdir()
        write_ct(root / "images" / f"{CASE}_0000.nii.gz", args.size, args.spacing_mm)
        model = args.m or untrained_model(root / "model", args.classes)
        options = [
            "--samples",
            str(args.samples), "--mirrors",
            str(args.mirrors), "-step_size",
            str(args.step_size), "--max_memory",
            str(args.max_memory or args.limit_gb), *(f"--save_{what}" for what in args.save)
        ]
        found = predict_measured(model, root / "images", root / "predictions", options)
    is_below = "yes" if found.measured_gb < args.limit_gb else "NO"
    print(f"{found.statement}\n\n| size | classes | samples | stated, GB | measured, GB | stated too much | below "
          f"{args.limit_gb:g} GB | seconds |\n|---|---|---|---|---|---|---|---|\n"
          f"| {' x '.join(map(str, args.size))} | {args.classes} | {args.samples} | {found.stated_gb:.2f} | "
          f"{found.measured_gb:.2f} | {found.stated_gb / found.measured_gb - 1:+.1%} | {is_below} | "
          f"{found.seconds:.0f} |")
    return 0 if found.measured_gb < args.limit_gb else 1


if __name__ == "__main__":
    sys.exit(main())
