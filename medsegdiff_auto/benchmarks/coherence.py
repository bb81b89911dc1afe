"""One state over the volume beside independent tiles: spread where tiles overlap, and components per sample.

The spread of the samples differs between places for reasons of anatomy. So every case is drawn twice, the second time with the
tiles shifted by half of one, and voxels that lie inside a tile once and between tiles the other time are compared with themselves.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from medsegdiff_auto import paths
from medsegdiff_auto.benchmarks.trained_model import model_of, model_parser
from medsegdiff_auto.cores import compute_on_cpu
from medsegdiff_auto.evaluation.audit import validation_cases
from medsegdiff_auto.evaluation.structures import structures_of
from medsegdiff_auto.inference.fusion import label_maps
from medsegdiff_auto.inference.model import TrainedModel
from medsegdiff_auto.inference.predictor import MedSegDiffPredictor, SamplingOptions
from medsegdiff_auto.inference.tiling import Tiles

COHERENT, INDEPENDENT = "one state over the volume", "independent tiles"
INSIDE_FROM, BETWEEN_TO = 0.9, 0.6  # share of the nearest tile in the blended value


class TiledSampler:
    """Samples of a case, coherent or as independent tiles."""

    def __init__(self, model: TrainedModel, num_samples: int):
        self.patch_size = model.configuration_manager.patch_size
        self.predictor = MedSegDiffPredictor(model, SamplingOptions(num_samples, num_mirrors=1))

    def _draw(self, image: np.ndarray, case: str) -> Tensor:
        return self.predictor.sample_case(image, case).samples.float()

    def tiles_of(self, image: np.ndarray) -> Tiles:
        """The tiles that the predictor uses for an image (C, *spatial) at least as large as a tile."""
        return Tiles(image.shape[1:], self.patch_size, self.predictor._internal_get_sliding_window_slicers(image.shape[1:]))

    def draw(self, kind: str, image: np.ndarray, case: str, is_shifted: bool) -> tuple[Tensor, np.ndarray]:
        """Probabilities (S, K, *spatial), and of every voxel the share of the nearest tile.

        The image is continued by its mirror image, by the same on both counts, so that every tile is full of anatomy.
        """
        before = [size // 2 if is_shifted else 0 for size in self.patch_size]
        unshifted = tuple(slice(first, first + size) for first, size in zip(before, image.shape[1:]))
        image = np.pad(image, [(0, 0), *((first, size - first) for first, size in zip(before, self.patch_size))], "symmetric")
        tiles = self.tiles_of(image)
        if kind == COHERENT:
            samples = self._draw(image, case)
        else:
            samples = tiles.blended((self.predictor.num_samples, self.predictor.label_manager.num_segmentation_heads),
                                    lambda index: self._draw(tiles.cut(torch.from_numpy(image), index).numpy(), f"{case}/{index}"))
        return samples[(..., *unshifted)], largest_share(tiles)[unshifted]


def largest_share(tiles: Tiles) -> np.ndarray:
    """Weight of the tile that counts most over the weight of all, per voxel."""
    largest, total = torch.zeros(tiles.shape), torch.zeros(tiles.shape)
    for place in tiles.places:
        largest[place] = torch.maximum(largest[place], tiles.window)
        total[place] += tiles.window
    return (largest / total).numpy()


def spread(samples: Tensor) -> np.ndarray:
    """Variance between samples, summed over the channels, (*spatial)."""
    return samples.var(0).sum(0).numpy()


def components(maps: np.ndarray, structure) -> list[int]:
    """Connected components (face neighbours) of a structure in every label map (S, *spatial)."""
    return [ndimage.label(structure.mask(one))[1] for one in maps]


def draw_picture(reference: np.ndarray, maps: dict[str, np.ndarray], path: Path) -> None:
    """The slice with the most foreground: reference, and four samples of each kind."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    slice_number = int((reference > 0).reshape(len(reference), -1).sum(1).argmax())
    figure, axes = pyplot.subplots(len(maps), 5, figsize=(10, 2.2 * len(maps)))
    for row, (kind, samples) in zip(axes, maps.items()):
        for axis, (title, labels) in zip(row, [("reference", reference), *((f"sample {k + 1}", one) for k, one in enumerate(samples))]):
            axis.imshow(labels[slice_number], cmap="viridis", interpolation="nearest", vmin=0, vmax=max(1, reference.max()))
            axis.set_title(title, fontsize=8)
            axis.set_xticks([]), axis.set_yticks([])
        row[0].set_ylabel(kind, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = model_parser(__doc__)
    parser.add_argument("-f", type=int, default=0, help="fold")
    parser.add_argument("--cases", type=int, default=10)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--dispersion", type=float, help="default: the fitted or planned one")
    parser.add_argument("-o", help="picture to write")
    args = parser.parse_args()
    preprocessed = paths.preprocessed_folder(args.d)
    compute_on_cpu()
    model = model_of(args, args.f, use_fitted=True)
    if args.dispersion is not None:
        model.network.configuration = replace(model.network.configuration, dispersion=args.dispersion)
    sampler = TiledSampler(model, args.samples)
    label_manager = model.plans_manager.get_label_manager(model.dataset_json)
    sums, counts, of_reference, pictured = defaultdict(float), defaultdict(list), defaultdict(list), None
    for _, (case, image, reference, _) in zip(range(args.cases), validation_cases(model, preprocessed, args.f)):
        maps = {}
        for kind in (COHERENT, INDEPENDENT):
            (samples, share), (shifted_samples, shifted_share) = (sampler.draw(kind, image, case, shift) for shift in (False, True))
            maps[kind] = label_maps(samples, label_manager)
            for one, own, other in ((samples, share, shifted_share), (shifted_samples, shifted_share, share)):
                sums[kind, "between"] += float(spread(one)[(own <= BETWEEN_TO) & (other >= INSIDE_FROM)].sum())
                sums[kind, "inside"] += float(spread(one)[(own >= INSIDE_FROM) & (other <= BETWEEN_TO)].sum())
        for structure in structures_of(model.dataset_json):
            of_reference[structure.name] += components(reference[None], structure)
            for kind, of_kind in maps.items():
                counts[kind, structure.name] += components(of_kind, structure)
        pictured = pictured or (reference, {kind: of_kind[:4] for kind, of_kind in maps.items()})
    names = list(of_reference)
    print(f"dispersion {model.network.configuration.dispersion:.3f}, {args.samples} samples, tiles of {list(sampler.patch_size)}\n")
    print(f"| samples drawn as | spread between tiles over spread inside a tile, the same voxels | "
          f"{' | '.join(f'components of {one}' for one in names)} |\n|{'---|' * (len(names) + 2)}")
    for kind in (COHERENT, INDEPENDENT):
        ratio = sums[kind, "between"] / sums[kind, "inside"]
        print(f"| {kind} | {ratio:.3f} | {' | '.join(f'{np.mean(counts[kind, one]):.2f}' for one in names)} |")
    print(f"| the reference | | {' | '.join(f'{np.mean(of_reference[one]):.2f}' for one in names)} |")
    if args.o:
        draw_picture(*pictured, Path(args.o))


if __name__ == "__main__":
    main()
