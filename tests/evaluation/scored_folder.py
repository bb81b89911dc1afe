"""Two small cases with all that can lie beside a prediction, scored."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from medsegdiff_auto.evaluation.folder import evaluate_folder

LABELS = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "organ": 1, "lesion": 2, "ignore": 3},
          "numTraining": 2, "file_ending": ".nii.gz"}
PLANS = {"dataset_name": "Dataset999_Test", "plans_name": "MedSegDiffPlans", "configurations": {},
         "label_manager": "LabelManager", "image_reader_writer": "SimpleITKIO"}
SPACING = (0.5, 0.8, 2.0)    # x, y, z in mm: a voxel has 0.0008 ml


def write_nifti(array, path, spacing=SPACING, channels=False):
    images = [sitk.GetImageFromArray(a) for a in (array if channels else array[None])]
    for image in images:
        image.SetSpacing(spacing)
    sitk.WriteImage(sitk.JoinSeries(images) if channels else images[0], str(path))


def label_map(seed, shape=(6, 14, 12)):
    """Two nested boxes whose upper sides are drawn."""
    generator = np.random.default_rng(seed)
    array = np.zeros(shape, np.uint8)
    array[1:5, 2:int(generator.integers(8, 13)), 2:10] = 1
    array[2:4, 3:int(generator.integers(5, 8)), 4:8] = 2
    return array


def score_folder(root: Path) -> dict:
    """Writes two cases with probabilities, samples and two raters below ``root``, and scores them."""
    for name in ("labels", "predictions", "rater_1", "rater_2"):
        (root / name).mkdir()
    for seed, case in enumerate(("a", "b")):
        reference, samples = label_map(seed), np.stack([label_map(10 + seed + s) for s in range(4)])
        for folder, array in (("rater_1", reference), ("rater_2", label_map(50 + seed)), ("predictions", samples[0])):
            write_nifti(array, root / folder / f"{case}.nii.gz")
        with_ignored = reference.copy()
        with_ignored[0] = 3
        write_nifti(with_ignored, root / "labels" / f"{case}.nii.gz")
        write_nifti(samples, root / "predictions" / f"{case}_samples.nii.gz", channels=True)
        probabilities = np.stack([(samples == c).mean(0) for c in range(3)]).astype(np.float32)
        write_nifti(probabilities, root / "predictions" / f"{case}_probabilities.nii.gz", channels=True)
        write_nifti(np.zeros(reference.shape, np.float32), root / "predictions" / f"{case}_uncertainty.nii.gz")
    return evaluate_folder(root / "labels", root / "predictions", LABELS, PLANS, num_processes=1,
                           rater_folders=[root / "rater_1", root / "rater_2"])
