"""Prediction from Python: a model folder and an image to arrays, voxel for voxel what ``medsegdiff_predict`` writes."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import nibabel
import numpy as np
import SimpleITK as sitk
import torch

from medsegdiff_auto.cores import compute_on_cpu
from medsegdiff_auto.tables import DECODERS
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.failures import FULL_DISK, as_user_error
from medsegdiff_auto.heap import give_back_freed_memory
from medsegdiff_auto.sampling.case_size import CaseSize, size_of_file
from medsegdiff_auto.sampling.memory_plan import MemoryPlan
from medsegdiff_auto.files.grid import ItkGrid
from medsegdiff_auto.inference.image_input import ImageFiles, PathLike, image_files, written
from medsegdiff_auto.checks.inputs import check_case
from medsegdiff_auto.inference.many_images import in_turn
from medsegdiff_auto.inference.model import load_model
from medsegdiff_auto.inference.options import SPEEDS, SamplingOptions
from medsegdiff_auto.inference.prediction import Prediction, Source, drawn_for_image, fused_case, prepare_case
from medsegdiff_auto.inference.predictor import MedSegDiffPredictor
from medsegdiff_auto.inference.speed import at_speed
from medsegdiff_auto.nnunet.properties import whole_shape
from medsegdiff_auto.numeric_flags import COUNT, POSITIVE, SEED, Numbers, OutOfRange
from medsegdiff_auto.training.run import require_device

OneImage = PathLike | sitk.Image | nibabel.spatialimages.SpatialImage
Image = OneImage | Sequence[OneImage] | np.ndarray
CASE_IN_MEMORY = "case"


class Segmenter:
    """A trained model that segments images; no environment variable is needed.

    ``with Segmenter(...) as segmenter:`` gives the memory of model and device back at the end of the block.

    Args:
        model_folder: written by ``medsegdiff_train``, with ``plans.json`` and ``fold_0``, ...; or a file of
            ``medsegdiff_export``.
        folds: a fold or several; None for all that are trained.
        device: ``cuda``, ``cpu`` or ``mps``; None for cuda where there is one, else cpu.
        samples: per fold, at least 1.
        steps: network evaluations per sample, at least 1.
        mirrors: mirrored views, 1 for none.
        fusion: a row of :data:`~medsegdiff_auto.tables.DECODERS`: ``mean``, ``staple`` or ``dice``.
        seed: of the noise.
        speed: ``fast``, ``default`` or ``best``: samples, steps and mirrors where they are None.
        max_memory_gb: that states and features may take; None for most of what is free.
        mutual_information: compute the part of the uncertainty on which the samples disagree as well.

    Raises:
        UserError: the model, a fold or the device is missing, or an option is out of its range.
    """

    def __init__(self, model_folder: PathLike, folds: int | str | Sequence[int | str] | None = None,
                 device: str | None = None, samples: int | None = None, steps: int | None = None,
                 mirrors: int | None = None, fusion: str | None = None, seed: int = 0, speed: str = "default",
                 max_memory_gb: float | None = None, mutual_information: bool = False):
        for numbers, values in ((COUNT, {"samples": samples, "steps": steps, "mirrors": mirrors}),
                                (SEED, {"seed": seed}), (POSITIVE, {"max_memory_gb": max_memory_gb})):
            _require_within(numbers, **values)
        _require_one_of(SPEEDS, speed=speed)
        _require_one_of((None, *DECODERS.names()), fusion=fusion)
        torch_device = require_device(device)
        self.model = load_model(Path(model_folder), _listed(folds))
        options = SamplingOptions(samples, steps, mirrors, fusion=fusion, seed=seed, max_memory_gb=max_memory_gb)
        self.mutual_information = mutual_information
        self.predictor = MedSegDiffPredictor(self.model, at_speed(speed, options, self.model), torch_device)

    def __enter__(self) -> Segmenter:
        return self

    def __exit__(self, *failure) -> None:
        self.close()

    def close(self) -> None:
        """Gives the memory of model and device back; predictions stay, and the segmenter predicts no more."""
        self.model = self.predictor = None
        gc.collect()  # networks and their hooks refer to each other
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        give_back_freed_memory()

    def __repr__(self) -> str:
        p = self.predictor
        if p is None:
            return "Segmenter(closed)"
        return (f"Segmenter({str(self.model.folder)!r}, folds={list(self.model.folds)}, device={p.device.type!r}, "
                f"samples={p.num_samples}, steps={p.num_steps}, mirrors={len(p.views)}, fusion={p.fusion!r}, "
                f"seed={p.options.seed})")

    def predict(self, image: Image, case: str | None = None,
                previous_stage: PathLike | sitk.Image | None = None,
                spacing_mm: Sequence[float] | None = None) -> Prediction:
        """Segments one image.

        Args:
            image: a file, a folder of one DICOM series, or an image of SimpleITK or nibabel; for several channels a
                list of them, in the channels' order. Or an array, (z, y, x), (y, x), or either with channels first.
            case: seeds the noise together with the seed. None for what ``medsegdiff_predict`` takes: the name of the
                first file or DICOM folder without ``_0000`` and ending; ``case`` for images in memory.
            previous_stage: label map of the first stage, for a cascade.
            spacing_mm: of an array, one number for each axis of its image, in their order.

        Raises:
            UserError: an image does not pass the checks of ``medsegdiff_predict``, or the cascade lacks its first
            stage.
        """
        self._require_open()
        self._require_previous_stage(previous_stage)
        with _computing(self.predictor.device):
            prepared = [self._prepared(image, case, spacing_mm, previous_stage)]
            return self._predicted(prepared, self._plan(*prepared[0]))

    def predict_many(self, images: Iterable[Image] | Mapping[str, Image], spacing_mm: Sequence[float] | None = None,
                     raise_errors: bool = False) -> Iterator[Prediction | UserError]:
        """Segments one image after the other; the next one is prepared meanwhile, where the memory holds both.

        An image that cannot be segmented does not stop the others: its error comes in the place of its prediction.

        Args:
            images: of :meth:`predict`; with the names of their cases as the keys of a mapping.
            spacing_mm: of arrays, for all of them.
            raise_errors: raise the first error instead.

        Raises:
            UserError: the segmenter is closed, the model is a cascade, an error where it is asked for, or the disk is
                full.
        """
        self._require_open()
        self._require_previous_stage(None)
        named = images.items() if isinstance(images, Mapping) else ((None, image) for image in images)
        return self._predictions(iter(named), spacing_mm, raise_errors)

    def _predictions(self, named: Iterator[tuple[str | None, Image]], spacing_mm: Sequence[float] | None,
                     raise_errors: bool) -> Iterator[Prediction | UserError]:
        def prepare(one: tuple[str | None, Image], wait_for_memory: Callable[[MemoryPlan], None]):
            case, image = one
            return self._prepared(image, case, spacing_mm, wait_for_memory=wait_for_memory)

        def use(prepared: list, plan: MemoryPlan) -> Prediction:
            with _computing(self.predictor.device):
                return self._predicted(prepared, plan)

        for (case, _), result in in_turn(named, prepare, lambda prepared: self._plan(*prepared), use):
            yield _as_error(result, case, raise_errors) if isinstance(result, Exception) else result

    def _prepared(self, image: Image, case: str | None, spacing_mm: Sequence[float] | None,
                  previous_stage: PathLike | sitk.Image | None = None,
                  wait_for_memory: Callable[[MemoryPlan], None] | None = None) -> tuple[np.ndarray, Source]:
        """The preprocessed image and where it comes from; ``wait_for_memory`` is called before the image is read."""
        model, predictor = self.model, self.predictor
        with TemporaryDirectory(prefix="medsegdiff_image_") as folder:
            files = image_files(image, model.dataset_json, Path(folder), spacing_mm)
            if wait_for_memory is not None and files.paths[0].is_file():
                wait_for_memory(predictor.memory_plan(size_of_file(
                    files.paths[0], predictor.num_inputs, predictor.label_manager.num_segmentation_heads,
                    model.plans_manager, model.configuration_manager)))
            check_case(files.paths, model.dataset_json, files.shown)
            if isinstance(previous_stage, sitk.Image):
                ending = model.dataset_json["file_ending"]
                previous_stage = written(previous_stage, Path(folder) / f"previous_stage{ending}")
            data, properties = prepare_case(model, files.paths, previous_stage)
            return data, _source(case or files.case or CASE_IN_MEMORY, properties, files)

    def _plan(self, data: np.ndarray, source: Source) -> MemoryPlan:
        size = CaseSize(len(data), self.predictor.label_manager.num_segmentation_heads,
                        whole_shape(source.properties), data.shape[1:])
        return self.predictor.memory_plan(size, mutual_information=self.mutual_information)

    def _predicted(self, prepared: list[tuple[np.ndarray, Source]], plan: MemoryPlan) -> Prediction:
        data, source = prepared.pop()
        drawn = drawn_for_image(self.predictor, source, data, plan)
        del data  # large images lie on disk from here on
        return fused_case(self.predictor, source, drawn, self.mutual_information, plan.storage.on_cpu())

    def _require_open(self) -> None:
        if self.predictor is None:
            raise UserError("The segmenter is closed.", found="a call after close(), or after its with block",
                            expected="a Segmenter with its model", fix="load the model again: Segmenter(model_folder)")

    def _require_previous_stage(self, previous_stage: PathLike | sitk.Image | None) -> None:
        stage = self.model.configuration_manager.previous_stage_name
        if stage is not None and previous_stage is None:
            raise UserError(
                "The cascade needs the prediction of its first stage.", found="previous_stage=None",
                expected=f"the label map that {stage} predicts for this image",
                fix=f"predict with a Segmenter of {stage} first, then give prediction.image(prediction.segmentation)")
        if stage is None and previous_stage is not None:
            raise UserError("The model has no previous stage.", found="previous_stage",
                            expected="a model of 3d_cascade_fullres", fix="leave out previous_stage")


def predict(image: Image, model_folder: PathLike, case: str | None = None, spacing_mm: Sequence[float] | None = None,
            **options) -> Prediction:
    """Segments one image; the options are those of :class:`Segmenter`, which loads the model once for many images."""
    return Segmenter(model_folder, **options).predict(image, case, spacing_mm=spacing_mm)


def _listed(folds: int | str | Sequence[int | str] | None) -> list[int | str] | None:
    """Numbers of folds as numbers, ``all`` as it is."""
    if folds is None:
        return None
    folds = [folds] if isinstance(folds, (int, str)) else folds
    return [int(fold) if str(fold).isdecimal() else fold for fold in folds]


def _as_error(failure: Exception, case: str | None, is_raised: bool) -> UserError:
    """The error of an image; what is a mistake of ours, or would meet the next image too, is raised."""
    error = as_user_error(failure, case or "The image")
    if is_raised or error is None or getattr(failure, "errno", None) in FULL_DISK:
        raise error or failure from None
    failure.__traceback__ = None  # its frames hold arrays
    return error.with_traceback(None)


def _source(case: str, properties: dict, files: ImageFiles) -> Source:
    if files.image is None:
        return Source(case, properties, files.paths[0].absolute())
    return Source(case, properties, None, ItkGrid.of_image(files.image), files.series)


@contextmanager
def _computing(device: torch.device) -> Iterator[None]:
    """On a CPU threads and memory as the command has them; the caller's threads come back, whose number nnU-Net's
    export changes too.
    """
    before = torch.get_num_threads()
    if device.type == "cpu":
        compute_on_cpu()
    try:
        yield
    finally:
        torch.set_num_threads(before)
        give_back_freed_memory()


def _require_within(numbers: Numbers, **values: int | float | None) -> None:
    for name, value in values.items():
        try:
            None if value is None else numbers.checked(value)
        except OutOfRange as outside:
            raise UserError(f"{name} {outside}.", found=repr(value), expected=outside.expected,
                            fix=f"leave out {name}") from outside


def _require_one_of(allowed: Sequence[str | None], **values: str | None) -> None:
    for name, value in values.items():
        if value not in allowed:
            raise UserError(f"There is no such {name}.", found=repr(value),
                            expected=" or ".join(one for one in allowed if one is not None), fix=f"leave out {name}")
