"""``medsegdiff_audit``: how much a trained model relies on its diffusion."""

from __future__ import annotations

import math

from medsegdiff_auto import paths
from medsegdiff_auto.cli.command import CommandParser, run
from medsegdiff_auto.cli.model_flags import ModelPlace, add_model_flags, add_sampling_flags, place_of
from medsegdiff_auto.numeric_flags import COUNT
from medsegdiff_auto.run_record import command_line, write_run
from medsegdiff_auto.writing import write_text

TWIN = f"{paths.OUR_TRAINER}Twin"
PROPER_HEADINGS = ("energy score", "CRPS of sizes", "GED²")
HEADINGS = ("Dice", "ECE", "NLL", "Dice between samples", "Dice sample-reference", *PROPER_HEADINGS, "Dice to own")


def main(argv=None) -> int:
    parser = CommandParser(
        prog="medsegdiff_audit",
        description="Shows on a fold's validation cases what scores and masks owe to the noisy state and the latent "
        "noise: with another sample's, with fresh or none, with one for all, and beside the no-diffusion twin "
        f"(trained by medsegdiff_train -tr {TWIN}). Dice to own: of each mask with that of the "
        "same sample under its own state and noise; 1 where these decide nothing.")
    add_model_flags(parser, 0, "default: 0")
    add_sampling_flags(parser)
    parser.add_argument("--cases", type=COUNT, metavar="N", help="only the first N validation cases")
    args = parser.parse_args(argv)
    return run(_audit, args, command_line("medsegdiff_audit", argv))


def _audit(args, command: list[str]) -> None:
    place, of_twins = place_of(args), paths.model_folder(args.d, args.c, args.p, TWIN)
    from medsegdiff_auto.evaluation.audit import NO_DIFFUSION, OWN, audit_states, differences, summary
    from medsegdiff_auto.evaluation.metrics_table import write_rows

    rows = _with_model(audit_states, place, args, args.steps)
    if (of_twins / f"fold_{args.f}" / args.chk).is_file():
        of_twin = _with_model(audit_states, place._replace(folder=of_twins), args, num_steps=None)  # it has one
        rows += [row | {"shown": NO_DIFFUSION} for row in of_twin if row["shown"] == OWN]
    target = place.folder / f"fold_{args.f}" / "audit"
    target.mkdir(exist_ok=True)
    write_rows(rows, target / "audit.csv")
    table = audit_table(summary(rows), differences(rows))
    write_text(table + "\n", target / "audit.md")
    write_run(target, command)
    print(table)
    if not any(row["shown"] == NO_DIFFUSION for row in rows):
        print(f"The twin is not trained: medsegdiff_train {args.d} {args.c} {args.f} -p {args.p} -tr {TWIN}")
    print(f"Written: {target}")


def _with_model(audit_states, place: ModelPlace, args, num_steps: int | None) -> list[dict]:
    from medsegdiff_auto.inference.model import load_model
    from medsegdiff_auto.inference.predictor import MedSegDiffPredictor, SamplingOptions

    model = load_model(place.folder, [args.f], args.chk)
    options = SamplingOptions(args.samples, num_steps, num_mirrors=1, seed=args.seed)
    predictor = MedSegDiffPredictor(model, options, place.device)
    return audit_states(predictor, model, place.preprocessed, args.f, args.cases, args.seed)


def audit_table(summary: dict[str, dict[str, float]], differences: dict) -> str:
    """The means as a Markdown table, and below it what every row loses against the first one, paired by case."""
    lines = [f"| the denoiser sees | {' | '.join(HEADINGS)} |", "|" + "---|" * (len(HEADINGS) + 1)]
    lines += [f"| {shown} | {' | '.join(_number(value) for value in row.values())} |"
              for shown, row in summary.items()]
    for shown, of_row in differences.items():
        lost = [f"{heading} {one.mean_difference:+.4f} ({one.low:+.4f} to {one.high:+.4f})"
                for heading, one in zip(PROPER_HEADINGS, of_row.values()) if one.num_cases]
        lines.append(f"\n{shown}, minus the first row (95 %): {', '.join(lost)}.")
    return "\n".join(lines)


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"
