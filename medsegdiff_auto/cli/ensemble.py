"""``medsegdiff_ensemble``: the mean of several predictions."""

import os
from pathlib import Path

from medsegdiff_auto.cli.command import CommandParser, run
from medsegdiff_auto.numeric_flags import WORKERS
from medsegdiff_auto.cores import num_cores
from medsegdiff_auto.run_record import command_line, recorded_commands, write_run
from medsegdiff_auto.tables import DECODERS


def main(argv=None) -> int:
    parser = CommandParser(prog="medsegdiff_ensemble",
                           description="Averages the probabilities of several prediction folders (made with "
                                       "--save_probabilities) and writes the segmentation of the mean.")
    parser.add_argument("-i", nargs="+", required=True, metavar="FOLDER", help="prediction folders")
    parser.add_argument("-o", required=True, metavar="FOLDER", help="output folder; existing files are replaced")
    parser.add_argument("--save_npz", action="store_true", help="also write the mean probabilities as CASE.npz")
    parser.add_argument("--fusion", default="mean", choices=DECODERS.names(),
                        help="how the mean probabilities become a label map; a decoder that needs samples is refused "
                             "(default: mean)")
    parser.add_argument("-np", type=WORKERS, default=num_cores(), metavar="N", help="processes (default: all cores)")
    args = parser.parse_args(argv)
    return run(_ensemble, args, command_line(parser.prog, argv))


def _ensemble(args, command: list[str]) -> None:
    os.environ.setdefault("nnUNet_def_n_proc", str(args.np))
    from medsegdiff_auto.inference.ensembling import ensemble

    folders = [Path(folder) for folder in args.i]
    num_cases = ensemble(folders, Path(args.o), args.save_npz, args.np, args.fusion)
    write_run(args.o, command, [words for folder in folders for words in recorded_commands(folder)])
    print(f"Ensembled {num_cases} cases of {len(folders)} folders: {args.o}")
