"""``medsegdiff_export``: a trained model as one file for somebody else."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from medsegdiff_auto.cli.command import CommandParser, run
from medsegdiff_auto.cores import compute_on_cpu, num_cores
from medsegdiff_auto.errors import UserError

FOLDER = "folder"
CHALLENGES = ("grand-challenge", FOLDER)


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
    parser.add_argument("--challenge", choices=CHALLENGES,
                        help="write the folder of a challenge's container: Dockerfile, program, weights, a test case; "
                        "folder: all cases of /input, one mask each to /output (BraTS, FLARE, KiTS)")
    parser.add_argument("--sockets", metavar="FILE",
                        help="sockets.json: slugs and paths of the challenge's inputs and outputs; with --challenge "
                        "grand-challenge")
    parser.add_argument("--pattern", nargs="+", metavar="{case}_0000.nii.gz",
                        help="the image files below /input, one pattern per channel, in the channels' order, such as "
                        "'{case}/{case}-t1n.nii.gz'; with --challenge folder (default: {case}_0000, {case}_0001, ... "
                        "with the ending of the training data)")
    parser.add_argument("--base_image", metavar="NAME@sha256:DIGEST",
                        help="image with Python that the container is built on; with --challenge")
    return parser


def _export(args) -> None:
    os.environ.setdefault("nnUNet_def_n_proc", str(num_cores()))
    if args.challenge or args.sockets or args.base_image or args.pattern:
        _export_challenge(args)
    else:
        _export_file(args)


def _export_challenge(args) -> None:
    wanted = "pattern" if args.challenge == FOLDER else "sockets"
    needed = ("challenge", "base_image") if args.challenge == FOLDER else ("challenge", "sockets", "base_image")
    given = [name for name in ("challenge", "sockets", "pattern", "base_image") if getattr(args, name)]
    if not set(needed) <= set(given) <= {*needed, wanted}:
        raise UserError("A challenge's container is not named whole.",
                        found=" and ".join(f"--{name}" for name in given),
                        expected="--challenge grand-challenge --sockets FILE --base_image NAME@sha256:DIGEST, or "
                        "--challenge folder [--pattern ...] --base_image NAME@sha256:DIGEST",
                        fix="add what is missing, or leave out what belongs to the other kind")
    from medsegdiff_auto.handover.challenge_folder import write_cases_folder, write_challenge_folder

    compute_on_cpu()
    model, folder = Path(args.m), Path(args.o)
    if args.challenge == FOLDER:
        measured = write_cases_folder(model, folder, args.pattern, args.base_image, _folds(args))
    else:
        measured = write_challenge_folder(model, folder, Path(args.sockets), args.base_image, _folds(args))
    print(f"{args.o}: {measured} took {measured.seconds:.1f} s and {measured.memory_gb:.2f} GB here")
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
