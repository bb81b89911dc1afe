"""What a training step compares the network's answer with."""

from __future__ import annotations

from torch import Tensor

from medsegdiff_auto.diffusion.state import state_from_labels, state_from_regions
from medsegdiff_auto.nnunet.managers import LabelManager


def reference_state(target: Tensor, label_manager: LabelManager) -> tuple[Tensor, Tensor | None]:
    """x_start (B, K, *spatial) in [-1, 1] and the valid voxels (B, 1, *spatial), None where all are.

    Args:
        target: from nnU-Net's loader: a label map (B, 1, *spatial), or regions (B, K, *spatial), and behind them the
            ignored voxels where the dataset has an ignore label.
    """
    ignore_label = label_manager.ignore_label
    if label_manager.has_regions:
        if ignore_label is None:
            return state_from_regions(target), None
        ignored = target[:, -1:].bool()
        return state_from_regions(target[:, :-1], ignored), ~ignored
    x_start = state_from_labels(target, label_manager.num_segmentation_heads, ignore_label)
    return x_start, None if ignore_label is None else target != ignore_label
