"""``medsegdiff_run``: one's own folder to a calibrated model, a report and predictions of new images, by the commands
that a user could type.
"""

from __future__ import annotations

import os
from pathlib import Path

from medsegdiff_auto.cli.command import CommandParser, run
from medsegdiff_auto.cli.model_flags import add_device_flag, add_training_flags
from medsegdiff_auto.cores import num_cores
from medsegdiff_auto.dataset_conversion.core.folder_flags import add_folder_flags, folder_words
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.numeric_flags import POSITIVE, WORKERS


def main(argv=None) -> int:
    """Entry point of ``medsegdiff_run``."""
    parser = CommandParser(
        prog="medsegdiff_run",
        description="Converts a folder of your own (or takes a raw dataset of nnU-Net), plans, trains as many folds as "
        "the patients allow, calibrates, chooses the postprocessing, predicts new images and reports. It says first "
        "what it will do, prints every command that it gives, and goes on where it was when it is given again.",
        epilog="Exit codes: 0 all is done; 1 all but some images, which are named; 2 what you can repair; 75 ended by "
        "SIGTERM and 130 by Ctrl-C, after a checkpoint in a training: the same line goes on.")
    parser.add_argument("-i", required=True, metavar="FOLDER",
                        help="images and masks, as medsegdiff_convert folder takes them, or DatasetXXX_Name in "
                        "nnU-Net's raw format")
    parser.add_argument("-o", required=True, metavar="OUT", help="everything goes here; no environment is needed")
    parser.add_argument("--new", metavar="FOLDER", help="images to predict, of the kind of the others (default: those "
                        "of --test_images, or imagesTs of a raw dataset; scored where they have masks)")
    parser.add_argument("--hours", type=POSITIVE, metavar="H", help="that all trainings together take, shared equally")
    parser.add_argument("-c", nargs="+", choices=("2d", "3d_fullres", "3d_lowres"), metavar="CONFIGURATION",
                        help="2d, 3d_fullres or 3d_lowres (default: 2d for pictures and slices, else 3d_fullres)")
    parser.add_argument("-f", type=int, nargs="+", metavar="FOLD",
                        help="default: all, five or as many as there are patients")
    parser.add_argument("--resources", choices=("gpu", "cpu", "tiny"),
                        help="limits of the training machine (default: gpu with -device cuda, else cpu)")
    add_training_flags(parser)
    parser.add_argument("-np", type=WORKERS, default=num_cores(), metavar="N",
                        help="processes of conversion, preprocessing and evaluation (default: all cores)")
    parser.add_argument("--name", help="name of the dataset (default: that of the folder)")
    parser.add_argument("--raters", action="store_true", help="learn from each rater's masks: {rater} in --masks")
    parser.add_argument("--overwrite", action="store_true", help="begin anew: what an earlier start left in OUT goes")
    parser.add_argument("--dry_run", action="store_true", help="say what will be done, and do nothing")
    add_device_flag(parser)
    add_folder_flags(parser.add_argument_group("a folder of your own, as in medsegdiff_convert folder --help"))
    return run(_run, parser.parse_args(argv))


def _run(args) -> int:
    root, source = Path(args.o).expanduser().absolute(), Path(args.i).expanduser().absolute()
    _require_apart(root, source, "-i")
    if not source.is_dir():
        raise UserError(f"{source} is not a folder.", found="a file" if source.exists() else "nothing there",
                        expected="a folder of images and masks", fix="correct -i (unpack archives first)")
    if args.new is not None:
        _require_apart(root, Path(args.new).expanduser().absolute(), "--new")
    os.environ.setdefault("nnUNet_def_n_proc", str(args.np))
    from medsegdiff_auto.chain.own_data import of_folder, of_raw_dataset
    from medsegdiff_auto.cli.steps import follow
    from medsegdiff_auto.training.run import require_device

    args.device = require_device(args.device).type
    args.resources = args.resources or ("gpu" if args.device == "cuda" else "cpu")
    args.folds = args.folds and str(Path(args.folds).absolute())
    data = (of_raw_dataset if (source / "dataset.json").is_file() else of_folder)(args, root, source)
    begun_with = {"source": str(source), "dataset": data.place.dataset, "resources": args.resources,
                  "configurations": list(data.configurations),
                  "conversion": [*folder_words(args), *["--raters"] * args.raters]}
    return follow(lambda: data.chain(args), begun_with, args.overwrite, args.dry_run)


def _require_apart(root: Path, other: Path, flag: str) -> None:
    one, two = root.resolve(), other.resolve()
    if one == two or one in two.parents or two in one.parents:
        raise UserError(f"-o and {flag} lie in each other.", found=f"{root} and {other}", expected="two folders apart",
                        fix="give another folder with -o")
