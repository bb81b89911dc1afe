"""Predictions on oblique, flipped and permuted grids, and of colour pictures, with names that try to be markup."""

import csv
import json
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK as sitk
from model_folder import write_model
from scipy.spatial.transform import Rotation

HOSTILE = "</script><img src=x onerror=alert(1)>"
LABELS = {"background": 0, "organ": 1, HOSTILE: 2}
NUM_SAMPLES = 20
SHAPE = (14, 18, 10)  # x, y, z
FLAGGED = "permuted"


def affine_of(axes: np.ndarray, spacing: tuple[float, ...], origin: tuple[float, ...]) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = axes * np.asarray(spacing)
    affine[:3, 3] = origin
    return affine


AFFINES = {
    "oblique": affine_of(Rotation.from_euler("zx", [20, 10], degrees=True).as_matrix(), (0.8, 1.1, 2.5), (10, -20, 5)),
    "flipped": affine_of(np.diag([-1, 1, -1]), (1.2, 0.9, 3.0), (-40, 7, 90)),
    "permuted": affine_of(np.array([[0, 0, 1], [-1, 0, 0], [0, 1, 0]]), (1.0, 2.0, 0.7), (3, 4, 5)),
}


def label_map(shape: tuple[int, ...], growth: float) -> np.ndarray:
    """An organ off the centre with a lesion in it, and single voxels in corners that tell the axes apart."""
    grid = np.indices(shape) - 0.4 * np.reshape(shape, (-1, *[1] * len(shape)))
    r = np.sqrt((grid**2).sum(0))
    label = np.where(r < 1.7 + growth / 2, 2, np.where(r < 3.2 + growth, 1, 0)).astype(np.uint8)
    label[(-2,) + (1,) * (len(shape) - 1)] = 1
    label[(1,) * (len(shape) - 1) + (-2,)] = 2
    return label


def arrays(shape: tuple[int, ...], seed: int) -> dict[str, np.ndarray]:
    """Layers along x, y(, z); the samples grow from one to the next, so that each adds a rim."""
    generator = np.random.default_rng(seed)
    samples = np.stack([label_map(shape, 0.12 * k - 1) for k in range(NUM_SAMPLES)], axis=-1)
    return {"prediction": label_map(shape, 0.3), "reference": label_map(shape, 0.9), "samples": samples,
            "uncertainty": generator.uniform(0, 1, shape).astype(np.float32),
            "image": generator.normal(100, 30, shape).astype(np.float32)}


def build_volumes(root: Path) -> Path:
    """Three cases below ``root`` in 3-D; returns the model folder."""
    model = _model(root, 3, ".nii.gz")
    rows = []
    for seed, (case, affine) in enumerate(AFFINES.items()):
        layers = arrays(SHAPE, seed)
        files = {"prediction": f"predictions/{case}", "uncertainty": f"predictions/{case}_uncertainty",
                 "samples": f"predictions/{case}_samples", "reference": f"labelsTs/{case}",
                 "image": f"imagesTs/{case}_0000"}
        for name, file in files.items():
            image = nibabel.Nifti1Image(layers[name], affine)
            image.set_qform(affine)
            nibabel.save(image, root / f"{file}.nii.gz")
        flagged = "yes" if case == FLAGGED else "no"
        rows += [{"case": case, "structure": structure, "volume_ml": 1.0, "expected_dice": 0.9 - 0.1 * seed,
                  "estimate": "samples", "flagged": flagged} for structure in list(LABELS)[1:]]
    _write_cases(root, rows)
    return model


def build_pictures(root: Path) -> Path:
    """Two colour pictures below ``root`` with masks as PNG; returns the model folder."""
    model = _model(root, 2, ".png")
    rows = []
    for seed, case in enumerate(("photo_a", "photo_b")):
        layers = arrays((20, 16), seed)
        colours = np.random.default_rng(seed).integers(0, 256, (16, 20, 3), np.uint8)
        sitk.WriteImage(sitk.GetImageFromArray(colours, isVector=True), str(root / "imagesTs" / f"{case}_0000.png"))
        for name, folder in (("prediction", "predictions"), ("reference", "labelsTs")):
            sitk.WriteImage(sitk.GetImageFromArray(layers[name].T), str(root / folder / f"{case}.png"))
        samples = sitk.JoinSeries([sitk.GetImageFromArray(one.T) for one in np.moveaxis(layers["samples"], -1, 0)])
        sitk.WriteImage(samples, str(root / "predictions" / f"{case}_samples.nii.gz"))
        rows += [{"case": case, "structure": structure, "area_px": 9.0, "expected_dice": 0.8}
                 for structure in list(LABELS)[1:]]
    _write_cases(root, rows)
    return model


def _model(root: Path, dimension: int, file_ending: str) -> Path:
    for name in ("predictions", "labelsTs", "imagesTs"):
        (root / name).mkdir(parents=True)
    model = write_model(root, dimension)
    content = json.loads((model / "dataset.json").read_text(encoding="utf-8"))
    (model / "dataset.json").write_text(json.dumps(content | {"labels": LABELS, "file_ending": file_ending}))
    return model


def _write_cases(root: Path, rows: list[dict]) -> None:
    with (root / "predictions" / "cases.csv").open("w", newline="") as table:
        writer = csv.DictWriter(table, rows[0])
        writer.writeheader()
        writer.writerows(rows)
