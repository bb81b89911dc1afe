"""How a user's masks code their structures: as the command line says, else as the values in them show."""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from medsegdiff_auto.cores import num_cores
from medsegdiff_auto.dataset_conversion.core.labels import as_whole_numbers
from medsegdiff_auto.dataset_conversion.core.masks import (COLOURS, FILES, GREY, VALUES, Coding, ColourMask,
                                                           colour_name, read_codes)
from medsegdiff_auto.dataset_conversion.core.source import CaseProblem
from medsegdiff_auto.errors import UserError

MAX_UNNAMED = 30  # more values than this are no labels but shades of grey
COLOUR_BIT = 1 << 24
IGNORE = "ignore"  # nnU-Net's name for voxels that nobody labelled
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")


def find_coding(options: Namespace, masks: Sequence[Path], classes: Sequence[str], read: Callable) -> Coding:
    """The coding that ``--labels``, ``--grey`` and ``--threshold`` ask for, or that the masks show.

    ``classes`` are the words that stand for {label} in the names of the masks. ``read`` reads what is no picture.

    Raises:
        UserError: the flags contradict each other, or the masks do not show it.
    """
    names, codes, kind = parse_labels(options.labels or [])
    if classes:
        return Coding(FILES, _ignore_last(names or sorted(set(classes))), {}, options.threshold)
    if options.grey or options.threshold is not None:
        if len(names) > 1:
            raise UserError("Grey masks have one structure.", found=f"--labels {' '.join(options.labels)}",
                            expected="at most one name", fix="leave out --grey and --threshold, or give one name")
        return Coding(GREY, tuple(names or ["foreground"]), {}, options.threshold)
    if kind is not None:
        return _numbered(kind, names, codes)
    return _shown_by_values(names, masks, read)


def values_of(path: Path, read: Callable) -> set[int]:
    """The values that occur in a mask; those of a colour mask are colours, set apart by a bit above their 24.

    Raises:
        CaseProblem: it cannot be read or holds fractions.
    """
    try:
        values = read_codes(path, VALUES, read)[1]
    except ColourMask:
        return {COLOUR_BIT + int(value) for value in np.unique(read_codes(path, COLOURS, read)[1])}
    return set(np.unique(as_whole_numbers(values, path.name)).tolist())


def parse_labels(words: list[str]) -> tuple[list[str], list[int | None], str | None]:
    """``NAME``, ``NAME=3`` or ``NAME=#ff0000`` as names, codes and the kind that the codes have.

    Raises:
        UserError: the words are of several kinds, or one is none of these.
    """
    names, codes, kinds = [], [], set()
    for word in words:
        name, _, code = word.partition("=")
        if (code and not code.isdecimal() and not _COLOUR.fullmatch(code)) or not name or \
                name.lower() == "background" or name.lower() == IGNORE != name:
            raise UserError("--labels has a word that names no structure.", found=word,
                            expected=f"NAME, NAME=3 or NAME=#ff0000; {IGNORE} in small letters",
                            fix="correct --labels; background needs no mention")
        names.append(name)
        codes.append(int(code[1:], 16) if code.startswith("#") else int(code) if code else None)
        kinds.add(COLOURS if code.startswith("#") else VALUES if code else None)
    is_twice = len(set(names)) < len(names) or (None not in codes and len(set(codes)) < len(codes))
    if is_twice or len(kinds) > 1 or names == [IGNORE]:
        raise UserError("--labels is not consistent.", found=" ".join(words),
                        expected="all with a value, all with a colour, or all without; each name and code once, "
                        f"and another one beside {IGNORE}",
                        fix="correct --labels")
    return names, codes, kinds.pop() if kinds else None


def _shown_by_values(names: list[str], masks: Sequence[Path], read: Callable) -> Coding:
    with ThreadPoolExecutor(num_cores()) as pool:
        of_masks = list(pool.map(lambda mask: _values_or_problem(mask, read), masks))
    problems = [one for one in of_masks if isinstance(one, CaseProblem)]
    if problems and len(problems) == len(masks):
        raise UserError("No mask can be read.", found=str(problems[0]), expected="a value for each structure",
                        fix="correct the masks and give the command again")
    values = set().union(*(one for one in of_masks if isinstance(one, set)))
    colours = sorted(value for value in values if value >= COLOUR_BIT)
    found = sorted(values - {0})
    if colours:
        shown = [colour_name(value) for value in colours if value != COLOUR_BIT]
        raise UserError("The masks are colour images.",
                        found=", ".join(shown[:10]) + (", ..." if len(shown) > 10 else ""),
                        expected="to know which colour is which structure; black is background",
                        fix=f"--labels {' '.join(f'NAME={colour}' for colour in shown[:3])}")
    if len(found) > MAX_UNNAMED or (255 in found and len(found) > 1) or (not found and not names):
        raise UserError("The masks do not show which structures they have.", found=f"{len(found)} values, "
                                                                                   f"{', '.join(map(str, found[:8]))}, "
                                                                                   "...",
                        expected="one value above 0, or up to 30 without 255",
                        fix="--grey for masks with soft edges, or --labels NAME=VALUE ... for all values")
    if 0 not in values and len(found) == 2 and len(names) <= 1:  # two values are background and foreground
        return Coding(VALUES, tuple(names or ["foreground"]), {found[0]: 0, found[1]: 1})
    if names and len(names) != len(found):
        raise UserError("--labels does not fit the masks.",
                        found=f"{len(names)} names; the masks hold {', '.join(map(str, found))}",
                        expected="one name for each value, in their order", fix="--labels NAME=VALUE ...")
    names = names or (["foreground"] if len(found) == 1 else [f"label_{value}" for value in found])
    return _numbered(VALUES, names, found)


def _numbered(kind: str, names: Sequence[str], codes: Sequence[int]) -> Coding:
    """The coding whose labels are numbered in the order of the names."""
    by_name, names = dict(zip(names, codes)), _ignore_last(names)
    return Coding(kind, names, {0: 0} | {by_name[name]: number for number, name in enumerate(names, start=1)})


def _ignore_last(names: Sequence[str]) -> tuple[str, ...]:
    """The names in their order, but that of the ignore label last, because nnU-Net wants it to be the highest."""
    return tuple(sorted(names, key=lambda name: name == IGNORE))


def _values_or_problem(path: Path, read: Callable) -> set[int] | CaseProblem:
    try:
        return values_of(path, read)
    except CaseProblem as problem:
        return problem  # it is reported when the case is converted
