"""Images without masks in the form of a dataset that was converted from a user's own folder, for prediction."""

from __future__ import annotations

import json
import re
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medsegdiff_auto.dataset_conversion.core import picture
from medsegdiff_auto.dataset_conversion.core.checks import checked
from medsegdiff_auto.dataset_conversion.core.layout import shown_entries
from medsegdiff_auto.dataset_conversion.core.patterns import fields_of, matches
from medsegdiff_auto.dataset_conversion.core.source import TEST, Case, CaseProblem, Omission
from medsegdiff_auto.dataset_conversion.folder import CONVERTER, ENDINGS, by_case, case_of, entries_of
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.files.case_names import case_name_fault

ONE_CHANNEL = "{case}"
PICTURES_BECOME = ".png"


@dataclass(frozen=True)
class NewImages:
    """Where images lie, and what they are to be.

    Attributes:
        dataset_json: of the dataset whose images they are like.
        pattern: of the files, relative to the folder, with {case} and perhaps {channel}.
        channels: the words in the place of {channel}, in order.
    """

    folder: Path
    dataset_json: dict
    pattern: str = ONE_CHANNEL
    channels: tuple[str, ...] = ()

    @property
    def file_ending(self) -> str:
        return self.dataset_json["file_ending"]

    def cases(self) -> tuple[list[Case], list[Omission]]:
        """The cases by name, and what cannot be one; ``CASE_0000`` is the case CASE where all are so named.

        Raises:
            UserError: the folder is missing, or holds no image of this kind.
        """
        if not self.folder.is_dir():
            raise UserError(f"{self.folder} is no folder of images.",
                            found="a file" if self.folder.exists() else "nothing there",
                            expected="a folder of images", fix="correct the folder of the new images")
        options = Namespace(images=self.pattern, channels=list(self.channels), patient=None, regions=False)
        found = by_case(matches(self.pattern, self.folder, entries_of(self.folder)[0], ENDINGS,
                                {"channel": self.channels}))
        cases, problems = [], []
        for name, files in _without_channel_number(found, self.pattern).items():
            try:
                case = case_of(name, TEST, files, [], None, options)
                fault = case_name_fault(case.name)
                if fault:
                    raise CaseProblem(f"its name {fault}: rename its files")
                if self._is_picture(case) != (self.file_ending == PICTURES_BECOME):
                    raise CaseProblem(f"{case.detail.images[0].name} is a {self._kind(case)}")
                cases.append(case)
            except CaseProblem as problem:
                problems.append(Omission(name, str(problem)))
        twice = sorted({case.name for case in cases if [other.name for other in cases].count(case.name) > 1})
        if twice or not cases:
            raise UserError(
                f"Several new images have the name {twice[0]}." if twice
                else f"{self.folder} holds no new image that the model can take.",
                found=shown_entries(self.folder) if twice or not problems else problems[0].reason,
                expected=(f"{'pictures' if self.file_ending == PICTURES_BECOME else 'volumes'} named like "
                          f"{self.pattern.replace('{case}', 'CASE')}, as the model was trained on"),
                fix="give images of the kind that the model was trained on, one name for each case")
        return cases, problems

    def _is_picture(self, case: Case) -> bool:
        image = case.detail.images[0]
        return not image.is_dir() and image.name.lower().endswith(picture.ENDINGS)

    def _kind(self, case: Case) -> str:
        return "picture" if self._is_picture(case) else "volume"


def _without_channel_number(found: dict, pattern: str) -> dict:
    """The cases by their names without ``_0000``, where all of them end so and no channel is named otherwise."""
    if "channel" in fields_of(pattern) or not all(re.fullmatch(r".+_0000", name) for name in found):
        return found
    return {name.removesuffix("_0000"): files for name, files in found.items()}


def files_of(case: Case, target: Path, dataset_json: dict) -> list[Path]:
    """The files that a case becomes; a colour picture is one."""
    return [target / f"{case.name}_{number:04d}{dataset_json['file_ending']}"
            for number in range(1 if dataset_json["file_ending"] == PICTURES_BECOME and len(case.detail.images) == 1
                                else len(dataset_json["channel_names"]))]


def is_written(case: Case, target: Path, dataset_json: dict) -> bool:
    """Whether the files of a case are there, and none is older than what it is made of."""
    newest = max(file.stat().st_mtime for file in case.files)
    return all(file.is_file() and file.stat().st_mtime >= newest for file in files_of(case, target, dataset_json))


def left_over(cases: Sequence[Case], target: Path, dataset_json: dict) -> list[Path]:
    """Images in the target that are of none of the cases: they would be predicted with them."""
    expected = {file for case in cases for file in files_of(case, target, dataset_json)}
    return sorted(set(target.glob(f"*{dataset_json['file_ending']}")) - expected)


def write_new_images(images: NewImages, target: Path) -> tuple[int, list[Omission]]:
    """Writes ``CASE_0000.ENDING`` for what is not there yet; the number of cases that are, and those that are not.

    Raises:
        UserError: no image could be taken, or the target holds others.
    """
    cases, problems = images.cases()
    others = left_over(cases, target, images.dataset_json)
    if others:
        raise UserError(f"{target} holds images that are not among the new ones.",
                        found=", ".join(file.name for file in others[:3]) + (", ..." if len(others) > 3 else ""),
                        expected=f"those of {images.folder} alone: all that is there is predicted",
                        fix="move them away, and what was predicted of them, or give another folder with -o")
    for case in cases:
        if is_written(case, target, images.dataset_json):
            continue
        try:
            sample = checked(CONVERTER.read(case), (), len(images.dataset_json["channel_names"]))
        except CaseProblem as problem:
            problems.append(Omission(case.name, str(problem)))
            continue
        for number, channel in enumerate(sample.channels):
            channel.save(target / f"{case.name}_{number:04d}{images.file_ending}")
    names = {problem.name for problem in problems}
    num_written = sum(case.name not in names for case in cases)
    if not num_written:
        raise UserError("No new image could be taken.", found=f"{problems[0].name}: {problems[0].reason}",
                        expected=f"images like those that {images.dataset_json.get('name', 'the dataset')} was made of",
                        fix="give images of the same kind and the same channels")
    return num_written, problems


def read_description(raw_dataset: Path) -> dict:
    """``dataset.json`` of a raw dataset.

    Raises:
        UserError: there is none.
    """
    try:
        return json.loads((raw_dataset / "dataset.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as failure:
        raise UserError(f"{raw_dataset} is no raw dataset.", found=str(failure), expected="a folder with dataset.json",
                        fix="give the folder of the dataset that the model was trained on") from failure
