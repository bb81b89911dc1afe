"""A small model folder with predictions of phantoms, made of real files."""

import csv
import json

import numpy as np
import pytest
import SimpleITK as sitk
from model_folder import write_model

STRUCTURES = ("organ", "lesion")
SPACING = (1.0, 1.0, 1.5)
NUM_SAMPLES = 8


def distance_map(shape, center, spacing):
    grid = np.indices(shape, dtype=np.float32)
    return np.sqrt(sum(((g - c) * s) ** 2 for g, c, s in zip(grid, center, spacing)))


def make_case(seed, shape):
    """Image, label map, samples, probabilities and posterior of two concentric balls with ambiguous radii."""
    generator = np.random.default_rng(seed)
    center = [s / 2 + generator.uniform(-2, 2) for s in shape]
    r = distance_map(shape, center, SPACING[::-1][-len(shape):])
    radius, spread = generator.uniform(9, 12), generator.uniform(0.8, 1.8)

    def draw(width):
        z = generator.normal(0, width, 2)
        return np.where(r < min(radius / 2 + z[1], radius + z[0] - 2), 2, np.where(r < radius + z[0], 1,
                                                                                   0)).astype(np.uint8)

    def probabilities(width, num):
        return np.mean([np.stack([label == c for c in range(3)]) for label in (draw(width) for _ in range(num))],
                       axis=0)

    image = 60 / (1 + np.exp((r - radius) / spread)) + 40 / (1 + np.exp(
        (r - radius / 2) / spread)) + generator.normal(0, 6, shape)
    return image.astype(np.float32), draw(spread), np.stack([draw(0.6 * spread) for _ in range(NUM_SAMPLES)]), \
        probabilities(0.6 * spread, 40).astype(np.float32), probabilities(spread, 60).astype(np.float16)


def write(array, path, joined=False):
    images = [sitk.GetImageFromArray(a) for a in (array if joined else array[None])]
    for image in images:
        image.SetSpacing(SPACING[:image.GetDimension()])
    sitk.WriteImage(sitk.JoinSeries(images) if joined else images[0], str(path))


def write_case(root, case, seed, shape):
    image, label, samples, probabilities, posterior = make_case(seed, shape)
    predictions = root / "predictions"
    prediction = probabilities.argmax(0).astype(np.uint8)
    entropy = -(probabilities * np.log(np.clip(probabilities, 1e-9, 1))).sum(0) / np.log(3)
    write(image, root / "imagesTs" / f"{case}_0000.nii.gz")
    write(label, root / "labelsTs" / f"{case}.nii.gz")
    write(prediction, predictions / f"{case}.nii.gz")
    write(entropy.astype(np.float32), predictions / f"{case}_uncertainty.nii.gz")
    write(samples, predictions / f"{case}_samples.nii.gz", joined=True)
    write(probabilities, predictions / f"{case}_probabilities.nii.gz", joined=True)
    np.savez_compressed(root / "posterior" / f"{case}.npz", probabilities=posterior)
    size, unit = ("volume_ml", 0.0015) if len(shape) == 3 else ("area_mm2", 1.0)
    for value, structure in enumerate(STRUCTURES, start=1):
        sizes = (samples == value).reshape(NUM_SAMPLES, -1).sum(1) * unit
        yield {
            "case": case, "structure": structure, size: (prediction == value).sum() * unit, f"{size}_p05": np.quantile(
                sizes, 0.05), f"{size}_p95": np.quantile(sizes, 0.95), "expected_dice": 0.9, "num_samples": NUM_SAMPLES
        }


def build(root, dimension, num_cases=5):
    """Write everything below ``root`` and return the model folder."""
    for name in ("imagesTs", "labelsTs", "posterior", "predictions"):
        (root / name).mkdir()
    shape = (24, 36, 36) if dimension == 3 else (48, 44)
    rows = [row for index in range(num_cases) for row in write_case(root, f"case_{index}", index, shape)]
    with (root / "predictions" / "cases.csv").open("w", newline="") as table:
        writer = csv.DictWriter(table, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    (root / "predictions" / "run.json").write_text(
        json.dumps({"command": ["medsegdiff_predict", "-i", "images of <mine>"]}))
    return write_model(root, dimension)


@pytest.fixture(scope="session", params=[2, 3], ids=["2d", "3d"])
def folders(request, tmp_path_factory):
    """``(root, model folder)`` of five predicted phantoms."""
    root = tmp_path_factory.mktemp("report")
    return root, build(root, request.param)
