"""A comparison's folder with made-up methods: nested balls whose radii are drawn about the reference's."""

import json
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from medsegdiff_auto.inference.case_table import write_case_table

DATASET = {"name": "Balls", "channel_names": {"0": "CT"}, "labels": {"background": 0, "organ": 1, "lesion": 2},
           "numTraining": 8, "file_ending": ".nii.gz"}
SPACING = (1.0, 1.0, 1.5)
VOXEL_ML = 0.0015
SAMPLES = 6
METHODS = {  # bias and spread of the radius, in voxels, and what the method writes beside its label map
    "auto": (0.0, 0.35, ("probabilities", "samples", "cases")), "nnunet": (0.15, 0.35, ("probabilities", )),
    "nnunet+T": (0.15, 0.35, ("probabilities", )), "paper": (0.8, 0.8, ("samples", )), "plain": (0.4, 0.5, ())}
FACTS = {"auto": {"title": "MedSegDiff-Auto", "iterations": 1000, "folds": [0, 1], "device": "cpu", "seed": 0,
                  "fitted": ["temperature", "sampling"], "seconds_per_case": 3.2, "training_seconds": 5400.0},
         "nnunet": {"title": "nnU-Net", "iterations": 1000, "folds": [0, 1], "seconds_per_case": 4.1}}


def write(array: np.ndarray, file: Path, spacing=SPACING) -> None:
    """A map, or several along a last axis."""
    images = [sitk.GetImageFromArray(one) for one in (array if array.ndim == 4 else array[None])]
    for image in images:
        image.SetSpacing(spacing)
    sitk.WriteImage(sitk.JoinSeries(images) if array.ndim == 4 else images[0], str(file), useCompression=True)


def ball(shape, radius: float) -> np.ndarray:
    """Label map of an organ of this radius and a lesion of half of it, in its middle."""
    z, y, x = np.indices(shape)
    distance = np.sqrt(sum((axis - extent / 2) ** 2 for axis, extent in zip((z, y, x), shape)))
    return np.where(distance < radius / 2, 2, distance < radius).astype(np.uint8)


def write_method(folder: Path, name: str, case: str, radius: float, generator, shape) -> list[dict]:
    """One case of a method; the rows of its table of cases."""
    bias, spread, kinds = METHODS[name]
    drawn = radius + bias + spread * generator.normal()
    fused = ball(shape, drawn)
    write(fused, folder / f"{case}.nii.gz")
    samples = np.stack([ball(shape, drawn + spread * generator.normal()) for _ in range(SAMPLES)])
    if "probabilities" in kinds:
        hardness = 0.9 if name.endswith("+T") else 1.0
        p = np.stack([(samples == label).mean(0) for label in range(3)]) * hardness + (1 - hardness) / 3
        p = 0.5 * p + 0.5 * np.stack([fused == label for label in range(3)])
        write(p.astype(np.float32), folder / f"{case}_probabilities.nii.gz")
    if "samples" in kinds:
        write(samples, folder / f"{case}_samples.nii.gz")
    rows = []
    for label, structure in ((1, "organ"), (2, "lesion")):
        sizes = (samples == label).reshape(SAMPLES, -1).sum(1) * VOXEL_ML
        rows.append({"case": case, "structure": structure, "volume_ml": (fused == label).sum() * VOXEL_ML,
                     "volume_ml_p05": 0.9 * sizes.min(), "volume_ml_p95": 1.1 * sizes.max(), "interval": "conformal",
                     "expected_dice": 0.9 - 0.1 * abs(drawn - radius), "estimate": "fitted", "num_samples": SAMPLES})
    return rows


def build(root: Path, num_cases: int = 8, methods=tuple(METHODS), shape=(20, 24, 24), seed: int = 0) -> Path:
    """References in ``root/labels``, a comparison in ``root/Dataset901_Balls/comparison``; returns the latter.

    Cases are ``P00_1``, ``P00_2``, ``P01_1``, ...: two of a patient, in two folds, in ``root/preprocessed``.
    """
    folder, generator = root / "Dataset901_Balls" / "comparison", np.random.default_rng(seed)
    (root / "labels").mkdir(parents=True)
    cases = [f"P{number // 2:02d}_{number % 2 + 1}" for number in range(num_cases)]
    folds = [cases[:num_cases // 2 // 2 * 2], cases[num_cases // 2 // 2 * 2:]]
    radii = generator.uniform(5, 8, num_cases)
    for case, radius in zip(cases, radii):
        write(ball(shape, radius), root / "labels" / f"{case}.nii.gz")
    for name in methods:
        of_method = folder / "predictions" / name
        of_method.mkdir(parents=True)
        drawn = np.random.default_rng(seed + 1 + list(METHODS).index(name.removesuffix("+T")))
        rows = [row for case, radius in zip(cases, radii)
                for row in write_method(of_method, name, case, radius, drawn, shape)]
        if "cases" in METHODS[name][2]:
            write_case_table(rows, of_method)
        (of_method / "fold_of_case.json").write_text(json.dumps({case: int(case in folds[1]) for case in cases}))
    (folder / "methods.json").write_text(json.dumps({
        "reference": "nnunet", "methods": {name: FACTS.get(name, {}) for name in methods}}))
    (root / "preprocessed").mkdir()
    (root / "preprocessed" / "splits_final.json").write_text(json.dumps(
        [{"train": folds[1], "val": folds[0]}, {"train": folds[0], "val": folds[1]}]))
    return folder
