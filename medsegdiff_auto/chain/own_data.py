"""What ``medsegdiff_run`` is given, a folder of one's own or a raw dataset, and what follows from it."""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from medsegdiff_auto.chain.place import Place
from medsegdiff_auto.chain.statement import with_hours
from medsegdiff_auto.chain.steps import CONVERT, IMAGES, Chain, have_references
from medsegdiff_auto.checks.dataset_json import channel_files, read_dataset_json
from medsegdiff_auto.checks.inputs import check_inputs
from medsegdiff_auto.crossval.jobs import Job
from medsegdiff_auto.crossval.request import Request, folds_of_split
from medsegdiff_auto.dataset_conversion.core import conversion, folds
from medsegdiff_auto.dataset_conversion.core.folder_flags import folder_words
from medsegdiff_auto.dataset_conversion.core.new_images import NewImages, is_written, left_over
from medsegdiff_auto.dataset_conversion.core.source import TRAIN, CaseProblem, Contents
from medsegdiff_auto.dataset_conversion.folder import CONVERTER
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.findings import errors_among, raise_errors
from medsegdiff_auto.nnunet.dataset_files import NUM_FOLDS, SPLITS_FILE
from medsegdiff_auto.nnunet.readers import find_reader
from medsegdiff_auto.nnunet.training_files import training_files

DATASET_ID = 1


@dataclass(frozen=True)
class Data:
    """A dataset and where its chain keeps everything.

    Attributes:
        folds_now: the folds that are to be trained, as the files of now say.
        first: commands that make it.
        images: new ones, in the form of the dataset; None for none.
        sources: files that are to be converted; None where nothing is.
    """

    place: Place
    configurations: tuple[str, ...]
    folds_now: Callable[[], tuple[int, ...]]
    first: tuple[Job, ...] = ()
    images: Path | None = None
    sources: list[Path] | None = None

    def chain(self, args: Namespace) -> Chain:
        """The chain that a command line asks for, as the files of now say."""
        raw, preprocessed, results = self.place.of_dataset()
        request = Request(self.place.dataset, raw, preprocessed, results, self.configurations, folds=self.folds_now(),
                          resources=args.resources, iterations=args.iterations, epochs=args.epochs, seed=args.seed,
                          device=args.device, num_processes=args.np)
        chain = Chain(self.place, request, self.first, self.images, hours=args.hours, sources=self.sources)
        if self.images == raw / "imagesTs" and have_references(chain, raw / "labelsTs"):
            chain = replace(chain, references=raw / "labelsTs")
        return with_hours(chain)


def of_folder(args: Namespace, root: Path, source: Path) -> Data:
    """The data of a user's own folder.

    Raises:
        UserError: it has no pairs, one patient, or new images of another kind; or it has changed since its conversion.
    """
    request = conversion.Request("folder", source, root / "nnUNet_raw", DATASET_ID, args, args.name, args.raters)
    contents, checksum = conversion.found_in(request)
    place = Place(root, request.raw_folder, conversion.dataset_name(request, contents))
    raw, preprocessed, _ = place.of_dataset()
    if (raw / "dataset.json").is_file() and not args.overwrite:
        _require_same_listing(raw, checksum, source)
    patients = {case.name: case.patient for case in contents.cases if case.part == TRAIN}
    number = len(folds.splits(contents.folds or folds.validation_folds(patients, 0), patients))
    if number < 2:
        raise UserError("One patient cannot be divided into folds.",
                        found=f"{len(patients)} case(s) of {len(set(patients.values()))} patient(s)",
                        expected="two patients at least: each is predicted by a model that has not seen it",
                        fix="add patients; or convert, and train fold all: nothing can be calibrated then")
    command = ("convert", "folder", "-i", str(source), "-d", str(DATASET_ID), "--name", place.dataset[11:],
               *folder_words(args), *["--raters"] * args.raters, "-np", str(args.np))
    first = [Job(CONVERT, (), command, lambda: (raw / "dataset.json").is_file())]
    images = raw / "imagesTs" if args.test_images else None
    if args.new is not None:
        images = place.new_images
        first.append(_taking_new_images(args, contents, place))

    def folds_now() -> tuple[int, ...]:
        return folds_of_split(raw, preprocessed, args.f) if raw.is_dir() else _among(args.f, number)

    return Data(place, tuple(args.c or [_usual_configuration(contents)]), folds_now, tuple(first), images,
                [file for case in contents.cases for file in case.files])


def _taking_new_images(args: Namespace, contents: Contents, place: Place) -> Job:
    """The command that brings the new images into the form of the dataset, once they are seen to be of its kind."""
    new, raw = Path(args.new).expanduser().absolute(), place.of_dataset()[0]
    pattern = re.sub(r"^(?:[^{}/]*/)*(?=[^/]*[{*])", "", args.images)  # without the folders that it names
    channels = args.channels if "{channel}" in pattern else []
    description = {"file_ending": contents.file_ending,
                   "channel_names": dict(enumerate(contents.channel_names))}
    images = NewImages(new, description, pattern, tuple(channels))
    cases, _ = images.cases()
    words = ("convert", "images", "-i", str(new), "-o", str(place.new_images), "--like", str(raw), "--images", pattern)
    return Job(IMAGES, (), (*words, *(["--channels", *channels] if channels else [])),
               lambda: (all(is_written(case, place.new_images, description) for case in cases)
                        and not left_over(cases, place.new_images, description)))


def _require_same_listing(raw: Path, checksum: str, source: Path) -> None:
    description, _ = read_dataset_json(raw)
    if description.get("provenance", {}).get("source_listing_sha256") != checksum:
        raise UserError(f"The files of {source} have changed since they were converted.",
                        found="other names or sizes than those of then", expected=f"those that {raw} was made of",
                        fix="--overwrite begins anew; another -o leaves the model of then as it is")


def _among(wanted: list[int] | None, number: int) -> tuple[int, ...]:
    """The folds that are asked for, or all.

    Raises:
        UserError: there is no such fold.
    """
    missing = [fold for fold in wanted or () if fold >= number]
    if missing:
        raise UserError("The patients do not allow so many folds.", found=f"fold {missing[0]}",
                        expected=f"0 to {number - 1}", fix="correct -f")
    return tuple(sorted(set(wanted))) if wanted else tuple(range(number))


def _usual_configuration(contents: Contents) -> str:
    """2d for pictures and single slices, else 3d_fullres: what the first readable image says."""
    if contents.file_ending == ".png":
        return "2d"
    for case in contents.cases:
        try:
            return "2d" if min(CONVERTER.read(case).channels[0].voxels.shape) == 1 else "3d_fullres"
        except CaseProblem:
            continue
    return "3d_fullres"


def of_raw_dataset(args: Namespace, root: Path, source: Path) -> Data:
    """The data of a dataset in nnU-Net's raw format, which stays where it is.

    Raises:
        UserError: its name or ``dataset.json`` is wrong, it has too few cases, or the new images are of another kind.
    """
    if not re.fullmatch(r"Dataset\d{3}_.+", source.name):
        raise UserError("The folder of a raw dataset has another name than nnU-Net gives it.", found=source.name,
                        expected="DatasetXXX_Name, with three digits", fix="rename the folder")
    description, findings = read_dataset_json(source)
    if errors_among(findings):
        raise_errors(findings, str(source), "dataset.json")
    place = Place(root, source.parent, source.name)
    cases = list(training_files(source, description).values())
    if not (source / SPLITS_FILE).is_file() and len(cases) < NUM_FOLDS:
        raise UserError(f"{source.name} has too few cases for nnU-Net's {NUM_FOLDS} folds.",
                        found=f"{len(cases)} cases",
                        expected=f"{NUM_FOLDS} cases, or {SPLITS_FILE} beside dataset.json",
                        fix='write it, one entry per fold: [{"train": [CASE, ...], "val": [CASE, ...]}, ...]')
    unseen = source / "imagesTs"
    images = Path(args.new).expanduser().absolute() if args.new is not None else unseen
    if args.new is not None:
        check_inputs(images, description)
    elif not unseen.is_dir() or not channel_files(unseen, description["file_ending"])[0]:
        images = None
    files = cases[0]["images"]
    sizes = find_reader(description, [Path(file) for file in files]).read_images(files[:1])[0].shape[1:]
    configurations = tuple(args.c or ["2d" if min(sizes) == 1 else "3d_fullres"])
    return Data(place, configurations, lambda: folds_of_split(source, place.of_dataset()[1], args.f), images=images)
