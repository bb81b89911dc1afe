"""Pickles that hold plain values and numpy's arrays: whatever else one refers to would run when it is loaded."""

from __future__ import annotations

import pickle
from collections.abc import Collection, Iterable
from pathlib import Path

from medsegdiff_auto.errors import UserError

_NUMPY = {(f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("scalar", "_reconstruct")} | {
    (f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")} | {
    ("numpy", "dtype"), ("numpy", "ndarray"), ("collections", "OrderedDict")}


def load_plain(file: Path, also: Collection[tuple[str, str]] = ()) -> object:
    """What a pickle holds, of plain types and numpy's.

    Args:
        also: module and name of each further object that it may refer to, to the letter.

    Raises:
        UserError: the file is missing or damaged, or refers to anything else; nothing of it was run.
    """
    try:
        with file.open("rb") as stream:
            return _PlainUnpickler(stream, _NUMPY | set(also)).load()
    except Exception as failure:  # the bytes of a damaged pickle are instructions that fail in any way
        found = str(failure) or "an incomplete file"
        raise UserError(f"{file} cannot be read.", found=f"{found:.200}", expected="plain values and arrays of numpy",
                        fix="copy the file again from where it was written; nothing of it was run") from failure


def require_plain(files: Iterable[Path]) -> None:
    """Checks pickles that nnU-Net will load.

    Raises:
        UserError: one of them is missing or damaged, or refers to anything but plain types and numpy's.
    """
    for file in files:
        load_plain(file)


class _PlainUnpickler(pickle.Unpickler):
    def __init__(self, stream, known: set[tuple[str, str]]):
        super().__init__(stream)
        self.known = known

    def find_class(self, module: str, name: str):
        """The object of a known name; a dotted one leads from a harmless object to any other."""
        if (module, name) not in self.known:
            raise pickle.UnpicklingError(f"a reference to {module}.{name}")
        return super().find_class(module, name)
