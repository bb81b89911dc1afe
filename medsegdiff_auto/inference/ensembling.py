"""Averaging the probabilities of several prediction folders, by nnU-Net's function."""

import contextlib
import io
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.checks.inputs import require_writable
from medsegdiff_auto.files.nifti_geometry import copy_geometries
from medsegdiff_auto.nnunet.plain_pickle import load_plain, require_plain
from medsegdiff_auto.nnunet.known_names import read_json_object, read_plans, require_known_reader
from medsegdiff_auto.files.prediction_folder import CASES_FILE
from medsegdiff_auto.locks import alone_in
from medsegdiff_auto.tables import DECODERS
from medsegdiff_auto.writing import staged_output


def ensemble(input_folders: Sequence[Path], output_folder: Path, save_probabilities: bool, num_processes: int,
             fusion: str = "mean") -> int:
    """Write the segmentation of the mean probabilities of ``input_folders``, and return the number of cases.

    ``fusion`` "dice" decodes the mean as the label map of the highest expected Dice, "mean" as nnU-Net does; for the
    probabilities of plain nnU-Net as for ours.

    ``dataset.json`` and ``plans.json`` come from the first folder; the latter lets postprocessing find its reader.

    Raises:
        UserError: fewer than two folders, one of them missing or without ``CASE.npz``, or their cases differ; a file
            would run code, or its probabilities are not finite.
    """
    if DECODERS.row(fusion).fewest_samples:
        raise UserError(f"{fusion} needs samples, and an ensemble has mean probabilities only.",
                        found=f"--fusion {fusion}", expected="a decoder of probabilities, such as mean or dice",
                        fix="choose another --fusion")
    num_cases = _require_alike(input_folders)
    if output_folder.resolve() in [folder.resolve() for folder in input_folders]:
        raise UserError("The output folder is one of the input folders.", found=str(output_folder),
                        expected="a folder of its own", fix="choose another folder with -o")
    if (output_folder / CASES_FILE).is_file():
        raise UserError("The output folder holds predictions of a model.", found=f"{CASES_FILE} in {output_folder}",
                        expected="an empty folder, or an earlier ensemble", fix="choose another folder with -o")
    _require_harmless(input_folders, num_processes)
    require_writable(output_folder)
    from nnunetv2.ensembling.ensemble import ensemble_folders

    with (alone_in(output_folder, f"Another command writes into {output_folder}"),
          staged_output(output_folder) as stage, contextlib.redirect_stdout(io.StringIO())):
        ensemble_folders([str(folder) for folder in input_folders], str(stage), save_probabilities or fusion != "mean",
                         num_processes)
        if fusion != "mean":
            _decode(stage, input_folders[0], fusion, save_probabilities)
        copy_geometries(input_folders[0], stage)
        shutil.copyfile(input_folders[0] / "plans.json", stage / "plans.json")
    return num_cases


def _decode(stage: Path, model_files: Path, fusion: str, keep_probabilities: bool) -> None:
    """Replaces the label maps of a folder by those of another fusion of the probabilities beside them."""
    from medsegdiff_auto.decision.decoder import decode
    from medsegdiff_auto.files.arrays import read_arrays
    from medsegdiff_auto.nnunet.managers import PlansManager

    dataset_json = read_json_object(model_files / "dataset.json")
    plans_manager = PlansManager(read_plans(model_files / "plans.json"))
    labels, writer = plans_manager.get_label_manager(dataset_json), plans_manager.image_reader_writer_class()
    for file in sorted(stage.glob("*.npz")):
        segmentation = decode(fusion, read_arrays(file, "probabilities")[0], None, labels)
        properties_file = file.with_suffix(".pkl")
        writer.write_seg(segmentation, str(stage / f"{file.stem}{dataset_json['file_ending']}"),
                         load_plain(properties_file))
        if not keep_probabilities:
            file.unlink()
            properties_file.unlink()


def _require_harmless(folders: Sequence[Path], num_processes: int) -> None:
    """Checks what nnU-Net will load: names in the plans, pickles, and that all probabilities are numbers."""
    read_plans(folders[0] / "plans.json")
    require_known_reader(read_json_object(folders[0] / "dataset.json"))
    files = [file for folder in folders for file in sorted(folder.glob("*.npz"))]
    require_plain(file.with_suffix(".pkl") for file in files)
    with ThreadPoolExecutor(max(1, num_processes)) as pool:
        list(pool.map(_require_probabilities, files))


def _require_probabilities(file: Path) -> None:
    import numpy as np

    from medsegdiff_auto.files.arrays import read_arrays

    try:
        found = "" if np.isfinite(read_arrays(file, "probabilities")[0]).all() else "NaN or infinite values"
    except (UserError, TypeError) as failure:
        found = failure.found if isinstance(failure, UserError) else f"TypeError: {failure}"
    if found:
        raise UserError(f"{file} holds no probabilities.", found=found,
                        expected="an array named probabilities, of finite numbers",
                        fix="predict the case again with --save_probabilities")


def _require_alike(folders: Sequence[Path]) -> int:
    if len(folders) < 2:
        raise UserError("An ensemble needs several predictions.", found=f"{len(folders)} folder",
                        expected="at least 2 folders", fix="give all prediction folders behind -i")
    for name in ("dataset.json", "plans.json"):
        if folders[0].is_dir() and not (folders[0] / name).is_file():
            raise UserError(f"{folders[0]} has no {name}.", found="no such file",
                            expected="a folder of medsegdiff_predict",
                            fix="copy it from the model folder into the prediction folder")
    cases = {folder: _cases_with_probabilities(folder) for folder in folders}
    every_case = set().union(*cases.values())
    for folder, present in cases.items():
        missing = sorted(every_case - present)
        if missing:
            raise UserError(f"{folder} lacks cases that other folders have.", found=f"no {', '.join(missing[:5])}",
                            expected=f"the same {len(every_case)} cases in every folder",
                            fix="predict the same images with each model")
    return len(every_case)


def _cases_with_probabilities(folder: Path) -> set[str]:
    if not folder.is_dir():
        raise UserError("A prediction folder does not exist.", found=str(folder), expected="a folder of predictions",
                        fix="correct the path")
    cases = {path.stem for path in folder.glob("*.npz") if path.with_suffix(".pkl").is_file()}
    if not cases:
        raise UserError(f"{folder} holds no probabilities.", found="no CASE.npz with CASE.pkl",
                        expected="the probabilities of each case", fix="predict with --save_probabilities")
    return cases
