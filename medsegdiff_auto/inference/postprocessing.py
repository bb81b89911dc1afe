"""Applying the postprocessing that cross-validation chose, by nnU-Net's function, to a prediction folder with
companions.
"""

import pickle
import shutil
from pathlib import Path

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.inference.case_table import read_case_table, with_sizes_of, write_case_table
from medsegdiff_auto.checks.inputs import require_other_folder, require_writable
from medsegdiff_auto.files.nifti_geometry import copy_geometries
from medsegdiff_auto.files.prediction_folder import CASES_FILE, list_companions, staged_predictions
from medsegdiff_auto.writing import staged_output

EVALUATIONS = ("summary.json", "metrics.csv", "metrics.json")  # of the predictions before postprocessing
_STEPS_MODULE = "nnunetv2.postprocessing.remove_connected_components"
_NUMBERS = {("numpy", "dtype"), ("numpy.core.multiarray", "scalar"), ("numpy._core.multiarray", "scalar")}


def postprocess(input_folder: Path, output_folder: Path, postprocessing_file: Path, plans: dict, dataset_json: dict,
                num_processes: int) -> list[str]:
    """Write the postprocessed predictions and return the names of the steps.

    The companions (uncertainty, samples, probabilities as NIfTI, ...) are copied as they are: they describe the
    posterior, which postprocessing does not change. ``cases.csv`` gets the sizes of the postprocessed structures.
    Evaluations and ``.npz`` are left behind.

    Raises:
        UserError: the folders are the same, or the postprocessing file is none of nnU-Net's.
    """
    require_other_folder(input_folder, output_folder)
    functions, arguments = load_postprocessing(postprocessing_file)
    file_ending = dataset_json["file_ending"]
    companions = list_companions(input_folder, file_ending)
    require_writable(output_folder)
    from nnunetv2.postprocessing.remove_connected_components import apply_postprocessing_to_folder

    with staged_predictions(input_folder, file_ending) as predictions, staged_output(output_folder) as stage:
        apply_postprocessing_to_folder(str(predictions), str(stage), functions, arguments, plans, dataset_json,
                                       num_processes)
        copy_geometries(predictions, stage)
        for path in companions:
            if path.name not in EVALUATIONS and path.suffix not in (".npz", ".pkl"):
                shutil.copyfile(path, stage / path.name)
        if (input_folder / CASES_FILE).is_file():
            write_case_table(with_sizes_of(read_case_table(input_folder), stage, dataset_json), stage)
    return [function.__name__ for function in functions]


def load_postprocessing(path: Path) -> tuple[list, list]:
    """The functions of a ``postprocessing.pkl`` and their keyword arguments; nothing but nnU-Net's own steps is loaded.

    Raises:
        UserError: the file is missing, unreadable, or names anything else, which would run when loaded.
    """
    if not path.is_file():
        raise UserError("The postprocessing file does not exist.", found=str(path),
                        expected="the postprocessing.pkl of medsegdiff_find_best_configuration",
                        fix="correct -pp_pkl_file")
    try:
        with path.open("rb") as file:
            functions, arguments = _StepsOnly(file).load()
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError) as failure:
        raise UserError(f"{path} is no postprocessing of nnU-Net.", found=str(failure) or "an incomplete file",
                        expected="the postprocessing.pkl of medsegdiff_find_best_configuration",
                        fix="run medsegdiff_find_best_configuration again") from failure
    return functions, arguments


class _StepsOnly(pickle.Unpickler):
    """Loads nnU-Net's postprocessing functions, numpy's numbers, and no other object."""

    def find_class(self, module: str, name: str):
        if (module, name) in _NUMBERS or (module == _STEPS_MODULE and name.startswith("remove_")):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"a reference to {module}.{name}")
