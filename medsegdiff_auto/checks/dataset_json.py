"""What nnU-Net asks of a ``dataset.json``, and which files belong to which case."""

import dataclasses
import json
import os
import re
import shlex
from pathlib import Path

from medsegdiff_auto.checks.dataset_schema import region_order_findings, the_cause, type_findings
from medsegdiff_auto.files.case_names import EXPECTED, case_name_fault
from medsegdiff_auto.files.listing import commonest_ending, files_of, is_foreign
from medsegdiff_auto.findings import Finding

REQUIRED_KEYS = {
    "channel_names": '{"0": "CT"}',
    "labels": '{"background": 0, "organ": 1}',
    "numTraining": "the number of training cases",
    "file_ending": '".nii.gz"',
}
_FILE = "dataset.json"
_CHANNEL = re.compile(r"(.+)_(\d{4})")


@dataclasses.dataclass(frozen=True)
class TrainingCase:
    """The files of one case: ``images`` by channel number, and the label map, which may be missing on the disk."""

    images: dict[int, Path]
    label: Path


def read_dataset_json(raw_dataset_folder: Path) -> tuple[dict, list[Finding]]:
    """The content of ``dataset.json`` (empty if it cannot be read) and what is wrong with it."""
    path = raw_dataset_folder / _FILE
    if not path.is_file():
        return {}, [Finding(_FILE, "does not exist", f"no such file in {raw_dataset_folder}", "nnU-Net's dataset.json",
                            f"write it with the keys {', '.join(REQUIRED_KEYS)}")]
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as failure:
        return {}, [
            Finding(_FILE, "is not valid JSON", str(failure), "a JSON object", "correct the file at that place")
        ]
    if not isinstance(content, dict):
        return {}, [
            Finding(_FILE, "is not a JSON object",
                    type(content).__name__, '{"labels": ..., ...}', "correct the file")
        ]
    cause = the_cause(content)
    if cause is not None:
        return {}, [cause]
    findings = [
        Finding(_FILE, f"lacks the key {key}", ", ".join(content) or "no key", f"{key}: {example}", f"add {key}")
        for key, example in REQUIRED_KEYS.items() if key not in content
    ]
    return content, findings + type_findings(content) + _channel_names_findings(content) + labels_findings(content)


def labels_findings(dataset_json: dict) -> list[Finding]:
    """What is wrong with ``labels`` and ``regions_class_order``: names, whole numbers, 0 upwards without a gap."""
    labels = dataset_json.get("labels")
    if labels is None:
        return []
    example = REQUIRED_KEYS["labels"]
    if not _are_labels(labels):
        return [_label_finding("has labels that are not names with numbers", json.dumps(labels), example,
                               "write each label as \"name\": number, or as \"name\": [numbers] for a region")]
    if labels.get("background") != 0:
        return [_label_finding("does not declare background as label 0", json.dumps(labels), example,
                               "add \"background\": 0")]
    values = sorted({value for name, entry in labels.items() if name != "ignore" for value in _values(entry)})
    findings = []
    if values != list(range(len(values))):
        findings.append(_label_finding("has labels that are not consecutive", _join(values), _join(range(len(values))),
                                       "renumber the labels in dataset.json and in the label files"))
    if "ignore" in labels and labels["ignore"] != values[-1] + 1:
        findings.append(
            _label_finding("has an ignore label that is not the highest label", f"ignore {labels['ignore']}",
                           f"ignore {values[-1] + 1}", "renumber it in dataset.json and in the label files"))
    return findings + _regions_findings(dataset_json, labels)


def num_channels(dataset_json: dict) -> int | None:
    """The number of channels of an image, None where ``channel_names`` does not say."""
    names = dataset_json.get("channel_names")
    return len(names) if isinstance(names, dict) else None


def label_names(dataset_json: dict) -> dict[int, str] | None:
    """The values that may occur in a label file, with their names; None where ``labels`` does not say.

    A value that belongs to several nested regions bears all their names.
    """
    if not _are_labels(dataset_json.get("labels")):
        return None
    names: dict[int, list[str]] = {}
    for name, entry in dataset_json["labels"].items():
        for value in _values(entry):
            names.setdefault(value, []).append(name)
    return {value: " + ".join(parts) for value, parts in sorted(names.items())}


def training_cases(raw_dataset_folder: Path, dataset_json: dict) -> tuple[dict[str, TrainingCase], list[Finding]]:
    """The training cases by name, as nnU-Net would list them, and the files that belong to none.

    Without a case the findings say why there is none.
    """
    if isinstance(dataset_json.get("dataset"), dict):
        return _listed_cases(raw_dataset_folder, dataset_json["dataset"])
    findings = [Finding(folder, "does not exist", f"no such folder in {raw_dataset_folder}",
                        f"the folder of the training {folder[:-2]}", "create it, with nnU-Net's file names")
                for folder in ("imagesTr", "labelsTr") if not (raw_dataset_folder / folder).is_dir()]
    if findings:
        return {}, findings
    ending = dataset_json["file_ending"]
    images, findings = channel_files(raw_dataset_folder / "imagesTr", ending, "imagesTr/", is_for_training=True)
    common = None if images else commonest_ending(raw_dataset_folder / "imagesTr")
    if common not in (None, ending):
        return {}, [_ending_finding(ending, common)]
    findings += _hidden_findings(raw_dataset_folder / "imagesTr", ending)
    labels, passed_over = files_of(raw_dataset_folder / "labelsTr", ending, "labelsTr/")
    findings += passed_over
    cases = {
        case: TrainingCase(files, raw_dataset_folder / "labelsTr" / f"{case}{ending}")
        for case, files in images.items()
    }
    for path in labels:
        if path.name[:-len(ending)] not in cases:
            findings.append(
                Finding(f"labelsTr/{path.name}", "is a label without an image", f"no image {_image_name(path, ending)}",
                        f"imagesTr/{_image_name(path, ending)}", "add the image, or remove the label"))
    return cases, findings


def channel_files(folder: Path, file_ending: str, prefix: str = "",
                  is_for_training: bool = False) -> tuple[dict[str, dict[int, Path]], list[Finding]]:
    """The files ``CASE_XXXX`` of a folder as ``{case: {channel number: path}}``, and findings for all others."""
    cases: dict[str, dict[int, Path]] = {}
    files, findings = files_of(folder, file_ending, prefix)
    for path in files:
        name = channel_of(path, file_ending)
        fault = name and case_name_fault(name[0], is_for_training)
        if name is None:
            findings.append(Finding(f"{prefix}{path.name}", "has no channel number in its name", path.name,
                                    f"{path.name[:-len(file_ending)]}_0000{file_ending}", "rename the file"))
        elif fault:
            findings.append(Finding(f"{prefix}{path.name}", f"belongs to a case whose name {fault}", name[0], EXPECTED,
                                    "rename the files of the case"))
        else:
            cases.setdefault(name[0], {})[name[1]] = path
    return cases, findings


def channel_of(path: Path, file_ending: str) -> tuple[str, int] | None:
    """Case and channel number that a name ``CASE_XXXX`` with this ending says; None for another name."""
    name = _CHANNEL.fullmatch(path.name[:-len(file_ending)])
    return None if name is None else (name.group(1), int(name.group(2)))


def _listed_cases(raw_dataset_folder: Path, listing: dict) -> tuple[dict[str, TrainingCase], list[Finding]]:
    def locate(file: str) -> Path:
        return raw_dataset_folder / os.path.expandvars(file)

    faults = {case: case_name_fault(case, is_for_training=True) for case in listing}
    findings = [Finding(_FILE, f"lists a case whose name {fault}", case, EXPECTED, 'rename the case in "dataset"')
                for case, fault in faults.items() if fault]
    return {
        case: TrainingCase({channel: locate(file)
                            for channel, file in enumerate(files["images"])}, locate(files["label"]))
        for case, files in listing.items() if not faults[case]
    }, findings


def _ending_finding(file_ending: str, common: str) -> Finding:
    fix = f'set "file_ending" to "{common}"' if common == common.lower() else \
        f'rename the files to end in {common.lower()}, and set "file_ending" to "{common.lower()}"'
    return Finding(_FILE, "has a file_ending that no image of imagesTr has", f"file_ending {json.dumps(file_ending)}",
                   f"{json.dumps(common)}, as the images have", fix)


def _hidden_findings(images_folder: Path, file_ending: str) -> list[Finding]:
    """One finding for all hidden files that nnU-Net would take for images."""
    hidden = sorted(path.name for path in images_folder.iterdir()
                    if is_foreign(path.name) and path.name.endswith(file_ending))
    are_of_macos = all(name.startswith("._") for name in hidden)
    fix = f"find {shlex.quote(str(images_folder))} -name '._*' -delete" if are_of_macos else "rename or remove them"
    return hidden and [Finding(f"imagesTr/{hidden[0]}", "is a hidden file that nnU-Net would take for an image",
                               f"{len(hidden)} of them" + " (macOS leaves them on other disks)" * are_of_macos,
                               "images only", fix)]


def _channel_names_findings(dataset_json: dict) -> list[Finding]:
    names = dataset_json.get("channel_names")
    if names is None or (isinstance(names, dict) and sorted(names) == sorted(map(str, range(len(names)))) and names):
        return []
    return [Finding(_FILE, "has channel_names that are not numbered from 0", json.dumps(names),
                    REQUIRED_KEYS["channel_names"], "number the channels \"0\", \"1\", ... as in the file names")]


def _regions_findings(dataset_json: dict, labels: dict) -> list[Finding]:
    if not any(isinstance(entry, list) and len(entry) > 1 for entry in labels.values()):
        return []
    num_regions = sum(1 for name, entry in labels.items() if name != "ignore" and set(_values(entry)) != {0})
    order = dataset_json.get("regions_class_order")
    if isinstance(order, list) and len(order) == num_regions:
        return region_order_findings(labels, order)
    return [_label_finding("has regions without a fitting regions_class_order", json.dumps(order),
                           f"a list of {num_regions} labels, one for each region",
                           "add regions_class_order: the label that each region writes, outermost region first")]


def _label_finding(check: str, found: str, expected: str, fix: str) -> Finding:
    return Finding(_FILE, check, found, expected, fix)


def _are_labels(labels) -> bool:
    return isinstance(labels, dict) and bool(labels) and all(_are_label_values(entry) for entry in labels.values())


def _are_label_values(entry) -> bool:
    values = entry if isinstance(entry, list) else [entry]
    return bool(values) and all(isinstance(value, int) and not isinstance(value, bool) for value in values)


def _values(entry: int | list[int]) -> list[int]:
    return entry if isinstance(entry, list) else [entry]


def _image_name(label: Path, file_ending: str) -> str:
    return f"{label.name[:-len(file_ending)]}_0000{file_ending}"


def _join(values) -> str:
    return ", ".join(str(value) for value in values)
