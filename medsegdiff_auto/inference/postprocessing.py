"""Applying the postprocessing that cross-validation chose, by nnU-Net's function, to a prediction folder with
companions.
"""

import shutil
from pathlib import Path

from medsegdiff_auto.files.case_names import ends_like_a_companion
from medsegdiff_auto.inference.case_table import read_case_table, with_sizes_of, write_case_table
from medsegdiff_auto.checks.inputs import require_other_folder, require_writable
from medsegdiff_auto.files.nifti_geometry import copy_geometries
from medsegdiff_auto.nnunet.postprocessing_steps import load_postprocessing
from medsegdiff_auto.nnunet.known_names import require_known_names
from medsegdiff_auto.files.prediction_folder import CASES_FILE, list_companions, staged_predictions
from medsegdiff_auto.locks import alone_in
from medsegdiff_auto.writing import staged_output

EVALUATIONS = ("summary.json", "metrics.csv", "metrics.json")  # of the predictions before postprocessing


def postprocess(input_folder: Path, output_folder: Path, postprocessing_file: Path, plans: dict, dataset_json: dict,
                num_processes: int) -> list[str]:
    """Write the postprocessed predictions and return the names of the steps.

    The companions (uncertainty, samples, probabilities as NIfTI, ...) are copied as they are: they describe the
    posterior, which postprocessing does not change. ``cases.csv`` gets the sizes of the postprocessed structures.
    Evaluations, ``.npz``, and what holds the masks of before (``.seg.nrrd``, ``CASE.dcm``) are left behind.

    Raises:
        UserError: the folders are the same, the postprocessing file is none of nnU-Net's, or the plans name anything
            else than nnU-Net's classes.
    """
    require_other_folder(input_folder, output_folder)
    require_known_names(plans)
    functions, arguments = load_postprocessing(postprocessing_file)
    file_ending = dataset_json["file_ending"]
    companions = list_companions(input_folder, file_ending)
    require_writable(output_folder)
    from nnunetv2.postprocessing.remove_connected_components import apply_postprocessing_to_folder

    with (alone_in(output_folder, f"Another command writes into {output_folder}"),
          staged_predictions(input_folder, file_ending) as predictions, staged_output(output_folder) as stage):
        apply_postprocessing_to_folder(str(predictions), str(stage), functions, arguments, plans, dataset_json,
                                       num_processes)
        copy_geometries(predictions, stage)
        for path in companions:
            if path.name not in EVALUATIONS and path.suffix not in (".npz", ".pkl") and not _holds_masks(path):
                shutil.copyfile(path, stage / path.name)
        if (input_folder / CASES_FILE).is_file():
            write_case_table(with_sizes_of(read_case_table(input_folder), stage, dataset_json), stage)
    return [function.__name__ for function in functions]


def _holds_masks(companion: Path) -> bool:
    """Whether a file for viewers holds the masks of before; a DICOM file of probabilities does not."""
    return companion.name.endswith(".seg.nrrd") or (companion.suffix == ".dcm"
                                                    and not ends_like_a_companion(companion.stem))
