"""``medsegdiff_predict``: a folder of images to masks with uncertainty."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from medsegdiff_auto import paths
from medsegdiff_auto.cli.command import CommandParser, run
from medsegdiff_auto.cli.model_flags import add_device_flag
from medsegdiff_auto.numeric_flags import COUNT, POSITIVE, SHARE, STEP_SIZE
from medsegdiff_auto.cores import compute_on_cpu, num_cores
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.files.viewer_library import LIBRARY_OF
from medsegdiff_auto.inference.options import SPEEDS
from medsegdiff_auto.locks import alone_in
from medsegdiff_auto.run_record import command_line
from medsegdiff_auto.tables import DECODERS, SOLVERS

EXIT_LEFT_OUT = 1


def main(argv=None) -> int:
    return run(_predict, command_parser().parse_args(argv), command_line("medsegdiff_predict", argv))


def command_parser() -> CommandParser:
    """The flags of ``medsegdiff_predict``."""
    parser = CommandParser(prog="medsegdiff_predict",
                           description="Segments a folder of images: folds x mirrors x samples, fused into one mask.")
    parser.add_argument("-i", required=True, metavar="FOLDER",
                        help="images, named CASE_0000.ENDING as for training; or one DICOM series, or a folder of "
                        "folders with one each")
    parser.add_argument("-o", required=True, metavar="FOLDER", help="where the predictions go")
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("-d", metavar="DATASET", help="dataset ID or name")
    model.add_argument("-m", metavar="FOLDER", help="model folder, or file of medsegdiff_export, instead of -d -c -p: "
                       "needs no environment variable")
    parser.add_argument("-c", metavar="CONFIGURATION", help="2d, 3d_fullres, 3d_lowres or 3d_cascade_fullres; with -d")
    parser.add_argument("-p", default="MedSegDiffPlans", metavar="PLANS",
                        help="name of the plans (default: MedSegDiffPlans)")
    parser.add_argument("-tr", default="nnUNetTrainerMedSegDiff", metavar="TRAINER",
                        help="trainer of the model (default: nnUNetTrainerMedSegDiff)")
    parser.add_argument("-f", nargs="+", metavar="FOLD", help="folds (default: all that are trained)")
    parser.add_argument("-chk", default="checkpoint_final.pth", metavar="NAME", help="default: checkpoint_final.pth")
    parser.add_argument("-step_size", type=STEP_SIZE, default=0.5,
                        help="of the sliding window, in patches (default: 0.5)")
    parser.add_argument("-prev_stage_predictions", metavar="FOLDER", help="predictions of 3d_lowres, for the cascade")
    parser.add_argument("-num_parts", type=COUNT, default=1, metavar="N",
                        help="divide the cases among N commands (default: 1)")
    parser.add_argument("-part_id", type=int, default=0, metavar="I",
                        help="which part this command predicts, 0 to N - 1")
    there = parser.add_mutually_exclusive_group()
    there.add_argument("--continue_prediction", action="store_true",
                       help="leave out the cases whose files are all there")
    there.add_argument("--overwrite", action="store_true",
                       help="replace predictions in the output folder that were made otherwise, by another model, fold "
                       "or seed for instance")
    parser.add_argument(
        "--speed", choices=SPEEDS, default="default",
        help="fast: half of the plan's samples and steps, no mirrors; best: twice of both, all mirrors; --samples, "
        "--steps and --mirrors win, and a calibrated model keeps its steps (default: the plan's values)")
    parser.add_argument("--samples", type=COUNT, metavar="K", help="samples per fold (default: the plan's)")
    parser.add_argument("--steps", type=COUNT, metavar="S", help="network evaluations per sample (default: the plan's)")
    parser.add_argument("--mirrors", type=COUNT, metavar="M", help="mirrored views, 1 for none (default: the plan's)")
    parser.add_argument("--solver", choices=SOLVERS.names(), help="default: the plan's")
    parser.add_argument("--fusion", choices=DECODERS.names(),
                        help="how probabilities and samples become one mask (default: the plan's)")
    parser.add_argument(
        "--temperature", type=POSITIVE, metavar="T",
        help="of the fused probabilities, above 1 softens; the labels stay (default: as fitted, else 1)")
    parser.add_argument(
        "--flag_below", type=SHARE, metavar="DICE",
        help="list the structures that are expected to score less, for a person to look at; they are marked in "
        "the column flagged of cases.csv")
    parser.add_argument(
        "--max_memory", type=POSITIVE, metavar="GB",
        help="of the whole process; what does not fit lies on the disk of -o (default: 60 %% of what is free)")
    parser.add_argument("--seed", type=int, default=0, help="of the noise (default: 0)")
    parser.add_argument("--save_uncertainty", action="store_true", help="write CASE_uncertainty.nii.gz")
    parser.add_argument(
        "--save_mutual_information", action="store_true",
        help="write CASE_mutual_information.nii.gz: the part of the doubt on which the samples disagree")
    parser.add_argument("--save_samples", action="store_true", help="write CASE_samples.nii.gz")
    parser.add_argument("--save_probabilities", action="store_true",
                        help="write CASE_probabilities.nii.gz, and CASE.npz for ensembling")
    parser.add_argument(
        "--save_inclusion", action="store_true",
        help="write CASE_inclusion.nii.gz: 95, 50 and 5 where at least so many percent of the samples hold a structure")
    parser.add_argument(
        "--output_format", nargs="+", choices=LIBRARY_OF, default=[], metavar="FORMAT",
        help="beside the label maps: dicom-seg writes CASE.dcm for the PACS, of a DICOM series; seg.nrrd "
        "CASE.seg.nrrd for 3D Slicer; itk-snap labels_itksnap.txt")
    add_device_flag(parser)
    parser.add_argument("-results", metavar="FOLDER", help="overrides nnUNet_results")
    return parser


def _predict(args, command: list[str]) -> int:
    _require_part(args)
    model_folder = _model_folder(args)
    folds = [int(fold) if fold.isdigit() else fold for fold in args.f] if args.f else None
    os.environ.setdefault("nnUNet_def_n_proc", str(num_cores()))
    from medsegdiff_auto.checks.inputs import require_other_folder
    from medsegdiff_auto.inference.dicom_folder import as_images
    from medsegdiff_auto.inference.model import load_model
    from medsegdiff_auto.inference.predictor import MedSegDiffPredictor, SamplingOptions
    from medsegdiff_auto.inference.speed import at_speed
    from medsegdiff_auto.training.run import require_device

    require_other_folder(args.i, args.o)
    device = require_device(args.device)
    model = load_model(model_folder, folds, args.chk)
    if device.type == "cpu":
        compute_on_cpu()
    options = SamplingOptions(args.samples, args.steps, args.mirrors, args.solver, args.fusion, args.seed,
                              max_memory_gb=args.max_memory, temperature=args.temperature)
    predictor = MedSegDiffPredictor(model, at_speed(args.speed, options, model), device, args.step_size)
    with as_images(Path(args.i), model.dataset_json["file_ending"]) as images:
        left_out = _predict_images(args, predictor, images, command)
    if left_out:
        print(f"Left out, see above: {', '.join(left_out)}", file=sys.stderr)
    return EXIT_LEFT_OUT if left_out else 0


def _predict_images(args, predictor, images, command: list[str]) -> list[str]:
    """Checks the images, predicts them, and returns the cases that are left out."""
    from medsegdiff_auto.checks.inputs import check_inputs, require_writable
    from medsegdiff_auto.inference.previous_stage import previous_stage_files
    from medsegdiff_auto.inference.viewer_files import require_viewer_formats

    model = predictor.model
    cases, left_out = check_inputs(images.folder, model.dataset_json, shown=images.shown)
    cases = {case: cases[case] for case in list(cases)[args.part_id::args.num_parts]}
    previous = previous_stage_files(model.configuration_manager, args.prev_stage_predictions, list(cases),
                                    model.dataset_json["file_ending"])
    require_viewer_formats(args.output_format, {case: images.series.get(case) for case in cases}, model.plans_manager)
    with alone_in(require_writable(Path(args.o)), f"Another command predicts into {args.o}", args.part_id,
                  args.num_parts):
        return [*images.left_out, *left_out, *_predict_cases(args, predictor, cases, previous, command, images.series)]


def _predict_cases(args, predictor, cases: dict, previous: dict | None, command: list[str], series: dict) -> list[str]:
    """Predicts what is not there yet, and returns the cases that failed."""
    from medsegdiff_auto.inference.continuation import finished_cases, images_checksum, require_same_origin
    from medsegdiff_auto.inference.export import Outputs
    from medsegdiff_auto.inference.folder import predict_folder

    if not args.overwrite or args.num_parts > 1:  # parts that replace would replace each other's
        require_same_origin(Path(args.o), predictor)
    outputs = Outputs(args.save_uncertainty, args.save_samples, args.save_probabilities, args.save_mutual_information,
                      args.save_inclusion, tuple(args.output_format))
    images = {case: images_checksum([*files, *([previous[case]] if previous else [])]) for case, files in cases.items()}
    finished = set()
    if args.continue_prediction:
        finished = finished_cases(Path(args.o), outputs, predictor.model.dataset_json, images)
    cases = {case: files for case, files in cases.items() if case not in finished}
    failed = predict_folder(predictor, cases, Path(args.o), outputs, previous, command,
                            keep_table=args.continue_prediction or args.num_parts > 1, series=series) if cases else []
    print(f"{len(cases) - len(failed)} predictions in {args.o}" +
          (f", {len(finished)} were there before" if finished else ""))
    if args.flag_below is not None:
        _print_flagged(Path(args.o), args.flag_below)
    return failed


def _print_flagged(folder: Path, below: float) -> None:
    from medsegdiff_auto.inference.case_table import flag_cases, read_case_table

    flagged = flag_cases(folder, below)
    if any(row.get("estimate", "samples") == "samples" for row in read_case_table(folder)):
        print("The expected Dice of some structures is that of the samples, which is no estimate of how good a mask "
              "is: medsegdiff_calibrate fits one on cases with a reference.", file=sys.stderr)
    print(f"{len(flagged)} structures are expected to score a Dice below {below:g}" + (":" if flagged else "."))
    for row in flagged:
        print(f"  {row['expected_dice']}  {row['case']}  {row['structure']}")


def _model_folder(args) -> Path:
    if args.m:
        return Path(args.m)
    if not args.c:
        raise UserError("-d needs a configuration.", found="-d without -c", expected="-c 2d, 3d_fullres, ...",
                        fix="add -c CONFIGURATION")
    paths.use_folders(results=args.results)
    return paths.model_folder(args.d, args.c, args.p, args.tr)


def _require_part(args) -> None:
    if args.part_id >= args.num_parts:
        raise UserError("There is no such part.", found=f"-part_id {args.part_id} of -num_parts {args.num_parts}",
                        expected="0 to one less than the number of parts", fix="correct -part_id or -num_parts")
