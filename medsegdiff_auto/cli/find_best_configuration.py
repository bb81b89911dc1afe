"""``medsegdiff_find_best_configuration``: what cross-validation says is best, and how to predict with it."""

import os
import shlex
from pathlib import Path

from medsegdiff_auto import paths
from medsegdiff_auto.cli.command import CommandParser, run
from medsegdiff_auto.numeric_flags import WORKERS
from medsegdiff_auto.cores import num_cores


def main(argv=None) -> int:
    parser = CommandParser(
        prog="medsegdiff_find_best_configuration",
        description="Compares the trained configurations and their ensembles by cross-validation, "
        "determines the postprocessing, and prints the commands that predict with the best. "
        "Where medsegdiff_store_samples has stored samples of the best model, it also chooses "
        "steps, samples, fusion and temperature, without a network.")
    parser.add_argument("dataset", help="dataset ID or name")
    parser.add_argument("-c", nargs="+", metavar="CONFIGURATION",
                        help="configurations (default: all that are trained in all the folds)")
    parser.add_argument("-p", nargs="+", default=["MedSegDiffPlans"], metavar="PLANS", help="default: MedSegDiffPlans")
    parser.add_argument("-tr", nargs="+", default=["nnUNetTrainerMedSegDiff"], metavar="TRAINER",
                        help="default: nnUNetTrainerMedSegDiff")
    parser.add_argument("-f", nargs="+", type=int, default=[0, 1, 2, 3, 4], metavar="FOLD", help="default: 0 1 2 3 4")
    parser.add_argument("--disable_ensembling", action="store_true", help="compare single models only")
    parser.add_argument("--no_overwrite", action="store_true", help="keep what an earlier run has already collected")
    parser.add_argument("-np", type=WORKERS, default=num_cores(), metavar="N", help="processes (default: all cores)")
    parser.add_argument("-preprocessed", metavar="FOLDER", help="overrides nnUNet_preprocessed")
    parser.add_argument("-results", metavar="FOLDER", help="overrides nnUNet_results")
    args = parser.parse_args(argv)
    return run(_find_best, args)


def _find_best(args) -> None:
    paths.use_folders(preprocessed=args.preprocessed, results=args.results)
    preprocessed, results = paths.require_folder("nnUNet_preprocessed"), paths.require_folder("nnUNet_results")
    name = paths.resolve_dataset(args.dataset)
    os.environ.setdefault("nnUNet_def_n_proc", str(args.np))
    # nnU-Net prefers the references in nnUNet_raw and fails if that is unset, though preprocessing has copied them
    os.environ.setdefault("nnUNet_raw", str(preprocessed))
    from medsegdiff_auto.selection.best_configuration import Request, find_best
    from medsegdiff_auto.selection.instructions import inference_commands, write_instructions

    information = find_best(Request(name, args.c, args.p, args.tr, args.f, not args.disable_ensembling, args.np,
                                    not args.no_overwrite), preprocessed, results)
    sampling = _choose_sampling(information, preprocessed / name, results / name)
    instructions = write_instructions(information, results / name, sampling)
    for model, dice in information["all_results"].items():
        print(f"{dice:.4f}  {model}")
    best = information["best_model_or_ensemble"]
    print(f"Best, mean foreground Dice: {best['result_on_crossval_pre_pp']:.4f}, "
          f"after postprocessing {best['result_on_crossval_post_pp']:.4f}")
    print(f"Predict with (also in {instructions}):")
    for command in inference_commands(information, results / name, sampling):
        print(f"  {shlex.join(command)}")


def _choose_sampling(information: dict, preprocessed: Path, dataset_results: Path):
    """What the stored samples of a single best model say, printed; None where there are none."""
    models = information["best_model_or_ensemble"]["selected_model_or_models"]
    if len(models) > 1 or not models[0]["trainer"].startswith(paths.OUR_TRAINER):
        return None
    from medsegdiff_auto.selection.sampling_choice import choose_sampling

    folder = dataset_results / paths.model_name(models[0]["trainer"], models[0]["plans_identifier"],
                                                models[0]["configuration"])
    found = choose_sampling(folder, preprocessed, list(information["folds"]))
    if found is None:
        print("Steps, samples and fusion are as planned or fitted: medsegdiff_store_samples lets them be chosen too.")
        return None
    sampling, selection = found
    print("| steps | samples | fusion | Dice | NLL |\n|---|---|---|---|---|")
    for c, (score, nll) in selection.by_candidate.items():
        print(f"| {c.num_steps} | {c.num_samples} | {c.fusion} | {score:.4f} | {nll:.4f} |")
    choice = selection.choice
    print(f"Chosen: {' '.join(sampling.flags())} and {len(choice.postprocessing)} step(s) of postprocessing, Dice "
          f"{choice.score:.4f} "
          "on the cases that it was chosen on" +
          ("." if selection.held_out_score is
           None else f", {selection.held_out_score:.4f} on folds that had no part in the choice."))
    return sampling
