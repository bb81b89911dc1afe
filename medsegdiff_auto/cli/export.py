"""``medsegdiff_export``: a trained model as one file for somebody else."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from medsegdiff_auto.cli.command import CommandParser, run
from medsegdiff_auto.cores import compute_on_cpu, num_cores
from medsegdiff_auto.errors import UserError


def main(argv=None) -> int:
    return run(_export, command_parser().parse_args(argv))


def command_parser() -> CommandParser:
    """The flags of ``medsegdiff_export``."""
    parser = CommandParser(
        prog="medsegdiff_export", description="Writes a trained model as one file that holds no code: averaged "
        "weights, plans, what was fitted, a card, and a self-test that medsegdiff_import runs.")
    parser.add_argument("-m", required=True, metavar="FOLDER",
                        help="model folder, .../DatasetXXX_Name/Trainer__Plans__CONFIGURATION")
    parser.add_argument("-o", required=True, metavar="FILE",
                        help="the model file, for example model.zip; with --challenge a new folder")
    parser.add_argument("-f", nargs="+", metavar="FOLD", help="folds (default: all that are trained)")
    parser.add_argument("--weights_licence", metavar="NAME", help="of the weights, for example CC-BY-4.0")
    parser.add_argument("--data_licence", metavar="NAME",
                        help="of the data that the model was trained on (default: that of dataset.json)")
    parser.add_argument("--citation", metavar="TEXT", help="what who uses the model should cite")
    parser.add_argument("--push_to_hub", metavar="OWNER/NAME",
                        help="upload the file and its card to this repository of the Hugging Face Hub")
    parser.add_argument("--challenge", choices=("grand-challenge", ),
                        help="write the folder of a challenge's container: Dockerfile, program, weights, a test case")
    parser.add_argument("--sockets", metavar="FILE",
                        help="sockets.json: slugs and paths of the challenge's inputs and outputs; with --challenge")
    parser.add_argument("--base_image", metavar="NAME@sha256:DIGEST",
                        help="image with Python that the container is built on; with --challenge")
    return parser


def _export(args) -> None:
    os.environ.setdefault("nnUNet_def_n_proc", str(num_cores()))
    if args.challenge or args.sockets or args.base_image:
        _export_challenge(args)
    else:
        _export_file(args)


def _export_challenge(args) -> None:
    if not (args.challenge and args.sockets and args.base_image):
        raise UserError("A challenge's container is not named whole.", found=" and ".join(
            flag for flag, value in (("--challenge", args.challenge), ("--sockets", args.sockets),
                                     ("--base_image", args.base_image)) if value),
            expected="--challenge grand-challenge --sockets FILE --base_image NAME@sha256:DIGEST",
            fix="add what is missing, or leave out all three")
    from medsegdiff_auto.handover.challenge_folder import write_challenge_folder

    compute_on_cpu()
    measured = write_challenge_folder(Path(args.m), Path(args.o), Path(args.sockets), args.base_image, _folds(args))
    print(f"{args.o}: its test case of {' x '.join(map(str, measured.size))} voxels took {measured.seconds:.1f} s here")
    print(f"Read {Path(args.o) / 'README.md'}, then: {Path(args.o) / 'do_test_run.sh'}")


def _folds(args) -> list[int | str] | None:
    return [int(fold) if fold.isdigit() else fold for fold in args.f] if args.f else None


def _export_file(args) -> None:
    from medsegdiff_auto.handover.exporting import export_model
    from medsegdiff_auto.handover.hub import push_to_hub, require_hub
    from medsegdiff_auto.inference.model_archive import Terms

    if args.push_to_hub:
        require_hub()
    compute_on_cpu()
    file, terms = Path(args.o), Terms(args.weights_licence, args.data_licence, args.citation)
    manifest = export_model(Path(args.m), file, _folds(args), terms)
    for flag, licence in (("--weights_licence", manifest.terms.weights_licence),
                          ("--data_licence", manifest.terms.data_licence)):
        if licence is None:
            print(f"The card says that this licence is not stated: give it with {flag}.", file=sys.stderr)
    print(f"{file} ({file.stat().st_size / 1e6:.1f} MB): {manifest.dataset}, {manifest.model}")
    if args.push_to_hub:
        print(push_to_hub(file, args.push_to_hub))
