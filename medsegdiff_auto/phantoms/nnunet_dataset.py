"""Phantoms as a raw dataset in nnU-Net's format, with their posteriors and, if wanted, several raters.

    DatasetXXX_Name/
      dataset.json
      imagesTr/ imagesTs/          CASE_0000.nii.gz, CASE_0001.nii.gz, ...
      labelsTr/ labelsTs/          CASE.nii.gz: one draw from the posterior, rater 1
      labelsTr_raters/rater_R/     (several raters) independent draws; rater_1 equals labelsTr
      labelsTs_raters/rater_R/
      posterior/                   CASE.npz of the training and the test cases
"""

import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.phantoms.anatomy import LOBE_PROBABILITY, STRUCTURE_NAMES
from medsegdiff_auto.phantoms.phantom import Phantom, generate_phantom
from medsegdiff_auto.phantoms.posterior_file import save_posterior

FILE_ENDING = ".nii.gz"


@dataclass(frozen=True)
class Annotation:
    """Who annotates a case, and what is left out: raters are independent draws from the posterior.

    ``ignored`` is the share of the first array axis that is marked with the label ``ignore_label``, in [0, 1).
    """

    generators: tuple[np.random.Generator, ...]
    ignored: float = 0.0
    ignore_label: int | None = None

    def label_maps(self, phantom: Phantom) -> list[np.ndarray]:
        """One label map per rater, uint8; all raters leave out the same slab."""
        maps = [phantom.posterior.sample(generator) for generator in self.generators]
        num_ignored = round(self.ignored * maps[0].shape[0])
        for label_map in maps[:len(maps) if num_ignored else 0]:
            label_map[-num_ignored:] = self.ignore_label
        return maps


def write_phantom_dataset(nnunet_raw_folder: str | Path, dataset_id: int, name: str, num_training: int, num_test: int,
                          dimension: int = 3, modality: str = "MRI", channels: int = 1, num_raters: int = 1,
                          regions: bool = False, ignore: bool = False, seed: int = 0,
                          shape: tuple[int, ...] | None = None, spacing_mm: tuple[float, ...] | None = None,
                          num_structures: int = 2, lobe_probability: float = LOBE_PROBABILITY,
                          shape_variation: float = 0.1, annotation_seed: int = 0) -> Path:
    """Writes the dataset and returns its folder; it appears under its name only when it is complete.

    ``labelsTr`` holds rater 1, not the majority: one honest draw from the posterior. ``regions`` declares nested regions
    (structures k ... K for each k) in place of labels. ``ignore`` marks a third of every second training case with the
    ignore label K + 1. Another ``annotation_seed`` draws other annotations of the same images. ``shape`` and
    ``spacing_mm`` are in array axis order (z, y, x).

    Raises:
        UserError: the dataset or its ID exists, the name or a number is out of range, the folder cannot be written.
    """
    _check_counts(dataset_id, name, num_training, num_test, num_raters)
    root = Path(nnunet_raw_folder)
    folder = root / f"Dataset{dataset_id:03d}_{name}"
    _refuse_existing(root, dataset_id)
    partial = root / f".{folder.name}.{os.getpid()}.partial"
    options = dict(dimension=dimension, modality=modality, num_channels=channels, num_structures=num_structures,
                   shape=shape, spacing_mm=spacing_mm, lobe_probability=lobe_probability,
                   shape_variation=shape_variation)
    channel_names = generate_phantom((seed, 0), **options).channel_names
    try:
        (partial / "posterior").mkdir(parents=True)
        for index in range(num_training + num_test):
            is_training = index < num_training
            generators = tuple(np.random.default_rng((seed, index, annotation_seed, rater + 1))
                               for rater in range(num_raters))
            ignored = 1 / 3 if ignore and is_training and index % 2 else 0.0
            annotation = Annotation(generators, ignored, num_structures + 1)
            _write_case(partial, f"phantom_{index:03d}", "Tr" if is_training else "Ts",
                        generate_phantom((seed, index), **options), annotation)
        description = dataset_json(name, channel_names, num_training, num_structures, regions, ignore)
        (partial / "dataset.json").write_text(json.dumps(description, indent=4) + "\n", encoding="utf-8")
        partial.rename(folder)
    except OSError as error:
        raise UserError("The phantoms cannot be written.", found=f"{type(error).__name__}: {error}",
                        expected=f"a folder that can be written: {root}", fix="choose another folder") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def dataset_json(name: str, channel_names: tuple[str, ...], num_training: int, num_structures: int, regions: bool,
                 ignore: bool) -> dict:
    """What nnU-Net reads of the dataset; region k is the union of the structures k ... K, painted in that order."""
    names = STRUCTURE_NAMES[:num_structures]
    structures = range(1, num_structures + 1)
    if regions:
        labels = {"whole_organ": [*structures]}
        labels |= {"_and_".join(names[k - 1:]): [*range(k, num_structures + 1)] for k in structures[1:]}
    else:
        labels = {names[k - 1]: k for k in structures}
    labels = {"background": 0, **labels} | ({"ignore": num_structures + 1} if ignore else {})
    return {
        "channel_names": {str(index): channel for index, channel in enumerate(channel_names)},
        "labels": labels,
        **({"regions_class_order": [*structures]} if regions else {}),
        "numTraining": num_training,
        "file_ending": FILE_ENDING,
        "name": name,
        "description": "Synthetic cases with ambiguous boundaries; the true posterior of each annotation is in posterior/",
        "reference": "generated by medsegdiff_phantoms (MedSegDiff-Auto)",
        "licence": "CC0-1.0",
    }


def _write_case(folder: Path, case: str, split: str, phantom: Phantom, annotation: Annotation) -> None:
    for channel, array in enumerate(phantom.image):
        _write_image(array, phantom, folder / f"images{split}" / f"{case}_{channel:04d}{FILE_ENDING}")
    label_maps = annotation.label_maps(phantom)
    _write_image(label_maps[0], phantom, folder / f"labels{split}" / f"{case}{FILE_ENDING}")
    for rater, label_map in enumerate(label_maps[:len(label_maps) if len(label_maps) > 1 else 0], start=1):
        _write_image(label_map, phantom, folder / f"labels{split}_raters" / f"rater_{rater}" / f"{case}{FILE_ENDING}")
    save_posterior(phantom.posterior, folder / "posterior" / f"{case}.npz")


def _write_image(array: np.ndarray, phantom: Phantom, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(phantom.spacing_mm[::-1])
    image.SetOrigin(phantom.origin_mm)
    image.SetDirection(phantom.direction)
    sitk.WriteImage(image, str(path), useCompression=True)


def _refuse_existing(root: Path, dataset_id: int) -> None:
    existing = sorted(root.glob(f"Dataset{dataset_id:03d}_*")) if root.is_dir() else []
    if existing:
        raise UserError(f"There is a dataset with the ID {dataset_id:03d} already.", found=str(existing[0]),
                        expected="an ID that is not in use", fix="give another ID, or remove that folder yourself")


def _check_counts(dataset_id: int, name: str, num_training: int, num_test: int, num_raters: int) -> None:
    ranges = (("dataset ID", dataset_id, 1, 999), ("number of training cases", num_training, 1, 10_000),
              ("number of test cases", num_test, 0, 10_000), ("number of raters", num_raters, 1, 100))
    for what, value, lowest, highest in ranges:
        if not lowest <= value <= highest:
            raise UserError(f"The {what} is out of range.", found=str(value), expected=f"{lowest} to {highest}",
                            fix=f"give another {what}")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise UserError("The name of the dataset cannot be part of a folder's name.", found=name,
                        expected="letters, digits, _ and -", fix="give another name")
