"""``medsegdiff_report``: one offline HTML file about a model and its predictions."""

from pathlib import Path

from medsegdiff_auto.cli.command import CommandParser, run
from medsegdiff_auto.run_record import command_line


def main(argv=None) -> int:
    """Entry point of ``medsegdiff_report``."""
    parser = CommandParser(
        prog="medsegdiff_report", description="Write one offline HTML file about a trained model and, "
        "with -p, about predictions: scores, pictures, calibration.")
    model = parser.add_argument_group("the model: either -m, or -d and -c")
    model.add_argument("-m", metavar="FOLDER", type=Path,
                       help="model folder, .../DatasetXXX_Name/Trainer__Plans__CONFIGURATION")
    model.add_argument("-d", metavar="DATASET", help="dataset ID or name, looked up in nnUNet_results")
    model.add_argument("-c", metavar="CONFIGURATION", help="configuration, such as 3d_fullres")
    model.add_argument("-tr", metavar="TRAINER", default="nnUNetTrainerMedSegDiff",
                       help="trainer (default: %(default)s)")
    model.add_argument("-plans", metavar="PLANS", default="MedSegDiffPlans",
                       help="plans identifier (default: %(default)s)")
    parser.add_argument("-p", metavar="FOLDER", type=Path, help="predictions, as medsegdiff_predict writes them")
    parser.add_argument("--references", metavar="FOLDER", type=Path, help="reference label maps of the predicted cases")
    parser.add_argument("--images", metavar="FOLDER", type=Path, help="images of the predicted cases (CASE_0000...)")
    parser.add_argument("--posterior", metavar="FOLDER", type=Path,
                        help="known posteriors CASE.npz, which phantoms have")
    parser.add_argument("--viewer", choices=("full", "few", "none"), default="full",
                        help="cases to scroll through in the page: all within 64 MB, 8 within 16 MB, or none; the page "
                        "names those left out (default: %(default)s)")
    parser.add_argument("-o", metavar="FILE", type=Path,
                        help="the report (default: report.html in the folder of -p, or else of the model)")
    return run(_report, parser.parse_args(argv), command_line(parser.prog, argv))


def _report(args, command: list[str]) -> None:
    import shlex

    from medsegdiff_auto.reporting.report import write_report

    model_folder = _model_folder(args)
    output = args.o or (args.p or model_folder) / "report.html"
    write_report(output, model_folder, args.p, args.references, args.images, args.posterior,
                 commands=[shlex.join(command)], viewer_size=args.viewer)


def _model_folder(args) -> Path:
    from medsegdiff_auto.errors import UserError
    from medsegdiff_auto.paths import model_folder

    if (args.m is None) == (args.d is None or args.c is None):
        raise UserError("The model is not named.",
                        found="neither -m nor both of -d and -c" if args.m is None else "-m together with -d and -c",
                        expected="-m FOLDER, or -d DATASET -c CONFIGURATION",
                        fix="name the model in one of the two ways")
    if args.m is not None:
        return args.m
    folder = model_folder(args.d, args.c, args.plans, args.tr)
    if not folder.is_dir():
        known = sorted(path.name for path in folder.parent.glob("*__*__*"))
        raise UserError("The model does not exist.", found=str(folder),
                        expected=f"one of {', '.join(known)}" if known else "a trained model",
                        fix=f"train it: medsegdiff_train {args.d} {args.c} FOLD, or correct -c, -tr or -plans")
    return folder
