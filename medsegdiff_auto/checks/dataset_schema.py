"""The schema of ``dataset.json``: types, the keys of nnU-Net's version 1, and what its regions make of a prediction.

Where one cause explains all findings, it is the only one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, StrictInt, StrictStr

from medsegdiff_auto.findings import Finding
from medsegdiff_auto.schemas import validated

FILE = "dataset.json"
KEYS_OF_VERSION_1 = ("modality", "training", "test", "numTest", "tensorImageSize")
EXAMPLES = {
    "numTraining": "numTraining: 20", "file_ending": 'file_ending: ".nii.gz"',
    "regions_class_order": "regions_class_order: [1, 2]",
    "codes": 'codes: {"liver": {"value": "10200004", "scheme": "SCT", "meaning": "Liver"}}',
    "dataset": 'dataset: {"CASE": {"images": ["imagesTr/CASE_0000.nii.gz"], "label": "labelsTr/CASE.nii.gz"}}'}


@dataclass(frozen=True)
class ListedCase:
    """The files of a case that ``dataset.json`` lists itself."""

    images: Annotated[list[StrictStr], Field(min_length=1)]
    label: StrictStr


@dataclass(frozen=True)
class Code:
    """What a structure is called in a terminology, with DICOM's limits: ``SCT``, ``10200004``, ``Liver``."""

    value: Annotated[StrictStr, Field(min_length=1, max_length=16)]
    scheme: Annotated[StrictStr, Field(min_length=1, max_length=16)]
    meaning: Annotated[StrictStr, Field(min_length=1, max_length=64)]


@dataclass(frozen=True)
class DatasetJson:
    """Types of the keys that nnU-Net reads; those that are missing are named elsewhere, others are nobody's concern."""

    numTraining: Annotated[StrictInt, Field(ge=0)] = 0
    file_ending: Annotated[StrictStr, Field(pattern=r"^[^/\\\x00]*$")] = ".nii.gz"  # no path, which leads elsewhere
    dataset: Annotated[dict[StrictStr, ListedCase], Field(min_length=1)] | None = None
    regions_class_order: list[StrictInt] | None = None
    codes: dict[StrictStr, Code] | None = None


def the_cause(content: dict) -> Finding | None:
    """The one finding about a ``dataset.json`` beside which no other counts; None where there is none such."""
    if "channel_names" not in content and any(key in content for key in KEYS_OF_VERSION_1):
        theirs = [key for key in KEYS_OF_VERSION_1 if key in content]
        return Finding(FILE, "is of nnU-Net's version 1", ", ".join(theirs),
                       'channel_names in the place of modality, labels as {"name": number}, numTraining, file_ending',
                       "nnUNetv2_convert_old_nnUNet_dataset OLD_FOLDER NEW_NAME, which also adds _0000 to the images")
    return next(iter(_type_findings(content, "file_ending", "dataset")), None)


def type_findings(content: dict) -> list[Finding]:
    """What is not of the type that nnU-Net expects, beside labels and the names of channels."""
    findings = _type_findings(content, "numTraining", "regions_class_order", "codes")
    return findings or _codes_findings(content)


def _codes_findings(content: dict) -> list[Finding]:
    """Codes of what is no label."""
    labels = content.get("labels")
    strange = [name for name in content.get("codes") or {} if isinstance(labels, dict) and name not in labels]
    return strange and [Finding(FILE, "has codes of what is no label", ", ".join(strange), ", ".join(labels),
                                "name the labels in codes as in labels")]


def region_order_findings(labels: dict[str, Any], order: list[int]) -> list[Finding]:
    """What ``regions_class_order`` makes of a perfect prediction: the label map that it writes must be the reference.

    Every region writes its label over those before it, and so what a voxel of a label ends as has to belong to the
    same regions as that label.

    Args:
        labels: of regions, checked before.
        order: one label for each region but the background.
    """
    regions = [(name, set(entry if isinstance(entry, list) else [entry])) for name, entry in labels.items()
               if name != "ignore" and entry not in (0, [0])]
    foreign = [f"{written} for {name}" for (name, values), written in zip(regions, order) if written not in values]
    if foreign:
        return [Finding(FILE, "has a regions_class_order with labels that are not of their regions", ", ".join(foreign),
                        "; ".join(f"{name} one of {sorted(values)}" for name, values in regions),
                        "give each region, in the order of labels, the label that is its alone")]
    for value in sorted(set().union(*(values for _, values in regions))):
        of_value = [name for name, values in regions if value in values]
        written = next(label for (_, values), label in zip(reversed(regions), reversed(order)) if value in values)
        of_written = [name for name, values in regions if written in values]
        if of_written != of_value:
            return [Finding(FILE, "has a regions_class_order that overwrites a region", f"{order}: label {value} "
                            f"({', '.join(of_value)}) is written as {written} ({', '.join(of_written)})",
                            "outer regions before inner ones",
                            "order labels and regions_class_order from the outermost region to the innermost")]
    return []


def _type_findings(content: dict, *keys: str) -> list[Finding]:
    try:
        validated(DatasetJson, {key: content[key] for key in keys if key in content})
    except ValueError as failure:
        return [Finding(FILE, "has a value that nnU-Net cannot use", str(failure),
                        "; ".join(EXAMPLES[key] for key in keys if key in content), "correct it in dataset.json")]
    return []
