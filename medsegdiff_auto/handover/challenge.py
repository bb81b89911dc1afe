"""A model within a challenge's container: images from ``/input``, masks to ``/output``, by a file that names both.

    /input/inputs.json                     the platform's list of what there is; its slugs say which interface is meant
    /input/RELATIVE_PATH/UUID.mha          one image, whatever its name, or a TIFF
    /output/RELATIVE_PATH/output.mha       one image for every socket of the interface
    /output/RELATIVE_PATH.json             sizes and intervals, null for what is not a number

One process, no network, nothing written but to ``/output`` and the folder for temporary files. The noise is that of one
case name, since those of the platform are random.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, StrictInt, StrictStr

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.failures import as_user_error
from medsegdiff_auto.nnunet.known_names import read_json_object
from medsegdiff_auto.nnunet.structures import structures_of
from medsegdiff_auto.schemas import STRICT, validated
from medsegdiff_auto.writing import atomically, write_json

if TYPE_CHECKING:
    import SimpleITK as sitk

    from medsegdiff_auto.inference.prediction import Prediction

CASE = "case"
TOOK = "took {seconds} s and {gb} GB of memory"
ENDINGS = (".mha", ".tif", ".tiff")
SEGMENTATION, PROBABILITY, SIZES = "segmentation", "probability", "sizes"
RelativePath = Annotated[StrictStr, Field(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*$")]
Slug = Annotated[StrictStr, Field(pattern=r"^[a-z0-9-]{1,100}$")]


@dataclass(frozen=True)
class Input:
    """An image socket; the inputs of an interface are the channels of the model, in their order."""

    __pydantic_config__ = STRICT

    slug: Slug
    relative_path: RelativePath


@dataclass(frozen=True)
class Output:
    """A socket that is written.

    Attributes:
        kind: the mask, the probabilities of a structure (float32), or the sizes of all with their intervals (JSON).
        structure: of a probability.
    """

    __pydantic_config__ = STRICT

    slug: Slug
    relative_path: RelativePath
    kind: Literal["segmentation", "probability", "sizes"] = "segmentation"
    structure: StrictStr | None = None


@dataclass(frozen=True)
class Interface:
    """What is given together, and what is asked for."""

    __pydantic_config__ = STRICT

    inputs: Annotated[list[Input], Field(min_length=1)]
    outputs: Annotated[list[Output], Field(min_length=1)]

    @property
    def key(self) -> tuple[str, ...]:
        """The sorted slugs of its inputs."""
        return tuple(sorted(one.slug for one in self.inputs))


@dataclass(frozen=True)
class Sockets:
    """``sockets.json``.

    Attributes:
        labels: our label value to the challenge's; those that are not in it stay.
        allowed: values that the challenge takes; None for any.
        speed: of ``medsegdiff_predict``.
    """

    __pydantic_config__ = STRICT

    interfaces: Annotated[list[Interface], Field(min_length=1)]
    labels: dict[int, Annotated[StrictInt, Field(ge=0, le=255)]] = field(default_factory=dict)
    allowed: list[StrictInt] | None = None
    speed: Literal["fast", "default", "best"] = "default"


def read_sockets(file: Path, dataset_json: dict) -> Sockets:
    """What a challenge asks of a model.

    Raises:
        UserError: it is not what a model with these labels and channels can give.
    """
    try:
        sockets = validated(Sockets, read_json_object(file))
        _require_fit(sockets, dataset_json)
    except ValueError as failure:
        raise UserError(f"{file} does not fit the model.", found=str(failure),
                        expected='{"interfaces": [{"inputs": [{"slug", "relative_path"}, one per channel], "outputs": '
                        '[{"slug", "relative_path", "kind"}, ...]}], "labels": {"1": 2}}',
                        fix="correct the file; slugs and paths are on the challenge's page") from failure
    return sockets


def _require_fit(sockets: Sockets, dataset_json: dict) -> None:
    structures = {one.name for one in structures_of(dataset_json)}
    keys = [interface.key for interface in sockets.interfaces]
    if len(set(keys)) < len(keys):
        raise ValueError("two interfaces have the same inputs")
    for interface in sockets.interfaces:
        if len(interface.inputs) != len(dataset_json["channel_names"]):
            raise ValueError(f"{len(interface.inputs)} inputs for {len(dataset_json['channel_names'])} channels")
        paths = [one.relative_path for one in interface.outputs]
        if len(set(paths)) < len(paths):
            raise ValueError("two outputs have the same relative_path, and a platform takes one file of each")
        for one in interface.outputs:
            if one.kind == PROBABILITY and one.structure not in structures:
                raise ValueError(f"{one.slug} is of {one.structure}, which is none of {', '.join(sorted(structures))}")
            if (one.kind == SIZES) != one.relative_path.endswith(".json"):
                raise ValueError(f"{one.slug} is a {one.kind} at {one.relative_path}")
    require_labels(sockets.labels, sockets.allowed, dataset_json)


def require_labels(labels: dict[int, int], allowed: list[int] | None, dataset_json: dict) -> None:
    """
    Raises:
        ValueError: a label is mapped that the model does not have, or its masks have values that are not allowed.
    """
    values = {0, *(value for one in structures_of(dataset_json) for value in one.labels)}
    mapped = {labels.get(value, value) for value in values}
    if not set(labels) <= values:
        raise ValueError(f"labels maps {sorted(set(labels) - values)}, which the model does not have")
    if allowed is not None and not mapped <= set(allowed):
        raise ValueError(f"the masks have the values {sorted(mapped)}, of which {allowed} are allowed")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs in the container; the arguments are for tests outside of one."""
    parser = argparse.ArgumentParser(description="Segments the image in /input and writes to /output.")
    here = Path.cwd()
    for name, default in (("input", "/input"), ("output", "/output"), ("model", "/opt/ml/model"),
                          ("sockets", str(here / "sockets.json"))):
        parser.add_argument(f"--{name}", type=Path, default=Path(default))
    args = parser.parse_args(argv)
    return in_container(lambda: segment(args.input, args.output, args.model, args.sockets))


def in_container(work: Callable[[], list[Path]]) -> int:
    """Does the work, names the files that it wrote, and says what it took; 2 and four lines for what a user repairs."""
    from medsegdiff_auto.sampling.process_memory import peak_resident_bytes

    start = time.monotonic()
    for variable in ("nnUNet_def_n_proc", "nnUNet_n_proc_DA"):
        os.environ[variable] = "1"  # the cores of the host are not those of the container
    try:
        files = work()
    except Exception as failure:
        error = as_user_error(failure)
        if error is None:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join(map(str, files)))
    print(TOOK.format(seconds=f"{time.monotonic() - start:.1f}", gb=f"{peak_resident_bytes() / 1e9:.2f}"))
    return 0


def segment(input_folder: Path, output_folder: Path, model: Path, sockets_file: Path) -> list[Path]:
    """Segments the image of an input folder; returns the files that were written.

    Raises:
        UserError: the inputs are those of no interface, or a folder does not hold one image.
    """
    from medsegdiff_auto.inference.segmenter import Segmenter

    sockets = read_sockets(sockets_file, read_json_object(model / "dataset.json"))
    interface = _interface(sockets, input_folder)
    images = [_image(input_folder / one.relative_path) for one in interface.inputs]
    prediction = Segmenter(model, speed=sockets.speed).predict(images, case=CASE)
    return [_written(prediction, one, sockets, output_folder) for one in interface.outputs]


def _interface(sockets: Sockets, input_folder: Path) -> Interface:
    file = input_folder / "inputs.json"
    try:
        listed = json.loads(file.read_text(encoding="utf-8"))
        given = tuple(sorted(one.get("socket", one.get("interface"))["slug"] for one in listed))
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as failure:
        raise UserError(f"{file} cannot be read.", found=f"{type(failure).__name__}: {failure}"[:200],
                        expected='a list of {"socket": {"slug": ...}, ...}', fix="see what the platform writes") \
            from failure
    for interface in sockets.interfaces:
        if interface.key == given:
            return interface
    raise UserError("There is no interface for these inputs.", found=", ".join(given),
                    expected=" or ".join(", ".join(one.key) for one in sockets.interfaces),
                    fix="add the interface to sockets.json")


def _image(folder: Path) -> sitk.Image:
    import SimpleITK as sitk

    there = sorted(file.name for file in folder.iterdir()) if folder.is_dir() else []
    images = [name for name in there if name.lower().endswith(ENDINGS)]
    if len(images) != 1:
        raise UserError(f"{folder} does not hold one image.", found=", ".join(there[:5]) or "no file",
                        expected=f"one file that ends in {' or '.join(ENDINGS)}",
                        fix="convert the image to .mha; NIfTI is none of the platform's formats")
    try:
        return sitk.ReadImage(str(folder / images[0]))
    except RuntimeError as failure:
        raise UserError(f"{folder / images[0]} cannot be read.", found=str(failure).splitlines()[-1][:200],
                        expected="an image in MetaImage's format or a TIFF", fix="copy the file again") from failure


def _written(prediction: Prediction, socket: Output, sockets: Sockets, folder: Path) -> Path:
    import numpy as np

    file = folder / socket.relative_path
    if socket.kind == SIZES:
        write_json({name: {one.measure: _number(one.size), "lower": _number(one.lower), "upper": _number(one.upper)}
                    for name, one in prediction.volumes.items()}, file, allow_nan=False)
        return file
    file = file / "output.mha"
    if socket.kind == PROBABILITY:
        channel = next(one.channel for one in structures_of(prediction.on_image.grid.dataset_json)
                       if one.name == socket.structure)
        _write(prediction.image(np.ascontiguousarray(prediction.probabilities[channel], dtype=np.float32)), file)
    else:
        write_mask(prediction, sockets.labels, file)
    return file


def write_mask(prediction: Prediction, labels: dict[int, int], file: Path) -> None:
    """Writes the label map with the challenge's values, one byte a voxel."""
    import numpy as np

    array = prediction.segmentation.astype(np.uint8)
    for ours, theirs in labels.items():
        array[prediction.segmentation == ours] = theirs
    _write(prediction.image(array), file)


def _write(image: sitk.Image, file: Path) -> None:
    import SimpleITK as sitk

    with atomically(file) as unfinished:
        sitk.WriteImage(image, str(unfinished), True)


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
