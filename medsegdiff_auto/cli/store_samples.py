"""``medsegdiff_store_samples``: samples of the validation cases, once, for a choice of steps, samples and fusion
without a network.
"""

from __future__ import annotations

from medsegdiff_auto.cli.command import CommandParser, run
from medsegdiff_auto.cli.model_flags import ModelPlace, add_model_flags, place_of
from medsegdiff_auto.numeric_flags import COUNT


def main(argv=None) -> int:
    """Entry point of ``medsegdiff_store_samples``."""
    parser = CommandParser(
        prog="medsegdiff_store_samples",
        description="Draws samples of each fold's validation cases at several numbers of steps and keeps "
        "them. medsegdiff_find_best_configuration then chooses steps, samples, fusion, temperature "
        "and postprocessing from them. Run it after medsegdiff_calibrate; cases that are there "
        "already are left out.")
    add_model_flags(parser, [0, 1, 2, 3, 4], "default: 0 1 2 3 4")
    parser.add_argument("--samples", type=COUNT, metavar="K",
                        help="samples per case; 1 to K are compared (default: the plan's)")
    parser.add_argument("--steps", type=COUNT, nargs="+", metavar="S",
                        help="network evaluations per sample (default: the plan's)")
    parser.add_argument("--seed", type=int, default=0, help="of the noise (default: 0)")
    return run(_store, parser.parse_args(argv))


def _store(args) -> None:
    place = place_of(args)
    with place.held_for("sampled"):
        for fold in args.f:
            for written in _store_fold(place, fold, args):
                print(f"Stored: {written}")


def _store_fold(place: ModelPlace, fold: int, args):
    from medsegdiff_auto.selection.stored_samples import store_fold
    from medsegdiff_auto.inference.model import load_model
    from medsegdiff_auto.inference.predictor import MedSegDiffPredictor, SamplingOptions

    model = load_model(place.folder, [fold], args.chk)
    for num_steps in args.steps or [None]:
        predictor = MedSegDiffPredictor(model, SamplingOptions(args.samples, num_steps, seed=args.seed), place.device)
        yield store_fold(predictor, model, place.preprocessed, place.folder / f"fold_{fold}" / args.chk)
