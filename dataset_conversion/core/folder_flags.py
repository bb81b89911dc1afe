"""The flags that say where a user's own images and masks lie and what they hold. Free of numpy."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace


def add_folder_flags(parser: ArgumentParser) -> None:
    """Adds the flags of ``medsegdiff_convert folder``."""
    parser.add_argument(
        "--images", default="images/{case}", metavar="PATTERN",
        help="where the images are, with {case} and perhaps {patient}, {channel}, * (default: %(default)s)")
    parser.add_argument(
        "--masks", metavar="PATTERN",
        help="where the masks are, with {case} and perhaps {patient}, {label}, {rater}, * "
        "(default: masks/{case}, or labels/, segmentations/, annotations/)")
    parser.add_argument("--test_images", metavar="PATTERN", help="images for imagesTs; they need no masks")
    parser.add_argument(
        "--channels", nargs="+", metavar="NAME",
        help="names of the channels; with {channel} the words in the file names, "
        "in order. CT is normalised as CT (default: R G B or image)")
    parser.add_argument(
        "--labels", nargs="+", metavar="NAME[=CODE]",
        help="the structures, with their value or #rrggbb in the masks, or "
        "with {label} the words in the file names (default: looked up)")
    parser.add_argument("--regions", action="store_true",
                        help="the structures of --labels lie within each other, outermost first")
    parser.add_argument("--grey", action="store_true",
                        help="masks are grey: what reaches --threshold is the one structure")
    parser.add_argument("--threshold", type=float, metavar="VALUE",
                        help="of grey masks (default: two values are background and foreground, "
                        "of shades half of white)")
    parser.add_argument(
        "--patient", metavar="REGEX", help="finds the patient in the case's name, for example '^(P[0-9]+)_' "
        "(default: {patient}, or each case is a patient)")
    parser.add_argument("--folds", metavar="FILE",
                        help="your own folds as nnU-Net writes them: [{\"train\": [...], \"val\": [...]}, ...]")


def folder_words(options: Namespace) -> list[str]:
    """The words that say again what was given: no flag at its default."""
    parser, words = ArgumentParser(add_help=False), []
    add_folder_flags(parser)
    for action in parser._actions:
        value = getattr(options, action.dest)
        if value == action.default:
            continue
        words += [action.option_strings[0], *([] if value is True else map(str, value) if isinstance(value, list)
                                              else [str(value)])]
    return words
