"""``medsegdiff_explain``: a trained model on one real case, as pictures with their equations."""

from __future__ import annotations

from pathlib import Path

from medsegdiff_auto.cli.command import CommandParser, run
from medsegdiff_auto.cli.model_flags import add_model_flags, add_sampling_flags, place_of
from medsegdiff_auto.run_record import command_line, recorded_commands, write_run


def main(argv=None) -> int:
    """Entry point of ``medsegdiff_explain``."""
    parser = CommandParser(
        prog="medsegdiff_explain",
        description="Draws from a trained model and a validation case the noise schedule, the "
        "forward and the reverse process, the learned filters, where the fusion attends, "
        "and the samples: one offline HTML page.")
    add_model_flags(parser, 0, "default: 0")
    add_sampling_flags(parser, samples=4)
    parser.add_argument("--case", metavar="NAME", help="a validation case of the fold (default: the first)")
    parser.add_argument("-o", type=Path, metavar="FOLDER",
                        help="output folder (default: fold_K/explained/CASE of the model)")
    args = parser.parse_args(argv)
    return run(_explain, args, command_line(parser.prog, argv))


def _explain(args, command: list[str]) -> None:
    import shlex

    folder, preprocessed, device = place_of(args)
    from medsegdiff_auto.explanation.case import read_tile
    from medsegdiff_auto.explanation.page import PAGE_FILE, facts_of, sections_of, write_page
    from medsegdiff_auto.explanation.record import draw
    from medsegdiff_auto.inference.model import load_model
    from medsegdiff_auto.inference.predictor import MedSegDiffPredictor, SamplingOptions

    model = load_model(folder, [args.f], args.chk)
    tile = read_tile(model, preprocessed, args.f, args.case, args.samples, args.seed)
    options = SamplingOptions(args.samples, args.steps, num_mirrors=1, seed=args.seed)
    predictor = MedSegDiffPredictor(model, options, device)
    predictor.network.load_state_dict(model.fold_weights[0])
    drawing = draw(predictor, tile)
    facts = facts_of(model, tile, args.chk, args.steps or model.diffusion.sampling.num_steps, args.seed,
                     shlex.join(command))
    target = args.o or folder / f"fold_{args.f}" / "explained" / tile.case
    write_page(target, facts, sections_of(facts, predictor.network, tile, drawing))
    write_run(target, command, recorded_commands(folder / f"fold_{args.f}"), case=tile.case)
    print(f"Written: {target / PAGE_FILE}")
