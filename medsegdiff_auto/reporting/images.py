"""The image of a case for its picture."""

from pathlib import Path

import numpy as np

from medsegdiff_auto.evaluation.case_files import Grid, read_array


def read_image(image_folder: Path, case: str, dataset_json: dict, grid: Grid) -> np.ndarray | None:
    """The first channel `grid.shape`, or `(*grid.shape, 3)` in [0, 1] for colours; None where it is absent or on
    another grid.

    Colours are one RGB file, or three channels named R, G and B.
    """
    ending, names = dataset_json["file_ending"], dataset_json["channel_names"]
    files = [image_folder / f"{case}_{int(number):04d}{ending}" for number in names]
    if not files[0].is_file():
        return None
    if list(names.values()) == ["R", "G", "B"] and all(file.is_file() for file in files):
        channels = [_pixels(file) for file in files]
        if all(channel.shape == grid.shape for channel in channels):
            return _unit_range(np.stack(channels, axis=-1))
    image = _pixels(files[0])
    if image.shape[:-1] == grid.shape and image.shape[-1] in (3, 4):
        return _unit_range(image[..., :3])
    return image if image.shape == grid.shape else None


def _pixels(file: Path) -> np.ndarray:
    return read_array(file)[0]


def _unit_range(image: np.ndarray) -> np.ndarray:
    return image.astype(np.float32) / max(float(image.max()), 1.0)
