"""``medsegdiff_calibrate``: makes the samples as far from each other as from the reference, on cases that a fold has
not seen.
"""

from __future__ import annotations

from medsegdiff_auto.cli.command import CommandParser, run
from medsegdiff_auto.cli.model_flags import ModelPlace, add_model_flags, add_sampling_flags, place_of
from medsegdiff_auto.numeric_flags import COUNT, SEVERAL
from medsegdiff_auto.run_record import command_line, write_run

RUN_RECORD = "sampling_run.json"


def main(argv=None) -> int:
    parser = CommandParser(
        prog="medsegdiff_calibrate",
        description="Fits how far samples are drawn apart, the plain network's weight in the fused mask, the "
        "temperature of its probabilities, the margin with which volume intervals hold 90 % of the references, and how "
        "good a mask is expected to be, on the validation cases of folds. Predictions with the model then use all of "
        "it.")
    add_model_flags(parser, [0], "each fold's network is judged on its own validation cases (default: 0)")
    add_sampling_flags(parser, counts=SEVERAL)
    parser.add_argument("--cases", type=COUNT, metavar="N", help="only the first N validation cases of each fold")
    args = parser.parse_args(argv)
    return run(_calibrate, args, command_line("medsegdiff_calibrate", argv))


def _calibrate(args, command: list[str]) -> None:
    place = place_of(args)
    with place.held_for("calibrated"):
        file = _fit(place, args).write(place.folder)
        write_run(place.folder, command, file=RUN_RECORD)
    print(f"Written: {file}")


def _fit(place: ModelPlace, args):
    from medsegdiff_auto.inference.options import SamplingOptions
    from medsegdiff_auto.selection.cross_fitting import fit_on, fold_cases

    options = SamplingOptions(args.samples, args.steps, seed=args.seed)
    folds = [fold_cases(place.folder, place.preprocessed, fold, options, place.device, args.chk, args.cases)
             for fold in args.f]
    print("| dispersion | Dice between samples | Dice sample-reference | gap |\n|---|---|---|---|")
    stored, fit = fit_on(folds, lambda tau, found: print(
        f"| {tau:.3f} | {found.between_samples:.4f} | {found.sample_reference:.4f} | {found.gap:+.4f} |", flush=True))
    print("\n| weight of the plain network | Dice of the fused mask | negative log-likelihood at the best temperature "
          "|\n|---|---|---|")
    print("\n".join(f"| {weight:g} | {fused.dice:.4f} | {fused.nll:.4f} |" for weight, fused in fit.of_weights.items()))
    planned = folds[0].model.diffusion.sampling.conditioner_weight
    if fit.weight == planned:
        print(f"\nThe planned weight {planned:g} stays: these cases do not resolve that another gives better masks.")
    print(f"\nTemperature of the probabilities {fit.temperature:.2f}: " + (
        f"negative log-likelihood {fit.nll['as drawn']:.4f} as drawn, {fit.nll['unseen']:.4f} by a temperature fitted "
        "on the other half "
        "of the cases." if fit.nll else "at least 2 cases with a structure are needed to fit it."))
    for name, of_structure in fit.margins.items():
        print(f"Size of {name}: the samples' 5 to 95 % interval and {of_structure[-1]:+.1%} of its median on either "
              "side hold 90 %.")
    if not fit.margins:
        print("Too few cases for volume intervals that hold 90 %: at least 9 with the structure are needed.")
    print(_quality(fit.quality))
    print(f"\nChosen on {stored.num_cases} cases: dispersion {fit.dispersion:.3f}, weight {fit.weight:g}, temperature "
          f"{fit.temperature:.2f}.")
    return stored


def _quality(quality) -> str:
    if quality is None:
        return ("Expected Dice: these cases do not tell more than the samples do (at least 10 cases with a structure "
                "are needed); predictions give the samples', which is no estimate of how good a mask is.")
    bound = "" if quality.margin != quality.margin else f"; 90 % lie above it less {quality.margin:.3f}"
    return (f"Expected Dice, fitted on {quality.num_cases} cases: off by {quality.error:.3f} on cases left out of the "
            f"fit (the samples' by {quality.error_of_samples:.3f}), correlation with the real one "
            f"{quality.correlation:.2f}{bound}.")
