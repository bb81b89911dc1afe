"""Cubes as label maps, predictions and models, whose scores are known by hand."""

import json
import pickle
from pathlib import Path

import numpy as np
import SimpleITK as sitk

DATASET = "Dataset901_Cubes"
SHAPE_ZYX = (8, 8, 8)
DATASET_JSON = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "organ": 1}, "numTraining": 5,
                "file_ending": ".nii.gz"}
PLANS = {"dataset_name": DATASET, "plans_name": "MedSegDiffPlans", "image_reader_writer": "SimpleITKIO",
         "label_manager": "LabelManager",
         "configurations": {name: {"architecture": {}} for name in ("2d", "3d_fullres", "3d_lowres")}}


def cube(shift: int = 0) -> np.ndarray:
    """27 voxels of label 1."""
    labels = np.zeros(SHAPE_ZYX, np.uint8)
    labels[2 + shift:5 + shift, 2:5, 2:5] = 1
    return labels


def cube_with_speck() -> np.ndarray:
    """The cube and one voxel far from it: Dice with the cube 54/55."""
    labels = cube()
    labels[7, 7, 7] = 1
    return labels


def save_labels(path: Path, labels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(labels), path)


def save_probabilities(path: Path, foreground: np.ndarray) -> None:
    """nnU-Net's ``CASE.npz`` and ``CASE.pkl``."""
    np.savez_compressed(path.with_suffix(".npz"), probabilities=np.stack([1 - foreground,
                                                                          foreground]).astype(np.float32))
    geometry = {"spacing": (1.0,) * 3, "origin": (0.0,) * 3, "direction": tuple(np.eye(3).ravel())}
    path.with_suffix(".pkl").write_bytes(pickle.dumps({"sitk_stuff": geometry, "spacing": [1.0] * 3}))


def write_model_files(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps(DATASET_JSON))
    (folder / "plans.json").write_text(json.dumps(PLANS))


# sure of the cube (0.95), unsure of the speck (0.6); and a cube that is displaced by one voxel (Dice 2/3), unsure (0.6)
MODELS = {"3d_fullres": (cube_with_speck(), 0.05 + 0.9 * cube() + 0.55 * (cube_with_speck() - cube())),
          "2d": (cube(1), 0.1 + 0.5 * cube(1))}
