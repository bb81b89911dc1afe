"""What a folder holds beside the files that are converted: nothing is passed over without a word."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate
from pathlib import Path

from medsegdiff_auto.dataset_conversion.core.patterns import matches, without_ending
from medsegdiff_auto.dataset_conversion.core.source import Contents, Omission
from medsegdiff_auto.files.listing import IMAGE_ENDINGS, ending_of, no_file, visible_below

DATA_OF = {".raw": (".mhd",), ".zraw": (".mhd",), ".json": (".tif", ".tiff")}  # belong to the image of that name


def remainder(source: Path, readable: Iterable[Path], others: Iterable[Path], taken: set[Path],
              patterns: Iterable[str]) -> tuple[list[Omission], list[Omission]]:
    """Problems, and what is left out: every entry that is not ``taken``.

    A problem is what has the place or the name of an image that is taken: a link to nowhere, a folder or a pipe, an
    ending that cannot be read or is not that of the pattern.
    """
    folders, readable = {path.parent for path in taken}, set(readable)
    endings = {without_ending(pattern, IMAGE_ENDINGS): ending_of(pattern).lower()
               for pattern in patterns if ending_of(pattern)}
    problems, left_out = [], []
    for path in sorted({*readable, *others} - taken):
        name, ending, fault = path.relative_to(source).as_posix(), ending_of(path.name), no_file(path)
        if path in readable:
            is_meant = any(ending.lower() != own and matches(stem, source, [path], IMAGE_ENDINGS, {})
                           for stem, own in endings.items())
            if is_meant:
                problems.append(Omission(name, f"{ending or 'a folder'} where the pattern has another ending"))
            else:
                left_out.append(Omission(name, "no pattern names it"))
        elif fault is not None:
            if ending or (path.is_symlink() and not path.exists()):
                problems.append(Omission(name, f"{fault[0]} in the place of an image"))
            elif not path.is_dir():
                left_out.append(Omission(name, fault[0]))
        elif ending and path.parent in folders:
            problems.append(Omission(name, f"{ending} cannot be read: convert it"))
        elif not any(path.with_suffix(image).is_file() for image in DATA_OF.get(path.suffix.lower(), ())):
            left_out.append(Omission(name, "no pattern names it"))
    return problems, sorted(left_out, key=lambda omission: not ending_of(omission.name))


def taken_by_no_case(source: Path, contents: Contents) -> list[Omission]:
    """The images of a source that no case takes and that its converter does not mention, by file, case or folder."""
    taken = {file for case in contents.cases for file in case.files} | set(contents.other_files)
    mentioned = {omission.name for omission in (*contents.problems, *contents.left_out)}
    found = []
    for path in visible_below(source):
        name, ending = path.relative_to(source), ending_of(path.name)
        stem = path.name[:len(path.name) - len(ending)]
        words = {name.as_posix(), *name.parts, *accumulate(stem.split("_"), "{}_{}".format)}
        if ending and path.is_file() and path not in taken and not words & mentioned:
            found.append(Omission(name.as_posix(), "no case takes it"))
    return found
