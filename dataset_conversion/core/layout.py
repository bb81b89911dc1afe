"""The files of a source: what is missing in its layout, which image belongs to which mask, and their checksum."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from medsegdiff_auto.dataset_conversion.core.source import Omission
from medsegdiff_auto.errors import UserError

NUM_SHOWN = 6


def require_files(source: Path, patterns: Mapping[str, str], dataset: str) -> None:
    """Checks that every glob pattern has a file in ``source``; ``patterns`` tells what each of them is.

    Raises:
        UserError: the first pattern without a file.
    """
    for pattern in patterns:
        if next(source.glob(pattern), None) is None:
            raise UserError(
                f"{source} is not the folder of {dataset}: {pattern} is missing.", found=shown_entries(source),
                expected="; ".join(f"{name} ({what})" for name, what in patterns.items()),
                fix=_did_you_mean(source, pattern) + f"give -i the folder in which {pattern.split('/')[0]} lies")


def _did_you_mean(source: Path, pattern: str) -> str:
    """The folder below or above ``source`` that has such a file."""
    for folder in (*sorted(entry for entry in source.iterdir() if entry.is_dir()), source.absolute().parent):
        if next(folder.glob(pattern), None) is not None:
            return f"did you mean {folder}? "
    return ""


def shown_entries(folder: Path) -> str:
    """The first entries of a folder, for the second line of an error."""
    entries = sorted(entry.name + "/" * entry.is_dir() for entry in folder.iterdir() if not entry.name.startswith("."))
    return ", ".join(
        entries[:NUM_SHOWN]) + (f", ... ({len(entries)})" if len(entries) > NUM_SHOWN else "") or "an empty folder"


def unpaired(images: Mapping[str, Path], masks: Mapping[str, Path]) -> list[Omission]:
    """An omission for every image without mask and every mask without image; both are given by case name."""
    return ([Omission(name, f"image without a mask: {images[name].name}")
             for name in sorted(set(images) - set(masks))] +
            [Omission(name, f"mask without an image: {masks[name].name}") for name in sorted(set(masks) - set(images))])


def listing_checksum(source: Path, files: Iterable[Path]) -> str:
    """The SHA-256 over the sorted names and sizes of the source files: the same listing gives the same sum anywhere."""
    lines = sorted(f"{file.relative_to(source).as_posix()}\t{file.stat().st_size}\n" for file in set(files))
    return hashlib.sha256("".join(lines).encode()).hexdigest()
