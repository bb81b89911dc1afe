"""What is relied on of nnU-Net's inside, and the version that it was checked against.

    module         contract
    inheritance    how one configuration of the plans inherits another
    plans          a section of our own among nnU-Net's keys
    managers       nnU-Net's classes over plans and labels, and the network that a configuration states
    properties     what its readers and its preprocessing remember of a case
    resampling     from a file's grid to the network's: order of axes, spacing, shape
    windows        the tiles of its sliding window, and the weights of their voxels
    dataset_files  names and content of the preprocessed folder
    postprocessing_steps    its postprocessing.pkl, and its steps as plain values
    readers        which of its readers reads a dataset
    structures     what ``dataset.json`` calls a label or a region

``tests/nnunet`` checks them by value against the nnU-Net that is installed. What is subclassed (planners,
trainer, predictor, dataset) is not described here: it stands where it is used.
"""

from __future__ import annotations

from importlib.metadata import version

from medsegdiff_auto.errors import UserError

CHECKED_AGAINST = "2.8.1"


def require_checked_version(installed: str | None = None) -> None:
    """Checks that nnU-Net is of the minor version that this package was checked against.

    Args:
        installed: None for the version that is installed.

    Raises:
        UserError: it is another.
    """
    installed = installed or version("nnunetv2")
    checked = CHECKED_AGAINST.split(".")[:2]
    if installed.split(".")[:2] != checked:
        raise UserError("This nnU-Net is of a version that MedSegDiff-Auto was not checked against.",
                        found=f"nnunetv2 {installed}",
                        expected=f"nnunetv2 {'.'.join(checked)}, at best {CHECKED_AGAINST}",
                        fix=f"pip install nnunetv2=={CHECKED_AGAINST}")
