"""A user's own images and masks.

By default

    images/CASE.png                 or .nii.gz, .nrrd, .mha, .tif, .jpg, .bmp; or images/CASE/ with a DICOM series
    masks/CASE.png                  or labels/, segmentations/, annotations/

Any other layout is told by patterns, relative to the folder: ``{case}`` is the name of the case, ``{patient}`` who it
is, ``{channel}`` one of the channels that lie in files of their own, ``{label}`` one of the classes that do,
``{rater}`` one of several raters; ``*`` is any text. A pattern without a file ending takes any that can be read.

    --images 'scans/{patient}/{case}_{channel}.nii.gz' --channels T1 FLAIR
    --masks 'experts/{rater}/{case}_seg'
    --masks 'masks/{case}_{label}.png' --labels liver tumour
"""

from __future__ import annotations

import json
import re
import unicodedata
from argparse import ArgumentParser, Namespace
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medsegdiff_auto.dataset_conversion.core import picture
from medsegdiff_auto.dataset_conversion.core.checks import on_grid
from medsegdiff_auto.dataset_conversion.core.coding import IGNORE, find_coding
from medsegdiff_auto.dataset_conversion.core.dicom import holds_dicom, read_dicom_series
from medsegdiff_auto.dataset_conversion.core.folder_flags import add_folder_flags
from medsegdiff_auto.dataset_conversion.core.labels import consensus, foreground_of_grey, nested_consensus
from medsegdiff_auto.dataset_conversion.core.layout import shown_entries, unpaired
from medsegdiff_auto.dataset_conversion.core.masks import FILES, GREY, Coding, label_map, read_codes
from medsegdiff_auto.dataset_conversion.core.patterns import Match, fields_of, matches, num_literal
from medsegdiff_auto.dataset_conversion.core.remainder import remainder
from medsegdiff_auto.dataset_conversion.core.source import (TEST, TRAIN, About, Case, CaseProblem, Contents, Converter,
                                                            Omission, Sample)
from medsegdiff_auto.dataset_conversion.core.volume import Volume, read_volume
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.files.listing import visible, visible_below

VOLUME_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd")
ENDINGS = VOLUME_ENDINGS + picture.ENDINGS
MASK_FOLDERS = ("masks", "labels", "segmentations", "annotations", "mask", "label")


@dataclass(frozen=True)
class Detail:
    """What ``read`` needs of a case: its image files in the order of the channels, its masks by rater and class."""

    images: tuple[Path, ...]
    masks: dict[str, dict[str, Path]]
    coding: Coding
    is_nested: bool


class Folder(Converter):
    """Files of your own, NIfTI, NRRD, MHA, DICOM, PNG, JPEG, TIFF or BMP. Volumes become .nii.gz, pictures .png."""

    about = About(title="Your own images and masks", modality="any, 2-D or 3-D", task="any", licence="yours",
                  citation="yours", homepage="your own folder")
    has_raters = True

    def add_options(self, parser: ArgumentParser) -> None:
        add_folder_flags(parser)

    def scan(self, source: Path, options: Namespace) -> Contents:
        masks_pattern = options.masks or _default_masks(source)
        _require_patterns(options, masks_pattern)
        entries, others = entries_of(source)
        channels, classes = options.channels or [], [word.partition("=")[0] for word in options.labels or []]
        of_images = matches(options.images, source, entries, ENDINGS, {"channel": channels})
        of_masks = matches(masks_pattern, source, entries, ENDINGS, {"label": classes})
        images, masks = map(by_case,
                            _apart(of_images, of_masks,
                                   num_literal(options.images) >= num_literal(masks_pattern)))
        of_tests = matches(options.test_images or "", source, entries, ENDINGS, {"channel": channels})
        tests = by_case(of_tests)
        _require_found(source, options, masks_pattern, images, masks)
        _require_raters_apart(masks)
        problems = unpaired(*({name: found[0].path
                               for name, found in of.items()} for of in (images, _without(masks, tests))))
        passed_over, left_out = remainder(source, entries, others,
                                          {match.path for match in (*of_images, *of_masks, *of_tests)},
                                          [options.images, masks_pattern, options.test_images or ""])
        problems += passed_over
        pairs = {name: found for name, found in images.items() if name in masks}
        paired_masks = [match for name in pairs for match in masks[name]]
        coding = find_coding(options, [match.path for match in paired_masks],
                             [match.fields["label"] for match in paired_masks if "label" in match.fields], _read_image)
        of_any_class = by_case(matches(masks_pattern, source, entries, ENDINGS, {}) if coding.kind == FILES else [])
        cases, notes = [], []
        for part, found in ((TRAIN, pairs), (TEST, tests)):
            for name, files in found.items():
                try:
                    _require_known_classes(masks.get(name, []), of_any_class.get(name, []), coding)
                    cases.append(case_of(name, part, files, masks.get(name, []), coding, options))
                except CaseProblem as problem:
                    problems.append(Omission(name, str(problem)))
        if not options.patient and "patient" not in fields_of(options.images):
            notes.append("each case counts as a patient: where a patient has several, give --patient REGEX or "
                         "{patient} in --images")
        file_ending = _file_ending(cases)
        return Contents(dataset_name=re.sub(r"[^A-Za-z0-9_-]", "",
                                            source.absolute().name).lstrip("_-") or "Folder",
                        channel_names=options.channels or _channel_names(cases, file_ending), labels=_labels(
                            coding, options.regions),
                        regions_class_order=_regions_class_order(coding) if options.regions else None, cases=cases,
                        file_ending=file_ending, left_out=left_out, problems=problems, notes=notes, version="yours",
                        folds=_read_folds(options.folds, {case.name for case in cases}))

    def read(self, case: Case) -> Sample:
        detail: Detail = case.detail
        channels, notes = [_read_image(file) for file in detail.images], []
        if len(channels) == 1 and isinstance(channels[0], Volume):
            channels = channels[0].frames()
        raters = {rater: _read_mask(files, detail, notes) for rater, files in detail.masks.items()}
        named = {name: label for name, label in raters.items() if name}
        if len(raters) <= 1:
            return Sample(channels, next(iter(raters.values()), None), named, notes)
        agree = nested_consensus if detail.is_nested else consensus
        sizes = {rater.voxels.shape for rater in raters.values()}
        if len(sizes) > 1:
            raise CaseProblem(
                f"its raters' masks differ in size: {', '.join(' x '.join(map(str, size)) for size in sorted(sizes))}")
        label = channels[0].like(agree([rater.voxels for rater in raters.values()]))
        return Sample(channels, label, named, notes)


def _read_image(path: Path):
    if path.is_dir():
        return read_dicom_series(path)
    return picture.read_picture(path) if path.name.lower().endswith(picture.ENDINGS) else read_volume(path)


def _read_mask(files: Mapping[str, Path], detail: Detail, notes: list[str]):
    """One rater's label map, of one file or of one file per class."""
    coding = detail.coding
    if coding.kind != FILES:
        file = next(iter(files.values()))
        mask, values = read_codes(file, coding.kind, _read_image)
        label = label_map(values, coding, file.name)
        return mask if label.dtype == mask.voxels.dtype and np.array_equal(label, mask.voxels) else mask.like(label)
    label, first = None, None
    for number, name in enumerate(coding.names, start=1):
        if name not in files:
            continue
        mask, values = read_codes(files[name], GREY, _read_image)
        if label is None:
            label, first = np.zeros(values.shape, np.uint8), mask
        if values.shape != label.shape:
            raise CaseProblem(
                f"{files[name].name} has the size {values.shape}, expected {label.shape} as the other classes")
        on_grid(mask, first, files[name].name, [])
        inside = foreground_of_grey(values, files[name].name, coding.threshold)
        covered = np.count_nonzero(inside & (label > 0))
        if covered and not detail.is_nested:
            notes.append(f"{name} lies over another class in {covered} voxels and wins there")
        label[inside] = number
    return first.like(label)


def _default_masks(source: Path) -> str:
    present = [name for name in MASK_FOLDERS if (source / name).is_dir()]
    return f"{present[0] if present else MASK_FOLDERS[0]}/{{case}}"


def _require_patterns(options: Namespace, masks_pattern: str) -> None:
    allowed = {"--images": ("case", "patient", "channel"), "--masks": ("case", "patient", "label", "rater"),
               "--test_images": ("case", "patient", "channel")}
    for flag, pattern in (("--images", options.images), ("--masks", masks_pattern), ("--test_images",
                                                                                     options.test_images or "{case}")):
        fields = fields_of(pattern)
        if "case" not in fields or set(fields) - set(allowed[flag]):
            raise UserError(f"{flag} is not a pattern for it.", found=pattern,
                            expected=f"{{case}}, and perhaps {', '.join(f'{{{name}}}' for name in allowed[flag][1:])}",
                            fix=f"for example {flag} '{flag[2:]}/{{case}}'")
    if "channel" in fields_of(options.images) and not options.channels:
        raise UserError("{channel} in --images needs the channels in their order.", found=options.images,
                        expected="the words that stand in the place of {channel}",
                        fix="for example --channels T1 FLAIR")
    if options.raters and "rater" not in fields_of(masks_pattern):
        raise UserError("--raters needs masks of several raters.", found=f"--masks {masks_pattern}",
                        expected="{rater} in --masks",
                        fix="for example --masks 'experts/{rater}/{case}', or leave out --raters")
    if options.regions and not options.labels:
        raise UserError("--regions needs the structures in their order.", found="no --labels",
                        expected="--labels OUTERMOST ... INNERMOST", fix="for example --regions --labels disc=1 cup=2")
    if options.patient is not None:
        try:
            num_groups = re.compile(options.patient).groups
        except re.error as failure:
            raise UserError("--patient is not a regular expression.", found=f"{options.patient}: {failure}",
                            expected="for example '^(P[0-9]+)_'", fix="correct --patient") from failure
        if num_groups != 1:
            raise UserError("--patient needs one pair of brackets round the patient.", found=options.patient,
                            expected="for example '^(P[0-9]+)_'", fix="correct --patient")


def entries_of(source: Path) -> tuple[list[Path], list[Path]]:
    """The files with an ending that can be read and the folders that hold a DICOM series; and whatever else lies there.
    """
    below = list(visible_below(source))
    folders = [path for path in below if path.is_dir() and holds_dicom(path)]
    inside = set(folders)
    beside = [path for path in below if path not in inside and path.parent not in inside]
    files = [path for path in beside if path.is_file() and path.name.lower().endswith(ENDINGS)]
    return folders + files, [path for path in beside if path not in set(files)]


def _apart(images: list[Match], masks: list[Match], is_image: bool) -> tuple[list[Match], list[Match]]:
    """Both lists without what both name: that ``is_image``, or else a mask."""
    both = {match.path for match in images} & {match.path for match in masks}
    return ([match for match in images if is_image or match.path not in both],
            [match for match in masks if not is_image or match.path not in both])


def by_case(found: list[Match]) -> dict[str, list[Match]]:
    cases: dict[str, list[Match]] = defaultdict(list)
    for match in found:
        cases[unicodedata.normalize("NFC", match.case)].append(match)
    return dict(cases)


def _file_name(name: str) -> str:
    """A name as part of a file's name; letters and digits of any language stay."""
    return re.sub(r"[^\w.-]", "_", unicodedata.normalize("NFC", name)).lstrip("._-") or "case"


def _require_raters_apart(masks: dict[str, list[Match]]) -> None:
    raters = defaultdict(set)
    for match in (match for found in masks.values() for match in found):
        raters[_file_name(match.fields.get("rater", ""))].add(match.fields.get("rater", ""))
    alike = next((sorted(names) for names in raters.values() if len(names) > 1), None)
    if alike:
        raise UserError("Several raters would have one name.", found=", ".join(alike),
                        expected="names that differ in letters, digits, ., _ or -", fix="rename their folders or files")


def _require_known_classes(masks: list[Match], of_any_class: list[Match], coding: Coding) -> None:
    """Checks that no mask of a case that lacks a class has a word that is no class: it may be misspelled.

    Raises:
        CaseProblem: there is one.
    """
    missing = sorted(set(coding.names) - {match.fields.get("label") for match in masks})
    unknown = [match.path.name for match in of_any_class if match.fields["label"] not in coding.names]
    if missing and unknown:
        raise CaseProblem(f"{unknown[0]} is none of the classes of --labels, while {', '.join(missing)} is missing")


def _without(masks: dict[str, list[Match]], tests: dict[str, list[Match]]) -> dict[str, list[Match]]:
    return {name: found for name, found in masks.items() if name not in tests}


def _require_found(source: Path, options: Namespace, masks_pattern: str, images: dict[str, list[Match]],
                   masks: dict[str, list[Match]]) -> None:
    for flag, pattern, found in (("--images", options.images, images), ("--masks", masks_pattern, masks)):
        if not found:
            raise UserError(f"{source} has no file that {flag} names: {pattern} is missing.",
                            found=shown_entries(source),
                            expected=f"files like {pattern.replace('{case}', 'CASE')}, ending in {' '.join(ENDINGS)}",
                            fix=f"say where they are, for example {flag} 'folder/{{case}}'")
    if not set(images) & set(masks):
        stems = [re.fullmatch(r"(.+)(_\d{4})", name) for name in images]
        has_channels = all(stem and stem[1] in masks for stem in stems)
        numbers = sorted({stem[2] for stem in stems}) if has_channels else []
        fix = ("rename the files, or say with --images and --masks what is the name of the case" if not numbers else
               f"--images '{options.images}{numbers[0]}'" if len(numbers) == 1 else
               f"--images '{options.images}_{{channel}}' --channels {' '.join(number[1:] for number in numbers)}")
        raise UserError("No image has the name of a mask.", found=f"images {_few(images)}; masks {_few(masks)}",
                        expected="the same name for the image and the mask of a case", fix=fix)


def _few(names: Mapping[str, object]) -> str:
    return ", ".join(sorted(names)[:3]) + (", ..." if len(names) > 3 else "")


def case_of(name: str, part: str, images: list[Match], masks: list[Match], coding: Coding, options: Namespace) -> Case:
    channels = {match.fields.get("channel", ""): match.path for match in images}
    if len(channels) < len(images):
        raise CaseProblem(f"several images: {', '.join(sorted(match.path.name for match in images)[:3])}")
    if "channel" in fields_of(options.images):
        missing = [channel for channel in options.channels if channel not in channels]
        if missing:
            raise CaseProblem(f"the channel {', '.join(missing)} is missing")
        files = tuple(channels[channel] for channel in options.channels)
    else:
        files = tuple(channels.values())
    by_rater: dict[str, dict[str, Path]] = defaultdict(dict)
    for match in masks:
        rater, label = match.fields.get("rater", ""), match.fields.get("label", "")
        if label in by_rater[rater]:
            raise CaseProblem(f"several masks: {by_rater[rater][label].name} and {match.path.name}")
        by_rater[rater][label] = match.path
    patients = sorted({match.fields["patient"] for match in (*images, *masks) if "patient" in match.fields})
    if len(patients) > 1:
        raise CaseProblem(f"its files name several patients: {', '.join(patients)}")
    name = _file_name(name)
    patient = images[0].fields.get("patient", name)
    if options.patient:
        found = re.search(options.patient, name)
        if not found:
            raise CaseProblem(f"--patient {options.patient} does not find a patient in its name")
        patient = found.group(1)
    raters = {rater and _file_name(rater): dict(files) for rater, files in sorted(by_rater.items())}
    listed = [
        file for path in (*files, *(match.path for match in masks))
        for file in ([entry for entry in visible(path) if entry.is_file()] if path.is_dir() else [path])
    ]
    return Case(name, patient, tuple(listed), Detail(files, raters, coding, options.regions), part)


def _labels(coding: Coding, is_nested: bool) -> dict[str, int | list[int]]:
    innermost = len(coding.names) - (IGNORE in coding.names)
    return {"background": 0} | {name: [*range(number, innermost + 1)] if is_nested and name != IGNORE else number
                                for number, name in enumerate(coding.names, start=1)}


def _regions_class_order(coding: Coding) -> list[int]:
    return [number for number, name in enumerate(coding.names, start=1) if name != IGNORE]


def _file_ending(cases: list[Case]) -> str:
    are_pictures = {
        case.detail.images[0].name.lower().endswith(picture.ENDINGS) and not case.detail.images[0].is_dir(): case
        for case in cases
    }
    if len(are_pictures) == 2:
        raise UserError("The folder holds pictures and volumes.",
                        found=f"{are_pictures[True].files[0].name}, {are_pictures[False].files[0].name}",
                        expected="one kind in a dataset",
                        fix="convert them one after the other, with patterns that have an ending")
    return ".png" if True in are_pictures else ".nii.gz"


def _channel_names(cases: list[Case], file_ending: str) -> list[str]:
    """Names by what the first readable image has: R, G, B of a colour picture, else image."""
    for case in cases:
        try:
            image = _read_image(case.detail.images[0])
        except CaseProblem:
            continue
        if file_ending == ".png":
            return ["R", "G", "B"] if image.voxels.ndim == 3 else ["image"]
        count = len(image.frames())
        return ["image"] if count == 1 else [f"image_{number}" for number in range(count)]
    return ["image"]


def _read_folds(path: str | None, cases: set[str]) -> list[list[str]] | None:
    if path is None:
        return None
    try:
        folds = [list(fold["val"]) for fold in json.loads(Path(path).read_text(encoding="utf-8"))]
        unknown = sorted({name for fold in folds for name in fold} - cases)
        found = f"the unknown case {unknown[0]}" if unknown else ""
    except (OSError, ValueError, TypeError, KeyError) as failure:
        found = f"{type(failure).__name__}: {failure}"
    if found:
        raise UserError(f"{path} holds no folds of these cases.", found=found, expected='[{"train": [...], "val": '
                                                                                        '[...]}, ...]',
                        fix="correct --folds, or leave it out: then the folds are drawn by patient")
    return folds


CONVERTER = Folder()
