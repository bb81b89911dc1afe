"""What a model answers to a phantom of one patch: computed on the CPU when it is exported, and compared on import.

The phantom is made of a hash and whole numbers, so that it is the same on every machine; the answer is not to the last
bit, since processors add in another order. It enters the network as a preprocessed image does: readers and resampling
have no part in it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load, save_file

from medsegdiff_auto.decision.decoder import by_mean
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.inference.model import TrainedModel
from medsegdiff_auto.inference.model_archive import SELF_TEST, Digest
from medsegdiff_auto.inference.options import SamplingOptions
from medsegdiff_auto.inference.predictor import MedSegDiffPredictor
from medsegdiff_auto.nnunet.managers import previous_stage_channels
from medsegdiff_auto.schemas import STRICT, validated
from medsegdiff_auto.writing import write_json

SEED, NUM_SAMPLES, MOST_STEPS = 17, 2, 2
SMOOTHINGS, RANGE = 3, 4.0
SHARE_OF_VOXELS, PROBABILITY = 1e-3, 1e-3
"""By how much an answer may differ from that of another processor: share of the voxels, and mean probability."""

Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class SelfTest:
    """What is written down of an answer, beside the label map itself.

    Attributes:
        image, labels: SHA-256 of the phantom (float32) and of the label map (int32).
        mean_probabilities: of every channel of the fused probabilities.
    """

    __pydantic_config__ = STRICT

    image: Digest
    labels: Digest
    mean_probabilities: list[Share]


@dataclass(frozen=True)
class Answer:
    """A model's answer to its phantom.

    Attributes:
        label_map: (*spatial) int32.
    """

    label_map: np.ndarray
    facts: SelfTest

    def write(self, folder: Path) -> None:
        """Writes ``self_test.json`` and ``self_test.safetensors``."""
        write_json(asdict(self.facts), folder / f"{SELF_TEST}.json")
        save_file({"labels": torch.from_numpy(self.label_map)}, folder / f"{SELF_TEST}.safetensors")


def phantom(num_channels: int, shape: Sequence[int]) -> np.ndarray:
    """Smooth random intensities (num_channels, *shape) float32 in [-2, 2], those of a normalised image.

    Bytes of SHAKE-256 are added over a box of an eighth of every axis, several times, in whole numbers.
    """
    size = int(np.prod(shape))
    channels = []
    for channel in range(num_channels):
        content = hashlib.shake_256(f"{SEED} {channel} {tuple(map(int, shape))}".encode()).digest(size)
        field = np.frombuffer(content, np.uint8).reshape(shape).astype(np.int64)
        for _ in range(SMOOTHINGS):
            for axis, length in enumerate(shape):
                field = _box_sums(field, axis, max(1, length // 8))
            field = (field - field.min()) * 65535 // max(1, int(field.max() - field.min()))
        channels.append(field.astype(np.float64) * (RANGE / 65535) - RANGE / 2)
    return np.stack(channels).astype(np.float32)


def answer_of(model: TrainedModel) -> Answer:
    """The answer of a model, of all its folds, on the CPU."""
    section, shape = model.diffusion, list(model.configuration_manager.patch_size)
    shape = [1] * (3 - len(shape)) + shape
    data = phantom(len(model.dataset_json["channel_names"]), shape)
    labels = model.plans_manager.get_label_manager(model.dataset_json)
    if model.configuration_manager.previous_stage_name is not None:
        first_stage = np.floor((data[0] / RANGE + 0.5) * len(labels.all_labels)).clip(0, len(labels.all_labels) - 1)
        data = np.vstack([data, previous_stage_channels(first_stage, labels, data.dtype)])
    steps = min(section.sampling.num_steps, MOST_STEPS) if section.network.sees_state else None
    predictor = MedSegDiffPredictor(model, SamplingOptions(NUM_SAMPLES, steps, num_mirrors=1, seed=SEED))
    probabilities = predictor.sample_case(data, SELF_TEST).fused
    label_map = np.ascontiguousarray(by_mean(probabilities.numpy(), labels), dtype=np.int32)
    means = probabilities.double().flatten(1).mean(1).clamp(0, 1)
    return Answer(label_map, SelfTest(_digest(data), _digest(label_map), means.tolist()))


def require_same_answer(model: TrainedModel, expected: Answer) -> str:
    """Compares a model's answer with that of the export; returns what came of it, as the end of a sentence.

    Raises:
        UserError: they differ by more than processors do.
    """
    found = answer_of(model)
    if found.facts.image != expected.facts.image or found.label_map.shape != expected.label_map.shape:
        raise UserError("The phantom of the self-test is another one than when the model was exported.",
                        found=f"{found.label_map.shape}, {found.facts.image[:12]}...",
                        expected=f"{expected.label_map.shape}, {expected.facts.image[:12]}...",
                        fix="have the model exported again, or import it with the version that exported it")
    means, then = found.facts.mean_probabilities, expected.facts.mean_probabilities
    apart = max((abs(now - before) for now, before in zip(means, then)), default=0.0)
    num_differing, num_voxels = int((found.label_map != expected.label_map).sum()), found.label_map.size
    if len(means) != len(then) or num_differing > SHARE_OF_VOXELS * num_voxels or apart > PROBABILITY:
        raise UserError("The model does not answer its self-test as it did when it was exported.",
                        found=f"{num_differing} of {num_voxels} voxels differ, mean probabilities by {apart:.2g}",
                        expected=f"at most {SHARE_OF_VOXELS:.1%} of the voxels, and {PROBABILITY:g}",
                        fix="have the model exported again; if this stays, report both versions "
                        "(medsegdiff_info on both machines)")
    if found.facts.labels == expected.facts.labels:
        return f"as when it was exported, in all {num_voxels} voxels"
    return f"as when it was exported but for {num_differing} of {num_voxels} voxels: another processor, or version"


def read_answer(text: bytes, tensors: bytes) -> Answer:
    """An answer from the content of ``self_test.json`` and ``self_test.safetensors``.

    Raises:
        UserError: they are damaged, or not of each other.
    """
    try:
        facts = validated(SelfTest, json.loads(text))
        label_map = load(tensors)["labels"].numpy()
        if label_map.dtype != np.int32 or _digest(label_map) != facts.labels:
            raise ValueError("another label map than its checksum says")
    except (ValueError, KeyError, RecursionError, SafetensorError) as failure:
        raise UserError("The self-test of the model cannot be read.", found=str(failure)[:200],
                        expected="what medsegdiff_export of this version writes",
                        fix="have the model exported again") from failure
    return Answer(label_map, facts)


def _box_sums(field: np.ndarray, axis: int, width: int) -> np.ndarray:
    """Sums over ``width`` neighbours along an axis, which is closed to a ring."""
    ring = np.concatenate([field, field.take(range(width), axis)], axis).cumsum(axis)
    length = field.shape[axis]
    return ring.take(range(width, width + length), axis) - ring.take(range(length), axis)


def _digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes()).hexdigest()
