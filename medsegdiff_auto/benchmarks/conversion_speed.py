"""MB of voxels a second that a conversion takes in, beside a plain copy with the same libraries and the same worker
processes.

The copy reads every file of the source and writes its voxels again, each sequence for itself, compressed as the
conversion compresses; it checks and computes nothing. Pictures go through drishti_gs, volumes of four sequences through
msd. A PNG or a label map that needs no change is copied by the conversion and not compressed again, so it can be faster
than the copy.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import tempfile
from argparse import Namespace
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from time import perf_counter

import imageio.v3 as iio
import nibabel as nib
import numpy as np
from skimage import io

from medsegdiff_auto.dataset_conversion.core.conversion import Request, convert

PICTURE_SHAPE, VOLUME_SHAPE = (512, 512), (240, 240, 155)
NUM_SEQUENCES, NUM_TEMPLATES, DATASET_ID = 4, 4, 1
FOLDERS = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")


def write_pictures(folder: Path, count: int, shape: tuple[int, int] = PICTURE_SHAPE) -> int:
    """Writes so many RGB pictures and label maps of 0 to 2 as drishti_gs reads them; returns their bytes, uncompressed.
    """
    generator, radius = np.random.default_rng(0), _radius(shape)
    label = (radius < 0.6).astype(np.uint8) + (radius < 0.3)
    for number in range(NUM_TEMPLATES):
        colours = generator.normal(0, 4,
                                   (*shape, 3)) + 60 * label[..., None] + 80 * np.clip(1.2 - radius, 0, 1)[..., None]
        for name, pixels in (("images", np.clip(colours, 0, 255).astype(np.uint8)), ("labels", label)):
            _write_copies(folder / name, number, count, ".png", partial(iio.imwrite, image=pixels))
    return count * int(np.prod(shape)) * 4


def write_volumes(folder: Path, count: int, shape: tuple[int, int, int] = VOLUME_SHAPE) -> int:
    """Writes so many volumes, a head of noise in empty air, as a task of the Decathlon; returns their bytes,
    uncompressed.
    """
    generator, radius, affine = np.random.default_rng(0), _radius(shape), np.diag([-1.0, -1.0, 1.0, 1.0])
    label = (radius < 0.3).astype(np.uint8) + (radius < 0.2)
    for number in range(NUM_TEMPLATES):
        voxels = generator.normal(400, 60, (*shape, NUM_SEQUENCES)) * (radius < 0.8)[..., None]
        for name, array in (("imagesTr", voxels.astype(np.int16)), ("labelsTr", label)):
            image = nib.Nifti1Image(array, affine)
            _write_copies(folder / name, number, count, ".nii.gz", partial(nib.save, image))
    (folder / "dataset.json").write_text(
        json.dumps({
            "name": "Speed", "modality": {str(number): f"MR {number}"
                                          for number in range(NUM_SEQUENCES)},
            "labels": {"0": "background", "1": "whole", "2": "core"},
            "training": [{"image": f"imagesTr/case_{number:04d}.nii.gz", "label": f"labelsTr/case_{number:04d}.nii.gz"}
                         for number in range(count)]
        }))
    return count * int(np.prod(shape)) * (2 * NUM_SEQUENCES + 1)


def copy(file: Path, target: Path) -> None:
    """Reads a picture or a volume and writes it again, the sequences of a volume one by one."""
    name = f"{file.parent.name}_{file.name}"
    if file.suffix == ".png":
        iio.imwrite(target / name, io.imread(file))
        return
    image = nib.load(file)
    voxels = np.asanyarray(image.dataobj)
    for number, frame in enumerate(np.moveaxis(voxels, 3, 0) if voxels.ndim == 4 else [voxels]):
        nib.save(nib.Nifti1Image(frame, image.affine), target / f"{number}_{name}")


def seconds_of_copy(source: Path, target: Path, num_workers: int) -> float:
    """Seconds of the copy; its processes are started as those of a conversion are, none for one worker."""
    target.mkdir()
    files = sorted(path for path in source.glob("*/*") if path.is_file())
    begin = perf_counter()
    if num_workers == 1:
        for file in files:
            copy(file, target)
    else:
        with ProcessPoolExecutor(num_workers, multiprocessing.get_context("spawn")) as pool:
            list(pool.map(copy, files, [target] * len(files)))
    seconds = perf_counter() - begin
    shutil.rmtree(target)
    return seconds


def seconds_of_conversion(converter: str, source: Path, target: Path, num_workers: int) -> float:
    """Seconds of a whole conversion, from the listing to the folds.

    Raises:
        RuntimeError: a case could not be converted.
    """
    begin = perf_counter()
    outcome = convert(Request(converter, source, target, DATASET_ID, Namespace(experts=2), num_processes=num_workers))
    seconds = perf_counter() - begin
    if outcome.problems:
        raise RuntimeError(f"{outcome.problems[0].name}: {outcome.problems[0].reason}")
    shutil.rmtree(target)
    return seconds


def measure(converter: str, write: Callable[[Path, int], int], count: int, num_workers: int, num_rounds: int) -> str:
    """One row of the table: the medians over rounds in which copy and conversion take turns."""
    with tempfile.TemporaryDirectory() as temporary:
        source, target = Path(temporary, "source"), Path(temporary, "target")
        os.environ.update(dict.fromkeys(FOLDERS, temporary))
        megabytes = write(source, count) / 1e6
        seconds = np.array([(seconds_of_copy(source, target,
                                             num_workers), seconds_of_conversion(converter, source, target,
                                                                                 num_workers))
                            for _ in range(num_rounds)])
    of_copy, of_conversion = megabytes / np.median(seconds, axis=0)
    ratio = of_conversion / of_copy
    return f"| {converter} | {count} | {megabytes:.0f} | {of_conversion:.1f} | {of_copy:.1f} | {ratio:.2f} |"


def _write_copies(folder: Path, number: int, count: int, ending: str, write: Callable[[Path], None]) -> None:
    """Writes template ``number`` once and copies it for its share of the cases, because compressing takes the time."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"case_{case:04d}{ending}" for case in range(number, count, NUM_TEMPLATES)]
    for path in paths[:1]:
        write(path)
    for path in paths[1:]:
        shutil.copyfile(paths[0], path)


def _radius(shape: Sequence[int]) -> np.ndarray:
    """The distance from the centre of a grid, 1 where an axis ends, float."""
    axes = np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij", sparse=True)
    return np.sqrt(sum(axis ** 2 for axis in axes))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=1000, help="pairs of PNG, 0 for none (default: %(default)s)")
    parser.add_argument("--volumes", type=int, default=50,
                        help="volumes of 240 x 240 x 155 x 4, 0 for none (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=1, help="repetitions (default: %(default)s)")
    parser.add_argument("-np", type=int, default=2, help="worker processes (default: %(default)s)")
    args = parser.parse_args()
    print("| converter | cases | MB | conversion MB/s | copy MB/s | ratio |\n|---|---|---|---|---|---|")
    for converter, write, count in (("drishti_gs", write_pictures, args.pictures), ("msd", write_volumes,
                                                                                    args.volumes)):
        if count:
            print(measure(converter, write, count, args.np, args.rounds), flush=True)


if __name__ == "__main__":
    main()
