"""``medsegdiff_calibrate``: makes the samples as far from each other as from the reference, on cases that a fold has not seen."""

from __future__ import annotations

import os
from pathlib import Path

from medsegdiff_auto import paths
from medsegdiff_auto.cli.command import CommandParser, require_at_least, run
from medsegdiff_auto.cores import compute_on_cpu, num_cores
from medsegdiff_auto.run_record import command_line, write_run

RUN_RECORD = "sampling_run.json"


def main(argv=None) -> int:
    parser = CommandParser(prog="medsegdiff_calibrate",
                           description="Fits how far samples are drawn apart, the plain network's weight in the fused mask, the "
                                       "temperature of its probabilities, and the margin with which volume intervals hold 90 % of "
                                       "the references, on the validation cases of folds. Predictions with the model then use all "
                                       "four.")
    parser.add_argument("-d", required=True, metavar="DATASET", help="dataset ID or name")
    parser.add_argument("-c", required=True, metavar="CONFIGURATION", help="2d, 3d_fullres or 3d_lowres")
    parser.add_argument("-f", type=int, nargs="+", default=[0], metavar="FOLD",
                        help="each fold's network is judged on its own validation cases (default: 0)")
    parser.add_argument("-p", default="MedSegDiffPlans", metavar="PLANS", help="name of the plans (default: MedSegDiffPlans)")
    parser.add_argument("-tr", default="nnUNetTrainerMedSegDiff", metavar="TRAINER", help="default: nnUNetTrainerMedSegDiff")
    parser.add_argument("-chk", default="checkpoint_final.pth", metavar="NAME", help="default: checkpoint_final.pth")
    parser.add_argument("--cases", type=int, metavar="N", help="only the first N validation cases of each fold")
    parser.add_argument("--samples", type=int, metavar="K", help="samples per case (default: the plan's)")
    parser.add_argument("--steps", type=int, metavar="S", help="network evaluations per sample (default: the plan's)")
    parser.add_argument("--seed", type=int, default=0, help="of the noise (default: 0)")
    parser.add_argument("-device", default="cuda", choices=("cuda", "cpu", "mps"), help="default: cuda")
    parser.add_argument("-preprocessed", metavar="FOLDER", help="overrides nnUNet_preprocessed")
    parser.add_argument("-results", metavar="FOLDER", help="overrides nnUNet_results")
    args = parser.parse_args(argv)
    return run(_calibrate, args, command_line("medsegdiff_calibrate", argv))


def _calibrate(args, command: list[str]) -> None:
    require_at_least(1, cases=args.cases)
    require_at_least(2, samples=args.samples, steps=args.steps)
    paths.use_folders(preprocessed=args.preprocessed, results=args.results)
    preprocessed, folder = paths.preprocessed_folder(args.d), paths.model_folder(args.d, args.c, args.p, args.tr)
    os.environ.setdefault("nnUNet_def_n_proc", str(num_cores()))
    fitted = _fit(folder, preprocessed, args)
    file = fitted.write(folder)
    write_run(folder, command, file=RUN_RECORD)
    print(f"Written: {file}")


def _fit(folder: Path, preprocessed: Path, args):
    from medsegdiff_auto.evaluation.audit import validation_cases
    from medsegdiff_auto.selection.dispersion import FoldCases, fit_sampling
    from medsegdiff_auto.decision.fitted_sampling import FittedSampling
    from medsegdiff_auto.inference.model import load_model
    from medsegdiff_auto.inference.predictor import MedSegDiffPredictor, SamplingOptions
    from medsegdiff_auto.training.run import require_device

    device = require_device(args.device)
    if args.device == "cpu":
        compute_on_cpu()
    folds = []
    for fold in args.f:
        model = load_model(folder, [fold], args.chk, use_fitted=False)
        predictor = MedSegDiffPredictor(model, SamplingOptions(args.samples, args.steps, seed=args.seed), device)
        folds.append(FoldCases(predictor, model, list(validation_cases(model, preprocessed, fold))[:args.cases]))
    num_cases = sum(len(fold.cases) for fold in folds)
    print("| dispersion | Dice between samples | Dice sample-reference | gap |\n|---|---|---|---|")
    fit = fit_sampling(folds, lambda tau, found: print(
        f"| {tau:.3f} | {found.between_samples:.4f} | {found.sample_reference:.4f} | {found.gap:+.4f} |", flush=True))
    print("\n| weight of the plain network | Dice of the fused mask | negative log-likelihood at the best temperature |\n|---|---|---|")
    print("\n".join(f"| {weight:g} | {fused.dice:.4f} | {fused.nll:.4f} |" for weight, fused in fit.of_weights.items()))
    print(f"\nTemperature of the probabilities {fit.temperature:.2f}: " + (
        f"negative log-likelihood {fit.nll['as drawn']:.4f} as drawn, {fit.nll['unseen']:.4f} by a temperature fitted on the other half "
        "of the cases." if fit.nll else "at least 2 cases with a structure are needed to fit it."))
    for name, of_structure in fit.margins.items():
        print(f"Size of {name}: the samples' 5 to 95 % interval and {of_structure[-1]:+.1%} of its median on either side hold 90 %.")
    if not fit.margins:
        print("Too few cases for volume intervals that hold 90 %: at least 9 with the structure are needed.")
    print(f"\nChosen on {num_cases} cases: dispersion {fit.dispersion:.3f}, weight {fit.weight:g}, temperature {fit.temperature:.2f}.")
    at_best = fit.tried[fit.dispersion]
    return FittedSampling(fit.dispersion, fit.weight, predictor.num_samples, args.steps or model.diffusion.sampling.num_steps, num_cases,
                          at_best.between_samples, at_best.sample_reference, fit.margins, fit.temperature)
