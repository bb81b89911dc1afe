"""What the predictions in a folder were made from, and which of them need not be made again."""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK as sitk

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.files.dicom_segmentation import is_whole_segmentation
from medsegdiff_auto.files.prediction_folder import CASES_FILE
from medsegdiff_auto.files.provenance import checksum, checksum_of
from medsegdiff_auto.files.scans import is_whole_scan
from medsegdiff_auto.inference.case_table import LOCK, read_case_table
from medsegdiff_auto.inference.export import Outputs
from medsegdiff_auto.inference.predictor import MedSegDiffPredictor
from medsegdiff_auto.locks import alone
from medsegdiff_auto.nnunet.readers import find_reader
from medsegdiff_auto.run_record import Run, read_run, write_run

logger = logging.getLogger(__name__)


def made_from(predictor: MedSegDiffPredictor) -> dict:
    """Everything but its image that a case's mask and sizes depend on, as values and checksums."""
    model = predictor.model
    return {"checkpoints": model.checkpoints, "plans": checksum_of(model.plans_manager.plans),
            "dataset.json": checksum_of(model.dataset_json),
            "fit": None if model.fitted is None else checksum_of(asdict(model.fitted)),
            "samples": predictor.num_samples, "steps": predictor.num_steps,
            "views": [list(view) for view in predictor.views], "solver": predictor.solver,
            "fusion": predictor.fusion, "seed": predictor.options.seed, "temperature": predictor.temperature,
            "step_size": predictor.tile_step_size}


def images_checksum(files: Sequence[Path]) -> str:
    """SHA-256 of the images of a case, its first stage's label map among them in a cascade."""
    return checksum_of([checksum(file) for file in files])


def record_prediction(folder: Path, command: Sequence[str], images: dict[str, str], predictor: MedSegDiffPredictor,
                      keep: bool) -> None:
    """Writes ``run.json`` before the first case; processes that predict parts of a folder take turns.

    Args:
        images: case to the checksum of its images.
        keep: whether the cases of other commands, which were made from the same, stay in it.
    """
    model = predictor.model
    with alone(folder / LOCK):
        before = (read_run(folder) or Run()).images if keep else {}
        write_run(folder, command, model=str(model.folder), folds=list(model.folds), views=predictor.views,
                  samples_per_fold=predictor.num_samples, steps=predictor.num_steps, temperature=predictor.temperature,
                  options=asdict(predictor.options), made_from=made_from(predictor), images=before | images)


def require_same_origin(folder: Path, predictor: MedSegDiffPredictor) -> None:
    """Checks that predictions that lie in a folder were made as the predictor makes them.

    What an earlier version made has no record, and is accepted with a line that says so.

    Raises:
        UserError: they were made from something else.
    """
    if not (folder / CASES_FILE).is_file():
        return
    before, now = (read_run(folder) or Run()).made_from, made_from(predictor)
    if not before:
        logger.warning("%s does not say what its predictions were made from, as those of an earlier version: they are "
                       "taken for predictions of this command.", folder)
        return
    differing = [key for key in now if before.get(key) != now[key]]
    if differing:
        shown = {key: ("another", "the same") if _is_digest(now[key]) else (before.get(key), now[key])
                 for key in differing}
        raise UserError(f"The predictions in {folder} were made otherwise: {', '.join(differing)}.",
                        found=", ".join(f"{key} {then}" for key, (then, _) in shown.items()),
                        expected=", ".join(f"{key} {wanted}" for key, (_, wanted) in shown.items()),
                        fix="give the options and the model of then, choose another folder with -o, or replace "
                        "them with --overwrite")


def finished_cases(folder: Path, outputs: Outputs, dataset_json: dict, images: dict[str, str]) -> set[str]:
    """Cases of ``cases.csv`` whose files, with everything that is asked for, are whole and made from these images.

    Args:
        images: case to the checksum of its images.
    """
    if not (folder / CASES_FILE).is_file():
        return set()
    of_then = (read_run(folder) or Run()).images
    finished = set()
    for case in {row["case"] for row in read_case_table(folder)} & images.keys():
        label_map = folder / f"{case}{dataset_json['file_ending']}"
        if of_then.get(case, images[case]) == images[case] and label_map.is_file() and is_whole_scan(
                label_map, find_reader(dataset_json, [label_map])) and all(
                    _is_whole(folder / f"{case}{ending}") for ending in outputs.endings()):
            finished.add(case)
    return finished


def _is_whole(file: Path) -> bool:
    """Whether a companion, NIfTI, NRRD, DICOM or npz, can be read to its end."""
    try:
        if file.suffix == ".npz":
            with zipfile.ZipFile(file) as archive:
                return archive.testzip() is None
        if file.suffix == ".nrrd":
            return sitk.ReadImage(str(file)).GetNumberOfPixels() > 0
        if file.suffix == ".dcm":
            return is_whole_segmentation(file)
        np.asanyarray(nibabel.Nifti1Image.from_filename(file).dataobj)
    except Exception:  # a damaged file fails in any way
        return False
    return True


def _is_digest(value) -> bool:
    """Whether a value says nothing to a reader."""
    return isinstance(value, (dict, str)) and len(str(value)) >= 64
