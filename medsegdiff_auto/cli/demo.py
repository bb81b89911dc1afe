"""``medsegdiff_demo``: ``medsegdiff_run`` on synthetic cases, whose true posterior is known."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medsegdiff_auto.cli.command import CommandParser, run
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.numeric_flags import COUNT, ITERATIONS
from medsegdiff_auto.nnunet.dataset_files import NUM_FOLDS
from medsegdiff_auto.paths import OUR_PLANS, OUR_TRAINER, model_name

if TYPE_CHECKING:
    from medsegdiff_auto.chain.steps import Chain

NUM_PROCESSES = 2
MINIMUM_DICE = 0.85
"""Below this mean Dice on the held-out phantoms the demonstration counts as failed."""

COMPANION_SUFFIXES = {"_uncertainty": "voxel-wise uncertainty, 0 to 1", "_samples": "plausible segmentations",
                      "_probabilities": "probabilities"}


@dataclass(frozen=True)
class Variant:
    """Dataset ID, configuration, image shape in voxels and training iterations of a fold for one dimension."""

    dataset_id: int
    configuration: str
    shape: tuple[int, ...]
    iterations: int


VARIANTS = {3: Variant(901, "3d_fullres", (24, 32, 24), 300), 2: Variant(902, "2d", (96, 96), 200)}


def main(argv=None) -> int:
    """Entry point of ``medsegdiff_demo``."""
    parser = CommandParser(
        prog="medsegdiff_demo",
        description="Does what medsegdiff_run does, on synthetic cases: plan, train five folds, calibrate, choose the "
        "postprocessing, predict held-out cases, evaluate, report. Given again it goes on where it was. Exits with 1 "
        f"if the mean Dice is below {MINIMUM_DICE}.")
    parser.add_argument("-o", default="demo_output", metavar="FOLDER",
                        help="everything goes here (default: %(default)s)")
    parser.add_argument("--dimension", type=int, choices=(3, 2), default=3, help="(default: %(default)s)")
    parser.add_argument("--iterations", type=ITERATIONS, metavar="N",
                        help=f"training iterations of each fold (default: {VARIANTS[3].iterations} in 3-D, "
                             f"{VARIANTS[2].iterations} in 2-D)")
    parser.add_argument("--cases", type=COUNT, default=24, metavar="N", help="training cases (default: %(default)s)")
    parser.add_argument("--test_cases", type=COUNT, default=6, metavar="N",
                        help="held-out cases (default: %(default)s)")
    parser.add_argument("-device", default="cpu", choices=("cpu", "cuda", "mps"), help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the phantoms (default: %(default)s)")
    parser.add_argument("--overwrite", action="store_true",
                        help="begin anew: what an earlier start left in the folder goes")
    return run(_demo, parser.parse_args(argv))


def demo_chain(folder: Path, dimension: int, iterations: int | None = None, cases: int = 24, test_cases: int = 6,
               device: str = "cpu", seed: int = 0) -> Chain:
    """What the demonstration asks for; ``iterations`` None stands for the default of the dimension."""
    from medsegdiff_auto.chain.place import Place
    from medsegdiff_auto.chain.steps import Chain
    from medsegdiff_auto.crossval.jobs import Job
    from medsegdiff_auto.crossval.request import Request, folds_of_split

    variant = VARIANTS[dimension]
    place = Place(folder, folder / "nnUNet_raw", f"Dataset{variant.dataset_id}_Phantoms")
    raw, preprocessed, results = place.of_dataset()
    phantoms = Job("phantoms", (), (
        "phantoms", "-d", str(variant.dataset_id), "--dimension", str(dimension), "--cases", str(cases), "--shape",
        *map(str, variant.shape), "--test_cases", str(test_cases), "--seed", str(seed)),
        lambda: (raw / "dataset.json").is_file())
    request = Request(place.dataset, raw, preprocessed, results, (variant.configuration,),
                      folds=folds_of_split(raw, preprocessed, None), resources="tiny",
                      iterations=iterations or variant.iterations, seed=seed, device=device,
                      num_processes=NUM_PROCESSES)
    return Chain(place, request, (phantoms,), raw / "imagesTs", raw / "labelsTs")


def demo_model_folder(folder: Path, dimension: int) -> Path:
    """Where the trained folds of the demonstration lie."""
    variant = VARIANTS[dimension]
    return (folder / "nnUNet_results" / f"Dataset{variant.dataset_id}_Phantoms"
            / model_name(OUR_TRAINER, OUR_PLANS, variant.configuration))


def _demo(args) -> int:
    folder = Path(args.o).expanduser().absolute()
    if args.cases < NUM_FOLDS:
        raise UserError("There are too few cases for the folds.", found=f"--cases {args.cases}",
                        expected=f"{NUM_FOLDS} or more", fix="give more with --cases, or leave it out")
    os.environ.setdefault("nnUNet_def_n_proc", str(NUM_PROCESSES))
    from medsegdiff_auto.cli.steps import follow

    begun_with = {"demonstration": args.dimension, "cases": args.cases, "test_cases": args.test_cases,
                  "seed": args.seed}
    return follow(lambda: demo_chain(folder, args.dimension, args.iterations, args.cases, args.test_cases, args.device,
                                     args.seed),
                  begun_with, args.overwrite, concludes=lambda: _conclude(folder, args.dimension))


def _conclude(folder: Path, dimension: int) -> int:
    final = folder / "predictions_postprocessed"
    dice = json.loads((final / "summary.json").read_text(encoding="utf-8"))["foreground_mean"]["Dice"]
    best = _best_expected_dice(sorted(final.glob("*.nii.gz")), folder / "nnUNet_raw", dimension)
    print(f"\nMean Dice on the held-out phantoms: {dice:.4f} "
          f"(no method can expect more than {best:.4f}: the annotations are ambiguous by construction)")
    for line in _produced_files(folder, final, dimension):
        print(line)
    if not dice >= MINIMUM_DICE:
        print(f"error: the mean Dice {dice:.4f} is below {MINIMUM_DICE}, so something is wrong with this installation "
              "or "
              f"the training was too short; see {folder / 'report.html'}.", file=sys.stderr)
        return 1
    return 0


def _best_expected_dice(files: list[Path], raw_folder: Path, dimension: int) -> float:
    """Mean over held-out cases and structures of the expected Dice of the mean-thresholded true posterior."""
    from medsegdiff_auto.phantoms.expectations import expected_dice
    from medsegdiff_auto.phantoms.posterior_file import load_posterior

    posterior_folder = raw_folder / f"Dataset{VARIANTS[dimension].dataset_id}_Phantoms" / "posterior"
    candidates = (posterior_folder / file.name.replace(".nii.gz", ".npz") for file in files)
    posteriors = [load_posterior(path) for path in candidates if path.is_file()]
    scores = [expected_dice(posterior, (index + 1,), log2_num_nodes=6)
              for posterior in posteriors for index in range(len(posterior.structures))]
    return sum(scores) / len(scores)


def _produced_files(folder: Path, final: Path, dimension: int) -> list[str]:
    """One line per kind of file: how many, where, what."""
    companions = {suffix: sorted(final.glob(f"*{suffix}.nii.gz")) for suffix in COMPANION_SUFFIXES}
    accompanying = {path for found in companions.values() for path in found}
    labels = [path for path in sorted(final.glob("*.nii.gz")) if path not in accompanying]
    kinds = [(labels, "segmentations")] + [(companions[suffix], what) for suffix, what in COMPANION_SUFFIXES.items()]
    lines = [f"  {len(found)} x {found[0]}  {what}" for found, what in kinds if found]
    tables = [(final / "cases.csv", "sizes with 5 to 95 % intervals"), (final / "metrics.csv", "scores of each case"),
              (demo_model_folder(folder, dimension), "the model"), (folder / "report.html", "the report")]
    return ["Written:", *lines, *[f"  {path}  {what}" for path, what in tables if path.exists()]]
