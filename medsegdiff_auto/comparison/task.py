"""Which dataset is compared: ``dataset.json`` of the predictions or of the references, and its name."""

from __future__ import annotations

from pathlib import Path

from medsegdiff_auto.checks.dataset_json import labels_findings
from medsegdiff_auto.comparison.methods import Methods
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.findings import errors_among
from medsegdiff_auto.nnunet.known_names import read_json_object

DATASET_JSON = "dataset.json"


def dataset_of(methods: Methods, references: Path, file: Path | None = None) -> tuple[dict, str]:
    """``dataset.json`` and the name of the task.

    From the file where one is given, else of the prediction folders, else beside the reference folder.

    Raises:
        UserError: there is none, it is damaged, or those of two methods name other labels.
    """
    beside, own = references.resolve().parent, [folder / DATASET_JSON for folder in methods.folders.values()]
    files = [file] if file is not None else [one for one in own if one.is_file()]
    if not files and (beside / DATASET_JSON).is_file():
        files = [beside / DATASET_JSON]
    if not files:
        raise UserError(f"There is no {DATASET_JSON} that names the labels.", found="none in the prediction folders",
                        expected=f"{DATASET_JSON} of nnU-Net", fix="give it with -djfile")
    contents = {one: read_json_object(one) for one in files}
    first = contents[files[0]]
    missing = [key for key in ("labels", "file_ending") if key not in first]
    if missing:
        raise UserError(f"{files[0]} lacks the key {missing[0]}.", found=", ".join(first) or "no key",
                        expected="labels and file_ending", fix="correct the file")
    for finding in errors_among(labels_findings(first)):
        raise finding.as_user_error()
    for one, content in contents.items():
        for key in ("labels", "file_ending"):
            if content.get(key) != first[key]:
                raise UserError(f"The methods were trained on other data: {key} differs.",
                                found=f"{content.get(key)} in {one}", expected=f"{first[key]}, as in {files[0]}",
                                fix="compare methods of one dataset, or give its dataset.json with -djfile")
    return first, str(first.get("name") or beside.name)
