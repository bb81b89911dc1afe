"""A model file as a model folder in nnU-Net's place, after its self-test."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from medsegdiff_auto import paths
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.handover.self_test import read_answer, require_same_answer
from medsegdiff_auto.inference.model import load_model
from medsegdiff_auto.inference.model_archive import SELF_TEST, Manifest, opened
from medsegdiff_auto.inference.model_unpacking import LAST, shown_as, write_model
from medsegdiff_auto.writing import staged_output


@dataclass(frozen=True)
class Imported:
    """An imported model.

    Attributes:
        self_test: what came of it, the end of a sentence.
    """

    folder: Path
    manifest: Manifest
    self_test: str


def import_model(file: Path, folder: Path | None = None) -> Imported:
    """Writes a model folder, whole or not at all.

    Args:
        folder: a new or empty one; None for nnU-Net's place of the model in ``nnUNet_results``.

    Raises:
        UserError: the file is no sound model, its self-test fails, or the folder is not empty.
    """
    with opened(file) as archive:
        manifest = archive.manifest
        folder = folder or paths.require_folder("nnUNet_results") / manifest.dataset / manifest.model
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            raise UserError("The model's folder is not empty.", found=str(folder), expected="a new or an empty folder",
                            fix="give another folder with -o, or move that one away")
        missing = [one for one in (folder, *folder.parents) if not one.exists()]
        try:
            with staged_output(folder, last=LAST) as stage, shown_as(file, stage):
                write_model(archive, stage)
                expected = read_answer(*(archive.parts.read(f"{SELF_TEST}{end}") for end in (".json", ".safetensors")))
                told = require_same_answer(load_model(stage), expected)
        except BaseException:
            with suppress(OSError):
                for one in missing:
                    one.rmdir()
            raise
    return Imported(folder, manifest, told)
