"""nnU-Net's three folders and the names of the datasets in them. Free of torch and nnunetv2."""

import difflib
import os
import re
from pathlib import Path

from medsegdiff_auto.errors import UserError

FOLDER_CONTENTS = {
    "nnUNet_raw": "the raw datasets",
    "nnUNet_preprocessed": "the plans and preprocessed datasets",
    "nnUNet_results": "the trained models",
}

OUR_TRAINER, OUR_PLANS = "nnUNetTrainerMedSegDiff", "MedSegDiffPlans"
UPGRADED_PLANS = "MedSegDiffUpgrade_"
"""Before the name of the plans of the nnU-Net that is upgraded."""

_DATASET_NAME = re.compile(r"Dataset(\d{3})_.+")


def use_folders(raw: str | Path | None = None, preprocessed: str | Path | None = None,
                results: str | Path | None = None) -> None:
    """Set nnU-Net's environment variables from the folders given; what is None stays as the environment has it."""
    for variable, folder in zip(FOLDER_CONTENTS, (raw, preprocessed, results)):
        if folder is not None:
            os.environ[variable] = str(Path(folder).expanduser().absolute())


def require_folder(variable: str) -> Path:
    """The folder that the environment ``variable`` (nnUNet_raw, nnUNet_preprocessed, nnUNet_results) names.

    Raises:
        UserError: the variable is unset or does not name an existing folder.
    """
    contents = FOLDER_CONTENTS[variable]
    value = os.environ.get(variable)
    if not value:
        raise UserError(f"The environment variable {variable} is not set.", found=f"{variable} is unset",
                        expected=f"the folder that holds {contents}", fix=f"export {variable}=/path/to/{variable}")
    folder = Path(value)
    if not folder.is_dir():
        raise UserError(f"The folder that {variable} names does not exist.",
                        found=f"{variable}={value}{' (a file)' if folder.exists() else ''}",
                        expected=f"the folder that holds {contents}",
                        fix=f"correct {variable}, or create the folder: mkdir -p {value}")
    return folder


def model_name(trainer: str, plans: str, configuration: str) -> str:
    """nnU-Net's name of a model's folder, and of the model."""
    return f"{trainer}__{plans}__{configuration}"


def model_folder(dataset: str | int, configuration: str, plans: str = OUR_PLANS, trainer: str = OUR_TRAINER) -> Path:
    """The folder of a model of a dataset, given by name or ID, in ``nnUNet_results``; it need not exist.

    Raises:
        UserError: the variable is not set, or the dataset is unknown.
    """
    return require_folder("nnUNet_results") / resolve_dataset(dataset) / model_name(trainer, plans, configuration)


def preprocessed_folder(dataset: str | int) -> Path:
    """The folder of a dataset, given by name or ID, in ``nnUNet_preprocessed``; it need not exist.

    Raises:
        UserError: the variable is not set, or the dataset is unknown.
    """
    return require_folder("nnUNet_preprocessed") / resolve_dataset(dataset)


def known_datasets() -> list[str]:
    """The sorted names ``DatasetXXX_Name`` of all datasets in those of nnU-Net's three folders that exist."""
    names = set()
    for variable in FOLDER_CONTENTS:
        folder = Path(os.environ.get(variable) or os.devnull)
        if folder.is_dir():
            names.update(
                entry.name for entry in folder.iterdir() if entry.is_dir() and _DATASET_NAME.fullmatch(entry.name))
    return sorted(names)


def resolve_dataset(dataset: str | int) -> str:
    """The name ``DatasetXXX_Name`` of a dataset given by that name or by its ID (``4``, ``"4"``, ``"004"``).

    Raises:
        UserError: no folder is set, the dataset is unknown, or its ID belongs to several names.
    """
    if not any(os.environ.get(variable) for variable in FOLDER_CONTENTS):
        require_folder("nnUNet_raw")
    known = known_datasets()
    wanted = str(dataset)
    if wanted in known:
        return wanted
    matches = [name for name in known if wanted.isdecimal() and int(name[7:10]) == int(wanted)]
    if len(matches) > 1:
        raise UserError(f"The dataset ID {wanted} belongs to several datasets.", found=", ".join(matches),
                        expected="one name for each ID", fix="give the full name, or rename all but one of them")
    if matches:
        return matches[0]
    raise UserError(f"There is no dataset {wanted}.", found=wanted, expected=_list_of_datasets(known),
                    fix=_nearest_dataset(wanted, known))


def _list_of_datasets(known: list[str]) -> str:
    if not known:
        return "a dataset in nnU-Net's folders, which hold none"
    return f"the ID or the name of one of {', '.join(known)}"


def _nearest_dataset(wanted: str, known: list[str]) -> str:
    by_any_name = {name.lower(): name for name in known}
    by_any_name.update({name[11:].lower(): name for name in known})
    matches = difflib.get_close_matches(wanted.lower(), by_any_name, n=2, cutoff=0.6)
    nearest = list(dict.fromkeys(by_any_name[match] for match in matches))
    if nearest:
        return f"did you mean {' or '.join(nearest)}?"
    folder = os.environ.get("nnUNet_raw") or "the folder that nnUNet_raw names"
    number = int(wanted) if wanted.isdecimal() else 1
    return f"put the dataset into {folder} as Dataset{number:03d}_Name, or give another ID"
