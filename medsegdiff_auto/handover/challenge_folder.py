"""The folder from which a challenge's container is built: Dockerfile, program, weights, a test case and its result.

    Dockerfile, requirements.lock, wheels/     the image; with wheels/ filled (``pip download``), without a network
    inference.py, sockets.json                 what runs in it (:mod:`~medsegdiff_auto.handover.challenge`)
    model/, model.tar.gz                       averaged weights, plans and fit, unpacked at /opt/ml/model
    test/input/interf0, test/expected_output   a phantom for every interface, and what the model makes of it
    do_build.sh, do_test_run.sh, do_save.sh
    README.md
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import SimpleITK as sitk

import medsegdiff_auto
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.handover.challenge import Interface, Sockets, read_sockets, segment
from medsegdiff_auto.handover.challenge_texts import README, dockerfile, scripts
from medsegdiff_auto.handover.exporting import export_model
from medsegdiff_auto.handover.self_test import RANGE, phantom
from medsegdiff_auto.inference.model import TrainedModel, load_model
from medsegdiff_auto.inference.model_archive import opened
from medsegdiff_auto.inference.model_unpacking import write_model
from medsegdiff_auto.writing import write_json, write_text

LOCK = "requirements.lock"
BASE_IMAGE = re.compile(r"[a-z0-9][a-z0-9._/:-]*@sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Measured:
    """The test case on this machine.

    Attributes:
        size: of the image, in voxels.
    """

    seconds: float
    size: tuple[int, ...]


def write_challenge_folder(model_folder: Path, folder: Path, sockets_file: Path, base_image: str,
                           folds: list[int | str] | None = None) -> Measured:
    """Writes the folder.

    Args:
        folder: a new one.
        base_image: with Python, by its digest: ``NAME@sha256:...``.

    Raises:
        UserError: the folder exists, the sockets do not fit the model, the image has no digest, or the sources of this
            package are not there.
    """
    if folder.exists():
        raise UserError(f"{folder} exists already.", found=str(folder), expected="the name of a new folder",
                        fix="give another name with -o, or remove it first")
    if not BASE_IMAGE.fullmatch(base_image):
        raise UserError("The base image is not named by its digest.", found=base_image,
                        expected="NAME@sha256:DIGEST, which stays what it is",
                        fix="docker pull python:3.11-slim; docker inspect --format '{{index .RepoDigests 0}}' "
                        "python:3.11-slim")
    model = load_model(model_folder, folds)
    sockets = read_sockets(sockets_file, model.dataset_json)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".challenge_", dir=folder.parent) as temporary:
        stage = Path(temporary) / "folder"
        (stage / "wheels").mkdir(parents=True)
        _write_wheel(stage)
        shutil.copy(sockets_file, stage / "sockets.json")
        _write_weights(model_folder, stage, folds, Path(temporary))
        measured = [_write_test(model, sockets, number, stage) for number in range(len(sockets.interfaces))]
        name = re.sub(r"[^a-z0-9-]+", "-", model.plans_manager.dataset_name.lower()).strip("-")
        write_text(dockerfile(base_image), stage / "Dockerfile")
        for file, text in scripts(name).items():
            write_text(text, stage / file)
            (stage / file).chmod(0o755)
        write_text(README.format(name=name, seconds=f"{max(one.seconds for one in measured):.1f}",
                                 size=" x ".join(map(str, measured[0].size)),
                                 samples=model.diffusion.sampling.num_samples, folds=len(model.folds)),
                   stage / "README.md")
        stage.rename(folder)
    return measured[0]


def _write_wheel(stage: Path) -> None:
    """The wheel of this package, and the versions of all that it needs."""
    root = Path(medsegdiff_auto.__file__).parents[1]
    if not (root / "pyproject.toml").is_file() or not (root / LOCK).is_file():
        raise UserError("The sources of this package are not there.", found=f"no pyproject.toml in {root}",
                        expected="an installation from its repository",
                        fix="clone the repository and install it with pip install -e")
    shutil.copy(root / LOCK, stage / LOCK)
    with TemporaryDirectory() as temporary:
        for name in ("medsegdiff_auto", "plans", "dataset_conversion"):
            shutil.copytree(root / name, Path(temporary) / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
            shutil.copy(root / name, temporary)
        done = subprocess.run([sys.executable, "-c", "from setuptools import build_meta as b; b.build_wheel('wheel')"],
                              cwd=temporary, capture_output=True, text=True)
        if done.returncode:
            raise UserError("The wheel of this package cannot be built.",
                            found=(done.stderr.strip().splitlines() or ["no message"])[-1][:200],
                            expected="setuptools that build it", fix="pip install -U setuptools")
        for wheel in (Path(temporary) / "wheel").glob("*.whl"):
            shutil.copy(wheel, stage / "wheels")


def _write_weights(model_folder: Path, stage: Path, folds: list[int | str] | None, temporary: Path) -> None:
    """What is handed over of the model, and the same as an archive with its files at the root."""
    (stage / "model").mkdir()
    export_model(model_folder, temporary / "model.zip", folds)
    with opened(temporary / "model.zip") as archive:
        write_model(archive, stage / "model")
    with tarfile.open(stage / "model.tar.gz", "w:gz") as archive:
        for file in sorted((stage / "model").iterdir()):
            archive.add(file, file.name)


def _write_test(model: TrainedModel, sockets: Sockets, number: int, stage: Path) -> Measured:
    interface, case = sockets.interfaces[number], stage / "test" / "input" / f"interf{number}"
    images = _images(model)
    for socket, image in zip(interface.inputs, images):
        (case / socket.relative_path).mkdir(parents=True)
        sitk.WriteImage(image, str(case / socket.relative_path / f"{4 * '0123abcd'}.mha"), True)
    write_json(_listed(interface), case / "inputs.json")
    start = time.monotonic()
    segment(case, stage / "test" / "expected_output" / f"interf{number}", stage / "model", stage / "sockets.json")
    return Measured(time.monotonic() - start, images[0].GetSize())


def _listed(interface: Interface) -> list[dict]:
    """What the platform writes of the inputs, as far as it is read."""
    return [{"socket": {"slug": one.slug, "relative_path": one.relative_path, "kind": "Image", "super_kind": "Image"},
             "file": None, "image": {"name": "image.mha"}, "value": None} for one in interface.inputs]


def _images(model: TrainedModel) -> list[sitk.Image]:
    """The phantom of a patch, one image per channel, with the intensities and the spacing of the training data."""
    plans, configuration = model.plans_manager.plans, model.configuration_manager
    backward = plans.get("transpose_backward", [0, 1, 2])
    shape, spacing = list(configuration.patch_size), list(configuration.spacing)
    if len(shape) == 2:
        backward = [axis - 1 for axis in backward[1:]] if backward[0] == 0 else [0, 1]
    shape, spacing = [shape[axis] for axis in backward], [spacing[axis] for axis in backward]
    channels = phantom(len(model.dataset_json["channel_names"]), shape)
    found = plans.get("foreground_intensity_properties_per_channel", {})
    images = []
    for number, channel in enumerate(channels):
        of_channel = found.get(str(number), {})
        mean, deviation = of_channel.get("mean", 0.0), of_channel.get("std", RANGE)
        image = sitk.GetImageFromArray(np.float32(mean + deviation * channel))
        image.SetSpacing([float(one) for one in reversed(spacing)])
        images.append(image)
    return images
