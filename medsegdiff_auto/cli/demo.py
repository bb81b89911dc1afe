"""``medsegdiff_demo``: the whole pipeline on synthetic cases, by the same commands that a user types."""

import importlib
import json
import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from medsegdiff_auto import paths
from medsegdiff_auto.cli.command import CommandParser, run
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.numeric_flags import COUNT, ITERATIONS

FOLDS = ("0", "1", "2", "3", "4")
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


@dataclass(frozen=True)
class CommandLine:
    """One command: its program and the arguments that would be typed."""

    program: str
    arguments: tuple[str, ...]

    def __str__(self) -> str:
        return shlex.join([self.program, *self.arguments])

    def execute(self) -> int:
        """Calls the command's ``main`` in this process and returns its exit code."""
        module = importlib.import_module(f"medsegdiff_auto.cli.{self.program.removeprefix('medsegdiff_')}")
        return module.main(list(self.arguments))


def main(argv=None) -> int:
    """Entry point of ``medsegdiff_demo``."""
    parser = CommandParser(
        prog="medsegdiff_demo",
        description="Runs the whole pipeline on synthetic cases: plan, train five folds, choose the "
        "postprocessing, predict held-out cases, evaluate, report. Exits with 1 if their "
        f"mean Dice is below {MINIMUM_DICE}.")
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
    args = parser.parse_args(argv)
    return run(_demo, args)


def demo_steps(folder: Path, dimension: int, iterations: int | None = None, cases: int = 24, test_cases: int = 6,
               device: str = "cpu", seed: int = 0) -> list[CommandLine]:
    """The commands of the demonstration, in order; ``iterations`` None stands for the default of the dimension."""
    variant = VARIANTS[dimension]
    dataset, configuration = str(variant.dataset_id), variant.configuration
    raw = folder / "nnUNet_raw" / f"Dataset{variant.dataset_id}_Phantoms"
    model = demo_model_folder(folder, dimension)
    best = model / f"crossval_results_folds_{'_'.join(FOLDS)}"
    predictions, final = folder / "predictions", folder / "predictions_postprocessed"
    iterations = str(iterations or variant.iterations)
    return [
        _step("phantoms", "-o", raw.parent, "-d", dataset, "--dimension", dimension, "--cases", cases, "--shape",
              *variant.shape, "--test_cases", test_cases, "--seed", seed),
        _step("plan_and_preprocess", "-d", dataset, "-c", configuration, "--resources", "tiny", "-np", 2),
        *[
            _step("train", dataset, configuration, fold, "--iterations", iterations, "--seed", seed, "-device", device,
                  "--npz") for fold in FOLDS
        ],
        _step("find_best_configuration", dataset, "-c", configuration, "-f", *FOLDS, "-np", 2),
        _step("predict", "-i", raw / "imagesTs", "-o", predictions, "-d", dataset, "-c", configuration, "-f", *FOLDS,
              "-device", device, "--save_uncertainty", "--save_samples", "--save_probabilities"),
        _step("apply_postprocessing", "-i", predictions, "-o", final, "-pp_pkl_file", best / "postprocessing.pkl",
              "-plans_json", best / "plans.json", "-dataset_json", best / "dataset.json", "-np", 2),
        _step("evaluate", raw / "labelsTs", final, "-djfile", best / "dataset.json", "-pfile", best / "plans.json",
              "-np", 2),
        _step("report", "-m", model, "-p", final, "--references", raw / "labelsTs", "--images", raw / "imagesTs",
              "--posterior", raw / "posterior", "-o", folder / "report.html"),
    ]


def demo_model_folder(folder: Path, dimension: int) -> Path:
    """Where the trained folds of the demonstration lie."""
    variant = VARIANTS[dimension]
    return (folder / "nnUNet_results" / f"Dataset{variant.dataset_id}_Phantoms"
            / f"nnUNetTrainerMedSegDiff__MedSegDiffPlans__{variant.configuration}")


def _step(command: str, *arguments) -> CommandLine:
    return CommandLine(f"medsegdiff_{command}", tuple(map(str, arguments)))


def _demo(args) -> int:
    folder = Path(args.o).expanduser().absolute()
    _set_folders(folder)
    start_s = time.monotonic()
    steps = demo_steps(folder, args.dimension, args.iterations, args.cases, args.test_cases, args.device, args.seed)
    for number, step in enumerate(steps, start=1):
        print(f"\n[{number}/{len(steps)}, {(time.monotonic() - start_s) / 60:.1f} min] $ {step}", flush=True)
        code = step.execute()
        if code != 0:
            print(f"error: the demonstration ends here, because {step.program} returned {code}.", file=sys.stderr)
            return code
    print(f"\nDone in {(time.monotonic() - start_s) / 60:.1f} minutes.")
    return _conclude(folder, args.dimension)


def _set_folders(folder: Path) -> None:
    """Makes nnU-Net's three folders in a new ``folder`` and points the environment at them."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError("The demonstration starts in an empty folder.", found=f"{folder} exists and is not empty",
                        expected="a new or empty folder",
                        fix="give another folder with -o, or remove that one yourself")
    subfolders = {name: folder / name for name in paths.FOLDER_CONTENTS}
    try:
        for subfolder in subfolders.values():
            subfolder.mkdir(parents=True)
    except OSError as error:
        raise UserError("The folder of the demonstration cannot be created.", found=f"{type(error).__name__}: {error}",
                        expected="a folder that can be written", fix="give another folder with -o") from error
    paths.use_folders(*subfolders.values())


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
