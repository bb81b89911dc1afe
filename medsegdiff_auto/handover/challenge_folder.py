"""The folder from which a challenge's container is built: Dockerfile, program, weights, test cases and their results.

    Dockerfile, requirements.lock, wheels/     the image; with wheels/ filled (``pip download``), without a network
    inference.py, sockets.json                 what runs in it (:mod:`~medsegdiff_auto.handover.challenge`), or
    inference.py, predict.sh, cases.json       for a folder of cases (:mod:`~medsegdiff_auto.handover.challenge_cases`)
    model/, model.tar.gz                       averaged weights, plans and fit
    test/input, test/expected_output           phantoms, and what the model makes of them: interf0 for every interface,
                                               or two cases
    do_build.sh, do_test_run.sh, do_save.sh
    README.md
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import SimpleITK as sitk

import medsegdiff_auto
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.handover.challenge import TOOK, Interface, Sockets, read_sockets
from medsegdiff_auto.handover.challenge_cases import CASE, Cases, default_patterns, not_fitting, require_fit
from medsegdiff_auto.handover.challenge_cost import CARD_GB, LIMIT_S, median_case, planned_costs
from medsegdiff_auto.handover.challenge_texts import CASES, GRAND_CHALLENGE, Kind
from medsegdiff_auto.handover.exporting import export_model
from medsegdiff_auto.handover.self_test import RANGE, phantom
from medsegdiff_auto.inference.model import TrainedModel, load_model
from medsegdiff_auto.inference.model_archive import opened
from medsegdiff_auto.inference.model_unpacking import write_model
from medsegdiff_auto.schemas import validated
from medsegdiff_auto.writing import write_json, write_text

LOCK = "requirements.lock"
TEST_CASES = ("case_1", "case_2")
_TOOK = re.compile(TOOK.format(seconds=r"(?P<seconds>[\d.]+)", gb=r"(?P<gb>[\d.]+)"))
BASE_IMAGE = re.compile(r"[a-z0-9][a-z0-9._/:-]*@sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Measured:
    """A run of the program on this machine.

    Attributes:
        memory_gb: of the process, at the peak.
        size: of an image, in voxels.
        num_cases: of this size.
    """

    seconds: float
    memory_gb: float
    size: tuple[int, ...]
    num_cases: int = 1

    def __str__(self) -> str:
        cases = "1 case" if self.num_cases == 1 else f"{self.num_cases} cases"
        return f"{cases} of {' x '.join(map(str, self.size))} voxels"


def write_challenge_folder(model_folder: Path, folder: Path, sockets_file: Path, base_image: str,
                           folds: list[int | str] | None = None) -> Measured:
    """Writes the folder of a container for grand-challenge.org.

    Args:
        folder: a new one.
        base_image: with Python, by its digest: ``NAME@sha256:...``.

    Raises:
        UserError: the folder exists, the sockets do not fit the model, the image has no digest, or the sources of this
            package are not there.
    """
    _require_new(folder, base_image)
    model = load_model(model_folder, folds)
    sockets = read_sockets(sockets_file, model.dataset_json)

    def fill(stage: Path) -> list[Measured]:
        shutil.copy(sockets_file, stage / "sockets.json")
        return [_write_test(model, sockets, number, stage) for number in range(len(sockets.interfaces))]

    return _write(GRAND_CHALLENGE, model, folder, base_image, folds, fill)


def write_cases_folder(model_folder: Path, folder: Path, patterns: Sequence[str] | None, base_image: str,
                       folds: list[int | str] | None = None) -> Measured:
    """Writes the folder of a container that segments all cases of ``/input``, as BraTS, FLARE and KiTS want it.

    Args:
        patterns: of :class:`~medsegdiff_auto.handover.challenge_cases.Cases`, one per channel; None for
            ``{case}_0000`` and on, with the ending of the training data.

    Raises:
        UserError: as :func:`write_challenge_folder`, or the patterns do not fit the model.
    """
    _require_new(folder, base_image)
    model = load_model(model_folder, folds)
    try:
        cases = validated(Cases, {"images": list(patterns or default_patterns(model.dataset_json)),
                                  "mask": f"{CASE}{model.dataset_json['file_ending']}"})
        require_fit(cases, model.dataset_json)
    except ValueError as failure:
        raise not_fitting("--pattern", failure) from failure

    def fill(stage: Path) -> list[Measured]:
        write_json(asdict(cases), stage / "cases.json")
        images = _images(model)
        for case in TEST_CASES:
            for pattern, image in zip(cases.images, images):
                file = stage / "test" / "input" / pattern.replace(CASE, case)
                file.parent.mkdir(parents=True, exist_ok=True)
                sitk.WriteImage(image, str(file))
        measured = _run(stage, "test/input", "test/expected_output", images[0].GetSize())
        return [replace(measured, num_cases=len(TEST_CASES))]

    return _write(CASES, model, folder, base_image, folds, fill)


def _require_new(folder: Path, base_image: str) -> None:
    if folder.exists():
        raise UserError(f"{folder} exists already.", found=str(folder), expected="the name of a new folder",
                        fix="give another name with -o, or remove it first")
    if not BASE_IMAGE.fullmatch(base_image):
        raise UserError("The base image is not named by its digest.", found=base_image,
                        expected="NAME@sha256:DIGEST, which stays what it is",
                        fix="docker pull python:3.11-slim; docker inspect --format '{{index .RepoDigests 0}}' "
                        "python:3.11-slim")


def _write(kind: Kind, model: TrainedModel, folder: Path, base_image: str, folds: list[int | str] | None,
           fill: Callable[[Path], list[Measured]]) -> Measured:
    """Writes what all kinds have; ``fill`` writes settings and test cases and runs these."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".challenge_", dir=folder.parent) as temporary:
        stage = Path(temporary) / "folder"
        (stage / "wheels").mkdir(parents=True)
        _write_wheel(stage)
        _write_weights(model.folder, stage, folds, Path(temporary))
        name = re.sub(r"[^a-z0-9-]+", "-", model.plans_manager.dataset_name.lower()).strip("-")
        write_text(kind.dockerfile(base_image), stage / "Dockerfile")
        for file, text in kind.programs(name).items():
            write_text(text, stage / file)
            (stage / file).chmod(0o755)
        measured = max(fill(stage), key=lambda one: one.seconds)
        write_text(kind.readme(name, **_facts(model, measured)), stage / "README.md")
        stage.rename(folder)
    return measured


def _facts(model: TrainedModel, measured: Measured) -> dict[str, str]:
    planned = planned_costs(model)
    fitting = [one.speed for one in planned if one.cpu_s <= LIMIT_S and one.card_gb <= CARD_GB]
    advice = f"By these numbers these fit both limits: {', '.join(fitting)}." if fitting else \
        "By these numbers none fits both limits on a CPU: measure `fast` on a card."
    return {"seconds": f"{measured.seconds:.1f}", "memory": f"{measured.memory_gb:.2f}",
            "case": str(measured), "samples": str(model.diffusion.sampling.num_samples),
            "folds": "1 fold" if len(model.folds) == 1 else f"{len(model.folds)} folds",
            "median": " x ".join(map(str, median_case(model).shape[::-1])),
            "planned": "\n".join(one.row for one in planned), "advice": advice}


def _run(stage: Path, input_folder: str, output_folder: str, size: tuple[int, ...]) -> Measured:
    """The program in a process of its own, as in the container but on a CPU; it says what it took.

    Raises:
        UserError: it failed.
    """
    root = str(Path(medsegdiff_auto.__file__).parents[1])
    found = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": found}
    done = subprocess.run([sys.executable, "inference.py", "--input", input_folder, "--output", output_folder,
                           "--model", "model"], cwd=stage, env=environment, capture_output=True, text=True)
    took = _TOOK.search(done.stdout)
    if done.returncode or took is None:
        raise UserError("The program of the container fails on its test case.",
                        found=(done.stderr.strip() or "no message")[-500:], expected="a mask of a phantom",
                        fix="predict an image with medsegdiff_predict first, and see whether the model is sound")
    return Measured(float(took["seconds"]), float(took["gb"]), size)


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
    return _run(stage, f"test/input/interf{number}", f"test/expected_output/interf{number}", images[0].GetSize())


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
