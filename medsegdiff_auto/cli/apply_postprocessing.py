"""``medsegdiff_apply_postprocessing``: the postprocessing that cross-validation chose, on a prediction folder."""

import json
import os
from pathlib import Path

from medsegdiff_auto.cli.command import CommandParser, run
from medsegdiff_auto.numeric_flags import WORKERS
from medsegdiff_auto.cores import num_cores
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.run_record import command_line, recorded_commands, write_run


def main(argv=None) -> int:
    parser = CommandParser(
        prog="medsegdiff_apply_postprocessing",
        description="Applies a postprocessing.pkl to the label maps of a prediction folder, and copies "
        "uncertainty, samples and tables beside the result.")
    parser.add_argument("-i", required=True, metavar="FOLDER", help="prediction folder")
    parser.add_argument("-o", required=True, metavar="FOLDER", help="output folder; existing files are replaced")
    parser.add_argument("-pp_pkl_file", required=True, metavar="FILE",
                        help="postprocessing.pkl, written by medsegdiff_find_best_configuration")
    parser.add_argument("-plans_json", metavar="FILE", help="default: plans.json in the prediction folder")
    parser.add_argument("-dataset_json", metavar="FILE", help="default: dataset.json in the prediction folder")
    parser.add_argument("-np", type=WORKERS, default=num_cores(), metavar="N", help="processes (default: all cores)")
    args = parser.parse_args(argv)
    return run(_apply, args, command_line(parser.prog, argv))


def _apply(args, command: list[str]) -> None:
    folder, output = Path(args.i), Path(args.o)
    if not folder.is_dir():
        raise UserError("The prediction folder does not exist.", found=args.i, expected="a folder of predictions",
                        fix="correct -i")
    plans = read_json_file(args.plans_json or folder / "plans.json", "-plans_json")
    dataset_json = read_json_file(args.dataset_json or folder / "dataset.json", "-dataset_json")
    os.environ.setdefault("nnUNet_def_n_proc", str(args.np))
    from medsegdiff_auto.inference.postprocessing import postprocess

    steps = postprocess(folder, output, Path(args.pp_pkl_file), plans, dataset_json, args.np)
    write_run(output, command, recorded_commands(folder))
    print(f"Applied {len(steps)} step(s) ({', '.join(dict.fromkeys(steps)) or 'cross-validation chose none'}): "
          f"{output}")


def read_json_file(path: str | Path, flag: str) -> dict:
    """The content of a JSON file that ``flag`` names.

    Raises:
        UserError: it is missing or broken.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as failure:
        raise UserError(f"{path} cannot be read as JSON.", found=str(failure), expected="a file written with the model",
                        fix=f"give the model's file with {flag}") from failure
