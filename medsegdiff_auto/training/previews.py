"""Pictures during training: what the averaged network draws on the same cases with the same seeds."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import torch
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetBaseDataset
from nnunetv2.utilities.label_handling.label_handling import LabelManager, convert_labelmap_to_one_hot

from medsegdiff_auto.networks.sampling_network import SamplingNetwork
from medsegdiff_auto.writing import atomically

NUM_CASES, NUM_SAMPLES, NUM_PICTURES = 2, 3, 5
SEED = 20_211


def patch_around(center: np.ndarray, size: np.ndarray, shape: np.ndarray) -> list[tuple[int, int]]:
    """Start and stop per axis of a patch of this size, inside the image where the image is large enough."""
    start = np.clip(center - size // 2, 0, np.maximum(shape - size, 0))
    return [(int(a), int(b)) for a, b in zip(start, np.minimum(start + size, shape))]


class Previews:
    """Draws ``epoch_0050.png``: image, reference, mean, three samples, spread; five times a training.

    Args:
        folder: of the pictures.
        dataset: whose first cases are drawn.
        patch_size: that of the network.
    """

    def __init__(self, folder: str, num_epochs: int, dataset: nnUNetBaseDataset, patch_size: Sequence[int],
                 label_manager: LabelManager):
        self.folder, self.num_epochs = folder, num_epochs
        self.patch_size, self.label_manager = patch_size, label_manager
        self.interval = max(1, num_epochs // NUM_PICTURES)
        self.cases = [self.load(dataset, name) for name in sorted(dataset.identifiers)[:NUM_CASES]]

    def load(self, dataset: nnUNetBaseDataset, name: str) -> tuple[str, np.ndarray, np.ndarray]:
        """Name, image patch (C, *patch) and reference patch (*patch) around the foreground's centre."""
        image, segmentation, previous, _ = dataset.load_case(name)
        image, segmentation = np.asarray(image[:]), np.asarray(segmentation[:])[0]
        if previous is not None:
            one_hot = convert_labelmap_to_one_hot(np.asarray(previous[:]), self.label_manager.foreground_labels,
                                                  output_dtype=image.dtype)
            image = np.concatenate([image, one_hot])
        foreground = np.argwhere(segmentation > 0)
        center = foreground.mean(0).round().astype(int) if len(foreground) else np.array(segmentation.shape) // 2
        patch = np.array(self.patch_size)
        if len(patch) == 2:
            image, segmentation, center = image[:, center[0]], segmentation[center[0]], center[1:]
        window = patch_around(center, patch, np.array(segmentation.shape))
        cut = tuple(slice(a, b) for a, b in window)
        missing = [(0, int(p - (b - a))) for p, (a, b) in zip(patch, window)]
        return name, np.pad(image[(slice(None), *cut)], [(0, 0), *missing]), np.pad(segmentation[cut], missing)

    def draw_if_due(self, epoch: int, network: SamplingNetwork) -> None:
        """Draws at every interval and after the last epoch (counted from 0)."""
        if (epoch + 1) % self.interval == 0 or epoch + 1 == self.num_epochs:
            os.makedirs(self.folder, exist_ok=True)
            self.draw(os.path.join(self.folder, f"epoch_{epoch + 1:04d}.png"), network)

    @torch.no_grad()
    def sample(self, image: np.ndarray, network: SamplingNetwork) -> np.ndarray:
        """Probabilities of three samples, (3, K, *patch), always from the same noise."""
        device = next(network.parameters()).device
        condition = network.eval().condition(torch.from_numpy(image)[None].float().to(device))
        generator = torch.Generator().manual_seed(SEED)
        noise = torch.randn(NUM_SAMPLES, *condition.logits[0].shape[1:], generator=generator, dtype=torch.float64)
        return network.sample_probabilities(condition.repeated(NUM_SAMPLES), noise).cpu().numpy()

    def draw(self, file: str, network: SamplingNetwork) -> None:
        """One row per case, through the slice with most foreground."""
        from matplotlib.figure import Figure

        columns = ["image", "reference", "mean of samples", *[f"sample {i + 1}" for i in range(NUM_SAMPLES)], "spread"]
        figure = Figure(figsize=(2.2 * len(columns), 2.4 * len(self.cases)))
        figure.subplots_adjust(left=0.02, right=0.99, bottom=0.02, top=0.92, wspace=0.04, hspace=0.12)
        axes = figure.subplots(len(self.cases), len(columns), squeeze=False)
        to_labels = self.label_manager.convert_probabilities_to_segmentation
        largest = max(self.label_manager.foreground_labels)
        for row, (name, image, reference) in zip(axes, self.cases):
            probabilities = self.sample(image, network)
            at = slice_with_most_foreground(reference)
            mean = probabilities.mean(0)
            label_maps = [reference, to_labels(mean), *[to_labels(p) for p in probabilities]]
            spread = probabilities.std(0).max(0)
            row[0].imshow(at(image[0]), cmap="gray")
            for axis, labels in zip(row[1:], label_maps):
                axis.imshow(at(image[0]), cmap="gray")
                shown = np.asarray(at(np.asarray(labels))).astype(float)
                axis.imshow(np.ma.masked_less_equal(shown, 0), cmap="viridis", vmin=0, vmax=largest, alpha=0.6)
            row[-1].imshow(at(spread), cmap="magma", vmin=0, vmax=0.5)
            row[0].set_ylabel(name, fontsize=7)
            for axis, title in zip(row, columns):
                axis.set_title(title, fontsize=8)
                axis.set_xticks([])
                axis.set_yticks([])
        with atomically(file) as unfinished:
            figure.savefig(unfinished, dpi=110)


def slice_with_most_foreground(reference: np.ndarray):
    """A function that cuts a 3-D array at the slice where the reference is largest; the identity in 2-D."""
    if reference.ndim == 2:
        return lambda array: array
    index = int((reference > 0).sum(axis=(1, 2)).argmax())
    return lambda array: array[index]
