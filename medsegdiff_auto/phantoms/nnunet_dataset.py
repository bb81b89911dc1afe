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
from medsegdiff_auto.phantoms.anatomy import STRUCTURE_NAMES
from medsegdiff_auto.phantoms.phantom import Phantom, PhantomKind, generate_phantom
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


@dataclass(frozen=True)
class Labelling:
    """How the cases of a dataset are annotated.

    Attributes:
        num_raters: independent draws from the posterior. ``labelsTr`` holds rater 1, not the majority.
        regions: nested regions (structures k ... K for each k) in the place of labels.
        ignore: a third of every second training case has the ignore label K + 1.
        seed: another one draws other annotations of the same images.
    """

    num_raters: int = 1
    regions: bool = False
    ignore: bool = False
    seed: int = 0


def write_phantom_dataset(nnunet_raw_folder: str | Path, dataset_id: int, name: str, num_cases: tuple[int, int],
                          kind: PhantomKind = PhantomKind(), labelling: Labelling = Labelling(), seed: int = 0) -> Path:
    """Writes the dataset and returns its folder; it appears under its name only when it is complete.

    Args:
        num_cases: to train on, and to test on.
        seed: of the images.

    Raises:
        UserError: the dataset or its ID exists, the name or a number is out of range, the folder cannot be written.
    """
    num_training, num_test = num_cases
    _check_counts(dataset_id, name, num_training, num_test, labelling.num_raters)
    root = Path(nnunet_raw_folder)
    folder = root / f"Dataset{dataset_id:03d}_{name}"
    _refuse_existing(root, dataset_id)
    partial = root / f".{folder.name}.{os.getpid()}.partial"
    try:
        (partial / "posterior").mkdir(parents=True)
        for index in range(num_training + num_test):
            is_training = index < num_training
            generators = tuple(np.random.default_rng((seed, index, labelling.seed, rater + 1))
                               for rater in range(labelling.num_raters))
            ignored = 1 / 3 if labelling.ignore and is_training and index % 2 else 0.0
            annotation = Annotation(generators, ignored, kind.num_structures + 1)
            _write_case(partial, f"phantom_{index:03d}", "Tr" if is_training else "Ts",
                        generate_phantom((seed, index), kind), annotation)
        description = dataset_json(name, num_training, kind, labelling)
        (partial / "dataset.json").write_text(json.dumps(description, indent=4) + "\n", encoding="utf-8")
        partial.rename(folder)
    except OSError as error:
        raise UserError("The phantoms cannot be written.", found=f"{type(error).__name__}: {error}",
                        expected=f"a folder that can be written: {root}", fix="choose another folder") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def dataset_json(name: str, num_training: int, kind: PhantomKind, labelling: Labelling) -> dict:
    """What nnU-Net reads of the dataset; region k is the union of the structures k ... K, painted in that order."""
    num_structures = kind.num_structures
    names, structures = STRUCTURE_NAMES[:num_structures], range(1, num_structures + 1)
    if labelling.regions:
        labels = {"whole_organ": [*structures]}
        labels |= {"_and_".join(names[k - 1:]): [*range(k, num_structures + 1)] for k in structures[1:]}
    else:
        labels = {names[k - 1]: k for k in structures}
    labels = {"background": 0, **labels} | ({"ignore": num_structures + 1} if labelling.ignore else {})
    return {
        "channel_names": {str(index): channel
                          for index, channel in enumerate(kind.channel_names)},
        "labels": labels,
        **({"regions_class_order": [*structures]} if labelling.regions else {}),
        "numTraining": num_training,
        "file_ending": FILE_ENDING,
        "name": name,
        "description": "Synthetic cases with ambiguous boundaries; the true posterior of each annotation is in "
                       "posterior/",
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
