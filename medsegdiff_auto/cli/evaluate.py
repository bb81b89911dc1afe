"""``medsegdiff_evaluate``: predictions against references."""

import os
from pathlib import Path

from medsegdiff_auto.cli.command import CommandParser, run
from medsegdiff_auto.numeric_flags import POSITIVE, WORKERS
from medsegdiff_auto.cores import num_cores
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.tables import SCORES


def main(argv=None) -> int:
    parser = CommandParser(prog="medsegdiff_evaluate",
                           description="Scores a prediction folder: nnU-Net's summary.json, and metrics.csv beside it "
                                       f"with these scores: {', '.join(SCORES.names()).replace('_', ' ')}.")
    parser.add_argument("reference_folder", help="folder of reference label maps")
    parser.add_argument("prediction_folder", help="folder of predictions")
    parser.add_argument("-djfile", required=True, metavar="FILE", help="dataset.json")
    parser.add_argument("-pfile", required=True, metavar="FILE", help="plans.json")
    parser.add_argument("-o", metavar="FILE", help="summary to write (default: summary.json in the prediction folder)")
    parser.add_argument("-np", type=WORKERS, default=num_cores(), metavar="N", help="processes (default: all cores)")
    parser.add_argument("--tolerance_mm", type=POSITIVE, default=1.0, metavar="MM",
                        help="of the normalised surface Dice; pixels for formats without spacing (default: 1)")
    parser.add_argument("--raters", nargs="+", default=(), metavar="FOLDER",
                        help="folders of further references of the same cases, one per rater, for the energy distance")
    parser.add_argument("--chill", action="store_true", help="accept references that have no prediction")
    args = parser.parse_args(argv)
    return run(_evaluate, args)


def _evaluate(args) -> None:
    for flag, path in (("-djfile", args.djfile), ("-pfile", args.pfile)):
        if not Path(path).is_file():
            raise UserError(f"The file given with {flag} does not exist.", found=path, expected="a JSON file",
                            fix=f"correct {flag}; both files lie in the model folder")
    for folder in args.raters:
        if not Path(folder).is_dir():
            raise UserError("A folder given with --raters does not exist.", found=folder,
                            expected="a folder of label maps named as the references", fix="correct --raters")
    if args.o is not None and not args.o.endswith(".json"):
        raise UserError("The summary is a JSON file.", found=args.o, expected="a name that ends in .json",
                        fix="correct -o")
    os.environ.setdefault("nnUNet_def_n_proc", str(args.np))
    from medsegdiff_auto.evaluation.folder import evaluate_folder

    output = Path(args.o) if args.o else Path(args.prediction_folder) / "summary.json"
    if output.parent != Path(args.prediction_folder):
        output.parent.mkdir(parents=True, exist_ok=True)
    result = evaluate_folder(args.reference_folder, args.prediction_folder, args.djfile, args.pfile, output, args.np,
                             tolerance_mm=args.tolerance_mm, chill=args.chill, rater_folders=args.raters)
    print(means_table(result["header"]["mean"]))
    print(f"Mean foreground Dice: {result['summary']['foreground_mean']['Dice']:.4f}")
    print(f"Written: {output}, metrics.csv and metrics.json beside it")


def means_table(means: dict[str, dict[str, float | None]]) -> str:
    """The means over the cases as text: one line per structure, of the printed scores those that were measured."""
    from medsegdiff_auto.evaluation.score import columns

    printed = [column.name for column in columns() if column.is_printed]
    metrics = [metric for metric in printed if any(row.get(metric) is not None for row in means.values())]
    rows = [["structure", *metrics]]
    for structure, row in means.items():
        rows.append([structure, *("-" if row.get(metric) is None else f"{row[metric]:.4f}" for metric in metrics)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))])
        for row in rows)
