"""nnU-Net's readers: which of them reads a dataset."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path

from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.imageio.reader_writer_registry import determine_reader_writer_from_dataset_json
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

from medsegdiff_auto.nnunet.known_names import require_known_reader

__all__ = ["BaseReaderWriter", "find_reader", "reads_by_itk", "turns_images"]

NUM_EXAMPLES = 3


def find_reader(dataset_json: dict, example_files: Sequence[Path]) -> BaseReaderWriter:
    """nnU-Net's reader for the dataset: of those that know the file ending, one that reads an example file.

    Raises:
        RuntimeError: nnU-Net has no reader for the file ending.
        UserError: ``dataset.json`` names a reader that is none of nnU-Net's.
    """
    require_known_reader(dataset_json)
    for example in example_files[:NUM_EXAMPLES]:
        with contextlib.suppress(RuntimeError), _silence():
            return determine_reader_writer_from_dataset_json(dataset_json, str(example), verbose=False)()
    return determine_reader_writer_from_dataset_json(dataset_json, None, verbose=False)()


def reads_by_itk(reader: BaseReaderWriter) -> bool:
    """Whether it gives a file's grid as ITK reads it; the one that reorients does not."""
    return type(reader) is SimpleITKIO


def turns_images(reader: type[BaseReaderWriter]) -> bool:
    """Whether it reads an image along other axes than its file has, and turns label maps back when it writes."""
    return reader.__name__.endswith("WithReorient")


@contextlib.contextmanager
def _silence():
    """nnU-Net's look-up prints the traceback of each reader that fails; the findings say it once instead."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
