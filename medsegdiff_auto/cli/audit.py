"""``medsegdiff_audit``: how much a trained model relies on its diffusion."""

from __future__ import annotations

import os
from pathlib import Path

from medsegdiff_auto import paths
from medsegdiff_auto.cli.command import CommandParser, require_at_least, run
from medsegdiff_auto.cores import compute_on_cpu, num_cores
from medsegdiff_auto.run_record import command_line, write_run

TRAINER, TWIN = paths.OUR_TRAINER, f"{paths.OUR_TRAINER}Twin"
HEADINGS = ("Dice", "ECE", "NLL", "Dice between samples", "Dice sample-reference", "Dice to own state")


def main(argv=None) -> int:
    parser = CommandParser(prog="medsegdiff_audit",
                           description="Shows on a fold's validation cases what scores and masks owe to the noisy state: with another "
                                       "sample's state, with fresh noise at every step, and beside the no-diffusion twin "
                                       f"(trained by medsegdiff_train -tr {TWIN}). Dice to own state: of each mask with that of "
                                       "the same sample under its own state; 1 where the state decides nothing.")
    parser.add_argument("-d", required=True, metavar="DATASET", help="dataset ID or name")
    parser.add_argument("-c", required=True, metavar="CONFIGURATION", help="2d, 3d_fullres or 3d_lowres")
    parser.add_argument("-f", type=int, default=0, metavar="FOLD", help="default: 0")
    parser.add_argument("-p", default="MedSegDiffPlans", metavar="PLANS", help="name of the plans (default: MedSegDiffPlans)")
    parser.add_argument("-chk", default="checkpoint_final.pth", metavar="NAME", help="default: checkpoint_final.pth")
    parser.add_argument("--cases", type=int, metavar="N", help="only the first N validation cases")
    parser.add_argument("--samples", type=int, metavar="K", help="samples per case (default: the plan's)")
    parser.add_argument("--steps", type=int, metavar="S", help="network evaluations per sample (default: the plan's)")
    parser.add_argument("--seed", type=int, default=0, help="of the noise (default: 0)")
    parser.add_argument("-device", default="cuda", choices=("cuda", "cpu", "mps"), help="default: cuda")
    parser.add_argument("-preprocessed", metavar="FOLDER", help="overrides nnUNet_preprocessed")
    parser.add_argument("-results", metavar="FOLDER", help="overrides nnUNet_results")
    args = parser.parse_args(argv)
    return run(_audit, args, command_line("medsegdiff_audit", argv))


def _audit(args, command: list[str]) -> None:
    require_at_least(1, cases=args.cases, samples=args.samples, steps=args.steps)
    paths.use_folders(preprocessed=args.preprocessed, results=args.results)
    preprocessed = paths.preprocessed_folder(args.d)
    folders = {trainer: paths.model_folder(args.d, args.c, args.p, trainer) for trainer in (TRAINER, TWIN)}
    os.environ.setdefault("nnUNet_def_n_proc", str(num_cores()))
    from medsegdiff_auto.evaluation.audit import audit_states, summary
    from medsegdiff_auto.evaluation.metrics_table import write_rows

    rows = _with_model(audit_states, folders[TRAINER], preprocessed, args)
    if (folders[TWIN] / f"fold_{args.f}" / args.chk).is_file():
        of_twin = _with_model(audit_states, folders[TWIN], preprocessed, args)
        rows += [row | {"state": "no-diffusion twin"} for row in of_twin if row["state"] == "its own state"]
    target = folders[TRAINER] / f"fold_{args.f}" / "audit"
    target.mkdir(exist_ok=True)
    write_rows(rows, target / "audit.csv")
    table = audit_table(summary(rows))
    (target / "audit.md").write_text(table + "\n", encoding="utf-8")
    write_run(target, command)
    print(table)
    if not any(row["state"] == "no-diffusion twin" for row in rows):
        print(f"The twin is not trained: medsegdiff_train {args.d} {args.c} {args.f} -p {args.p} -tr {TWIN}")
    print(f"Written: {target}")


def _with_model(audit_states, folder: Path, preprocessed: Path, args) -> list[dict]:
    from medsegdiff_auto.inference.model import load_model
    from medsegdiff_auto.inference.predictor import MedSegDiffPredictor, SamplingOptions
    from medsegdiff_auto.training.run import require_device

    device = require_device(args.device)
    if args.device == "cpu":
        compute_on_cpu()
    model = load_model(folder, [args.f], args.chk)
    options = SamplingOptions(args.samples, args.steps, num_mirrors=1, seed=args.seed)
    return audit_states(MedSegDiffPredictor(model, options, device), model, preprocessed, args.f, args.cases, args.seed)


def audit_table(summary: dict[str, dict[str, float]]) -> str:
    """The means as a Markdown table."""
    lines = [f"| the denoiser sees | {' | '.join(HEADINGS)} |", "|" + "---|" * (len(HEADINGS) + 1)]
    lines += [f"| {state} | {' | '.join(f'{value:.4f}' for value in row.values())} |" for state, row in summary.items()]
    return "\n".join(lines)
