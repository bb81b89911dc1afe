"""``medsegdiff_convert``: datasets as their authors distribute them, or a user's own files, to nnU-Net's raw format."""

from __future__ import annotations

import argparse
import sys
import textwrap
from pathlib import Path

from medsegdiff_auto import paths
from medsegdiff_auto.cli import EXIT_INTERRUPTED
from medsegdiff_auto.cli.command import CommandParser, did_you_mean, run
from medsegdiff_auto.numeric_flags import WORKERS
from medsegdiff_auto.cores import num_cores
from medsegdiff_auto.errors import UserError

PROGRAM = "medsegdiff_convert"
NEW_IMAGES = "images"
EXIT_SOME_CASES_FAILED = 1
COMMON = ("help", "i", "d", "o", "name", "overwrite", "np", "seed", "list", "converter")


def main(argv=None) -> int:
    """Entry point of ``medsegdiff_convert``."""
    argv = list(sys.argv[1:] if argv is None else argv)
    from medsegdiff_auto.dataset_conversion.core.registry import converter_names

    names = converter_names()
    if argv and argv[0] in names:
        return _main_of_converter(argv[0], argv[1:])
    if argv and argv[0] == NEW_IMAGES:
        return _main_of_new_images(argv[1:])
    parser = CommandParser(
        prog=PROGRAM, description="Converts a dataset as its authors distribute it, or a folder of your own, to "
        "nnU-Net's raw format, with folds by patient.",
        epilog=f"{PROGRAM} NAME --help shows what else a source understands. {PROGRAM} {NEW_IMAGES} brings images "
        "without masks into the form of a dataset of yours, for medsegdiff_predict.")
    parser.add_argument("converter", nargs="?", metavar="NAME", help=f"the source, the first word: {', '.join(names)}")
    parser.add_argument("--list", action="store_true",
                        help="all sources: modality, task, licence, citation, where to get them")
    _add_common_flags(parser, required=False)
    args = parser.parse_args(argv)
    return run(_list_sources if args.list else _refuse_name, args.converter, names)


def _main_of_converter(name: str, argv: list[str]) -> int:
    from medsegdiff_auto.dataset_conversion.core.registry import load_converter

    converter = load_converter(name)
    parser = CommandParser(prog=f"{PROGRAM} {name}", description=f"{converter.about.title}. {converter.__doc__ or ''}",
                           epilog=f"From: {converter.about.homepage}. Licence: {converter.about.licence}.")
    _add_common_flags(parser, required=True)
    converter.add_options(parser)
    return run(_convert, name, parser.parse_args(argv))


def _main_of_new_images(argv: list[str]) -> int:
    parser = CommandParser(prog=f"{PROGRAM} {NEW_IMAGES}", description="Brings new images, in any form that "
                           f"{PROGRAM} folder reads, into that of a converted dataset: CASE_0000.ENDING, for "
                           "medsegdiff_predict. What is there already is left out.")
    parser.add_argument("-i", required=True, metavar="FOLDER", help="the new images")
    parser.add_argument("-o", required=True, metavar="FOLDER", help="where they go")
    parser.add_argument("--like", required=True, metavar="RAW_DATASET", help="the dataset that the model learned from")
    parser.add_argument("--images", default="{case}", metavar="PATTERN",
                        help="names of the files, with {case} and perhaps {channel} (default: %(default)s)")
    parser.add_argument("--channels", nargs="+", default=[], metavar="NAME",
                        help="the words in the place of {channel}, in order")
    return run(_take_new_images, parser.parse_args(argv))


def _take_new_images(args) -> int:
    from medsegdiff_auto.dataset_conversion.core.new_images import NewImages, read_description, write_new_images

    images = NewImages(Path(args.i), read_description(Path(args.like)), args.images, tuple(args.channels))
    number, problems = write_new_images(images, Path(args.o))
    for problem in problems:
        print(f"not taken: {problem.name}: {problem.reason}")
    print(f"{number} images in {args.o}")
    return EXIT_SOME_CASES_FAILED if problems else 0


def _add_common_flags(parser: CommandParser, required: bool) -> None:
    parser.add_argument("-i", required=required, metavar="SOURCE", help="folder of the source, unpacked")
    parser.add_argument("-d", type=int, required=required, metavar="ID", help="dataset ID, 1 to 999")
    parser.add_argument("-o", metavar="RAW_FOLDER", help="where the dataset's folder goes (default: $nnUNet_raw)")
    parser.add_argument("--name", help="name of the dataset (default: that of the source)")
    parser.add_argument("--raters", action="store_true", help="also write each rater's label maps, to labelsTr_raters/")
    parser.add_argument("--overwrite", action="store_true", help="replace the dataset where it exists")
    parser.add_argument("-np", type=WORKERS, default=num_cores(), metavar="N",
                        help="worker processes (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the folds (default: %(default)s)")


def _convert(name: str, args) -> int:
    raw_folder = Path(args.o) if args.o else paths.require_folder("nnUNet_raw")
    from medsegdiff_auto.dataset_conversion.core.conversion import Request, convert
    from medsegdiff_auto.dataset_conversion.core.report import report

    options = argparse.Namespace(**{flag: value for flag, value in vars(args).items() if flag not in COMMON})
    try:
        outcome = convert(
            Request(name, Path(args.i), raw_folder, args.d, options, args.name, args.raters, args.overwrite, args.np,
                    args.seed))
    except KeyboardInterrupt:
        print("Interrupted. The same command continues where it stopped.", file=sys.stderr)
        return EXIT_INTERRUPTED
    print(report(outcome))
    return EXIT_SOME_CASES_FAILED if outcome.problems or outcome.unfit else 0


def _list_sources(_, names: list[str]) -> None:
    from medsegdiff_auto.dataset_conversion.core.registry import load_converter

    for name in names:
        about = load_converter(name).about
        rows = {"": about.title, "modality": about.modality, "task": about.task, "licence": about.licence,
                "citation": about.citation, "from": about.homepage}
        for field, value in rows.items():
            print(
                textwrap.fill(f"{field + ': ' if field else ''}{value}", 110, break_on_hyphens=False,
                              break_long_words=False, initial_indent="    " if field else f"{name}: ",
                              subsequent_indent="        "))
        if load_converter(name).has_raters:
            print("    raters: several, with --raters")


def _refuse_name(name: str | None, names: list[str]) -> None:
    if name in names:
        raise UserError("The name of the source comes first.", found=f"{name} behind a flag",
                        expected=f"{PROGRAM} {name} -i SOURCE -d ID", fix=f"write {name} directly after {PROGRAM}")
    raise UserError(f"There is no source {name}." if name else f"{PROGRAM} needs the name of a source.", found=name
                    or "none", expected=f"one of {', '.join(names)}",
                    fix=f"{did_you_mean(name or '', names)}see {PROGRAM} --list; folder converts files of your own")
