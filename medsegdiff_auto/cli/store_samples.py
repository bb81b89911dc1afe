"""``medsegdiff_store_samples``: samples of the validation cases, once, for a choice of steps, samples and fusion without a network."""

from __future__ import annotations

import os
from pathlib import Path

from medsegdiff_auto import paths
from medsegdiff_auto.cli.command import CommandParser, require_at_least, run
from medsegdiff_auto.cores import compute_on_cpu, num_cores

CHECKPOINT = "checkpoint_final.pth"


def main(argv=None) -> int:
    """Entry point of ``medsegdiff_store_samples``."""
    parser = CommandParser(prog="medsegdiff_store_samples",
                           description="Draws samples of each fold's validation cases at several numbers of steps and keeps "
                                       "them. medsegdiff_find_best_configuration then chooses steps, samples, fusion, temperature "
                                       "and postprocessing from them. Run it after medsegdiff_calibrate; cases that are there "
                                       "already are left out.")
    parser.add_argument("-d", required=True, metavar="DATASET", help="dataset ID or name")
    parser.add_argument("-c", required=True, metavar="CONFIGURATION", help="2d, 3d_fullres or 3d_lowres")
    parser.add_argument("-f", type=int, nargs="+", default=[0, 1, 2, 3, 4], metavar="FOLD", help="default: 0 1 2 3 4")
    parser.add_argument("-p", default=paths.OUR_PLANS, metavar="PLANS", help="name of the plans (default: MedSegDiffPlans)")
    parser.add_argument("-tr", default=paths.OUR_TRAINER, metavar="TRAINER", help="default: nnUNetTrainerMedSegDiff")
    parser.add_argument("--samples", type=int, metavar="K", help="samples per case; 1 to K are compared (default: the plan's)")
    parser.add_argument("--steps", type=int, nargs="+", metavar="S", help="network evaluations per sample (default: the plan's)")
    parser.add_argument("--seed", type=int, default=0, help="of the noise (default: 0)")
    parser.add_argument("-device", default="cuda", choices=("cuda", "cpu", "mps"), help="default: cuda")
    parser.add_argument("-preprocessed", metavar="FOLDER", help="overrides nnUNet_preprocessed")
    parser.add_argument("-results", metavar="FOLDER", help="overrides nnUNet_results")
    return run(_store, parser.parse_args(argv))


def _store(args) -> None:
    for num_steps in args.steps or [None]:
        require_at_least(1, samples=args.samples, steps=num_steps)
    paths.use_folders(preprocessed=args.preprocessed, results=args.results)
    preprocessed, folder = paths.preprocessed_folder(args.d), paths.model_folder(args.d, args.c, args.p, args.tr)
    os.environ.setdefault("nnUNet_def_n_proc", str(num_cores()))
    from medsegdiff_auto.training.run import require_device

    device = require_device(args.device)
    if args.device == "cpu":
        compute_on_cpu()
    for fold in args.f:
        for written in _store_fold(folder, fold, preprocessed, device, args):
            print(f"Stored: {written}")


def _store_fold(model_folder: Path, fold: int, preprocessed: Path, device, args):
    from medsegdiff_auto.selection.stored_samples import store_fold
    from medsegdiff_auto.inference.model import load_model
    from medsegdiff_auto.inference.predictor import MedSegDiffPredictor, SamplingOptions

    model = load_model(model_folder, [fold], CHECKPOINT)
    for num_steps in args.steps or [None]:
        predictor = MedSegDiffPredictor(model, SamplingOptions(args.samples, num_steps, seed=args.seed), device)
        yield store_fold(predictor, model, preprocessed, model_folder / f"fold_{fold}" / CHECKPOINT)
