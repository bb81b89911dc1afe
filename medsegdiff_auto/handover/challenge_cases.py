"""A model within a container that segments a folder of cases: images from ``/input``, one mask a case to ``/output``.

    /input/CASE/CASE-t1n.nii.gz, ...           the channels of each case, named by a pattern for each
    /output/CASE.nii.gz                        the mask

As BraTS, FLARE and KiTS ask for. One process and no network. The noise is that of the case's name, so that the masks
are those of ``medsegdiff_predict``.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StrictInt, StrictStr

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.files.case_names import EXPECTED, case_name_fault
from medsegdiff_auto.files.listing import ending_of, is_foreign, visible_below
from medsegdiff_auto.handover.challenge import in_container, require_labels, write_mask
from medsegdiff_auto.nnunet.known_names import read_json_object
from medsegdiff_auto.schemas import STRICT, validated

CASE = "{case}"
Pattern = Annotated[StrictStr, Field(pattern=r"^[^/\\{}]*(\{case\}[^\\{}]*)+$")]


@dataclass(frozen=True)
class Cases:
    """``cases.json``.

    Attributes:
        images: the file of each channel below the input folder, in the channels' order; ``{case}`` is the case's name.
        mask: the file below the output folder.
        labels, allowed, speed: of :class:`~medsegdiff_auto.handover.challenge.Sockets`.
    """

    __pydantic_config__ = STRICT

    images: Annotated[list[Pattern], Field(min_length=1)]
    mask: Pattern
    labels: dict[int, Annotated[StrictInt, Field(ge=0, le=255)]] = field(default_factory=dict)
    allowed: list[StrictInt] | None = None
    speed: Literal["fast", "default", "best"] = "default"


def default_patterns(dataset_json: dict) -> list[str]:
    """The names that nnU-Net gives to the channels: ``{case}_0000`` and on, with the ending of the training data."""
    return [f"{CASE}_{channel:04d}{dataset_json['file_ending']}" for channel in range(
        len(dataset_json["channel_names"]))]


def require_fit(cases: Cases, dataset_json: dict) -> None:
    """
    Raises:
        ValueError: a model with these channels and labels cannot give what is asked.
    """
    ending, channels = dataset_json["file_ending"], len(dataset_json["channel_names"])
    if len(cases.images) != channels:
        raise ValueError(f"{len(cases.images)} patterns for {channels} channels")
    if len(set(cases.images)) < channels:
        raise ValueError("two channels have the same pattern")
    for pattern in (*cases.images, cases.mask):
        if not pattern.endswith(ending):
            raise ValueError(f"{pattern} does not end in {ending}, as the images of the model")
        if {"", ".", ".."} & set(pattern.split("/")):
            raise ValueError(f"{pattern} could lead out of the folder")
    require_labels(cases.labels, cases.allowed, dataset_json)


def read_cases(file: Path, dataset_json: dict) -> Cases:
    """How the cases of a challenge are named, and what it takes.

    Raises:
        UserError: it is not what a model with these labels and channels can give.
    """
    try:
        cases = validated(Cases, read_json_object(file))
        require_fit(cases, dataset_json)
    except ValueError as failure:
        raise not_fitting(str(file), failure) from failure
    return cases


def not_fitting(what: str, failure: ValueError) -> UserError:
    """The error of patterns or a file of them."""
    return UserError(f"{what} does not fit the model.", found=str(failure),
                     expected='"{case}/{case}-t1.nii.gz" or the like, one pattern per channel, in their order',
                     fix="correct the patterns; names are on the challenge's page")


def listed_cases(folder: Path, cases: Cases) -> dict[str, list[Path]]:
    """The channel files of each case, sorted by case; images that no pattern names are told on standard error.

    Raises:
        UserError: there is no case, a case lacks a channel, or its name is none that a mask can have.
    """
    if not folder.is_dir():
        raise UserError("The input folder does not exist.", found=str(folder), expected="a folder of images",
                        fix="mount it at /input, or give it with --input")
    present = {str(path.relative_to(folder)) for path in visible_below(folder) if path.is_file()}
    names = sorted({found["case"] for name in present for pattern in cases.images
                    if (found := re.fullmatch(_expression(pattern), name))})
    files = {case: [pattern.replace(CASE, case) for pattern in cases.images] for case in names}
    if not files:
        shown = ", ".join(sorted(present)[:5]) or "an empty folder"
        raise UserError(f"{folder} holds no image that is named as expected.", found=shown,
                        expected=", ".join(cases.images), fix="correct the patterns in cases.json")
    for case, named in files.items():
        missing = [name for name in named if name not in present]
        fault = case_name_fault(case)
        if missing:
            raise UserError(f"The case {case} lacks a channel.", found=f"no {', '.join(missing)}",
                            expected=", ".join(named), fix="add the file, or correct the patterns in cases.json")
        if fault or is_foreign(case):
            raise UserError(f"The case {case} {fault or 'has a name that systems use'}.", found=case,
                            expected=EXPECTED, fix="rename its files, or correct the patterns in cases.json")
    left = sorted(name for name in present - {name for named in files.values() for name in named} if ending_of(name))
    if left:
        print(f"Not read, since no pattern names them: {', '.join(left[:5])}{', ...' * (len(left) > 5)} "
              f"({len(left)} files)", file=sys.stderr)
    return {case: [folder / name for name in named] for case, named in files.items()}


def _expression(pattern: str) -> str:
    first, *others = map(re.escape, pattern.split(CASE))
    return f"{first}(?P<case>[^/]+){'(?P=case)'.join(others)}"


def main(argv: Sequence[str] | None = None, folder: Path = Path()) -> int:
    """Runs in the container, or anywhere with ``--input DIR --output DIR``.

    Args:
        folder: of ``cases.json`` and ``model``.
    """
    parser = argparse.ArgumentParser(description="Segments all cases of a folder and writes one mask per case.")
    for name, default in (("input", "/input"), ("output", "/output"), ("model", folder / "model"),
                          ("cases", folder / "cases.json")):
        parser.add_argument(f"--{name}", type=Path, default=Path(default), help=f"default: {default}")
    args = parser.parse_args(argv)
    return in_container(lambda: segment_cases(args.input, args.output, args.model, args.cases))


def segment_cases(input_folder: Path, output_folder: Path, model: Path, cases_file: Path) -> list[Path]:
    """Segments every case of a folder; returns the masks.

    A case that fails does not stop the others.

    Raises:
        UserError: the cases are not whole, which is said before the first, or some failed, which is said at the end.
    """
    from medsegdiff_auto.checks.inputs import require_other_folder
    from medsegdiff_auto.inference.segmenter import Segmenter

    require_other_folder(input_folder, output_folder)
    cases = read_cases(cases_file, read_json_object(model / "dataset.json"))
    files, written, failed = listed_cases(input_folder, cases), [], {}
    predictions = Segmenter(model, speed=cases.speed).predict_many(files)
    for case, prediction in zip(files, predictions, strict=True):
        if isinstance(prediction, UserError):
            failed[case] = prediction
            print(f"error: {prediction}", file=sys.stderr)
        else:
            file = output_folder / cases.mask.replace(CASE, case)
            write_mask(prediction, cases.labels, file)
            written.append(file)
    if failed:
        raise UserError(f"{len(failed)} of {len(files)} cases have no mask.", found=", ".join(failed),
                        expected="images as those that the model was trained on", fix="see to the errors above")
    return written
