"""What the machine can bear: the planner narrows nnU-Net's networks and batches to it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Resources:
    """Limits handed to nnU-Net's planner.

    Attributes:
        gpu_memory_target_gb: nnU-Net's memory target, from which it derives patch and batch.
        base_num_features: channels of the finest stage.
        max_num_features_2d, max_num_features_3d: cap of the channels.
        max_batch_size_2d, max_batch_size_3d: cap of the batch; None leaves nnU-Net's.
        half_precision: whether training runs under autocast.
    """

    gpu_memory_target_gb: float
    base_num_features: int
    max_num_features_2d: int
    max_num_features_3d: int
    max_batch_size_2d: int | None
    max_batch_size_3d: int | None
    half_precision: bool


RESOURCES = {
    "gpu": Resources(8, 32, 512, 320, None, None, True),
    "cpu": Resources(2, 16, 256, 160, 8, 2, False),
    "tiny": Resources(1, 8, 64, 64, 8, 2, False),
}
