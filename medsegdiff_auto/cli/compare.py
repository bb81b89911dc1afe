"""``medsegdiff_compare``: the predictions of several methods against one folder of references."""

from pathlib import Path

from medsegdiff_auto.cli.command import CommandParser, run
from medsegdiff_auto.cores import num_cores
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.numeric_flags import POSITIVE, WORKERS
from medsegdiff_auto.run_record import command_line, write_run


def main(argv=None) -> int:
    """Entry point of ``medsegdiff_compare``."""
    parser = CommandParser(
        prog="medsegdiff_compare",
        description="Compares prediction folders, of this project or of nnU-Net, on the same cases: comparison.csv, "
        "summary.json and report.html with scores, paired statistics, ranks, calibration and quality estimates. "
        "Probabilities, samples and cases.csv are judged where they lie beside the label maps.")
    parser.add_argument("methods", nargs="+", metavar="METHOD=FOLDER", help="the first is the one that is asked about")
    parser.add_argument("-ref", required=True, metavar="FOLDER", type=Path, help="reference label maps")
    parser.add_argument("-o", required=True, metavar="FOLDER", type=Path, help="where the three files go")
    parser.add_argument("--reference", metavar="METHOD",
                        help="the method that the others are compared with (default: the second)")
    parser.add_argument("-djfile", metavar="FILE", type=Path,
                        help="dataset.json (default: of a prediction folder, or beside the reference folder)")
    parser.add_argument("--preprocessed", metavar="FOLDER", type=Path,
                        help="nnUNet_preprocessed/DATASET: its folds tell which cases are of one patient")
    parser.add_argument("--patients", metavar="FILE", type=Path, help='JSON with {"CASE": "patient", ...}')
    parser.add_argument("--raters", nargs="+", default=(), metavar="FOLDER", type=Path,
                        help="folders of further references of the same cases, one per rater, for the energy distance")
    parser.add_argument("--tolerance_mm", type=POSITIVE, default=1.0, metavar="MM",
                        help="of the normalised surface Dice; pixels for formats without spacing (default: 1)")
    parser.add_argument("--shared", action="store_true", help="compare the cases that all folders hold, and no others")
    parser.add_argument("-np", type=WORKERS, default=num_cores(), metavar="N", help="processes (default: all cores)")
    args = parser.parse_args(argv)
    return run(_compare, args, command_line(parser.prog, argv))


def _compare(args, command: list[str]) -> None:
    named = _folders_by_method(args.methods)
    for flag, folder in [("--preprocessed", args.preprocessed), *(("--raters", folder) for folder in args.raters)]:
        if folder is not None and not folder.is_dir():
            raise UserError(f"The folder given with {flag} does not exist.", found=str(folder),
                            expected="an existing folder", fix=f"correct {flag}")
    from medsegdiff_auto.comparison.folder import PAGE, SUMMARY, TABLE, compare_methods
    from medsegdiff_auto.comparison.methods import Methods
    from medsegdiff_auto.comparison.task import dataset_of

    methods = Methods(named, args.reference or list(named)[min(1, len(named) - 1)])
    dataset_json, task = dataset_of(methods, args.ref, args.djfile)
    summary = compare_methods(methods, args.o, args.ref, dataset_json, task=task,
                              preprocessed_folder=args.preprocessed, patients_file=args.patients,
                              rater_folders=args.raters, num_processes=args.np, tolerance_mm=args.tolerance_mm,
                              shared_only=args.shared)
    write_run(args.o, command)
    for one in summary["targets"]:
        print(f"{one['answer']:<13} {one['target']} (against {one['against']})")
    print(f"Written: {args.o / PAGE}, {TABLE} and {SUMMARY} beside it")


def _folders_by_method(texts: list[str]) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for text in texts:
        name, sign, folder = text.partition("=")
        if not (name and sign and folder):
            raise UserError("A method is given as METHOD=FOLDER.", found=text, expected="such as nnunet=predictions",
                            fix="name the method and its folder")
        if name in named:
            raise UserError(f"The method {name} is given twice.", found=f"{named[name]} and {folder}",
                            expected="one folder for each method", fix="rename one of the two")
        named[name] = Path(folder)
    return named
