"""One state over the volume beside independent tiles: spread where tiles overlap, and components per sample.

The spread of the samples differs between places for reasons of anatomy. So each place is compared with itself in a volume drawn as
one tile: spread with tiles / spread as one tile, where two or more tiles overlap, over the same where only one tile lies.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import matplotlib
import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from medsegdiff_auto import paths
from medsegdiff_auto.cores import num_cores
from medsegdiff_auto.evaluation.audit import validation_cases
from medsegdiff_auto.evaluation.structures import structures_of
from medsegdiff_auto.inference.model import TrainedModel, load_model
from medsegdiff_auto.inference.predictor import MedSegDiffPredictor, SamplingOptions
from medsegdiff_auto.inference.tiling import Tiles

COHERENT, INDEPENDENT, WHOLE = "one state over the volume", "independent tiles", "one tile"


class TiledSampler:
    """Samples of a case with tiles of a chosen size, coherent or independent."""

    def __init__(self, model: TrainedModel, num_samples: int, patch_size: list[int]):
        self.model, self.patch_size = model, patch_size
        self.predictor = MedSegDiffPredictor(model, SamplingOptions(num_samples, num_mirrors=1))

    def _draw(self, image: np.ndarray, case: str, patch_size: list[int]) -> Tensor:
        planned = self.predictor.configuration_manager.configuration["patch_size"]
        self.predictor.configuration_manager.configuration["patch_size"] = list(patch_size)
        try:
            return self.predictor.sample_case(image, case).samples.float()
        finally:
            self.predictor.configuration_manager.configuration["patch_size"] = planned

    def tiles_of(self, image: np.ndarray) -> Tiles:
        """The tiles that the predictor uses for an image (C, *spatial) at least as large as a tile."""
        self.predictor.configuration_manager.configuration["patch_size"], planned = (
            list(self.patch_size), self.predictor.configuration_manager.configuration["patch_size"])
        slicers = self.predictor._internal_get_sliding_window_slicers(image.shape[1:])
        self.predictor.configuration_manager.configuration["patch_size"] = planned
        return Tiles(image.shape[1:], self.patch_size, slicers)

    def draw(self, kind: str, image: np.ndarray, case: str) -> Tensor:
        """(S, K, *spatial) probabilities."""
        if kind == COHERENT:
            return self._draw(image, case, self.patch_size)
        if kind == WHOLE:
            return self._draw(image, case, [8 * -(-size // 8) for size in image.shape[1:]])
        tiles = self.tiles_of(image)
        num_outputs = self.predictor.label_manager.num_segmentation_heads

        def of_tile(index: int) -> Tensor:
            tile = tiles.cut(torch.from_numpy(image), index).numpy()
            return self._draw(tile, f"{case}/{index}", self.patch_size)

        return tiles.blended((self.predictor.num_samples, num_outputs), of_tile)


def coverage(tiles: Tiles) -> np.ndarray:
    """How many tiles cover each voxel."""
    count = np.zeros(tiles.shape, int)
    for place in tiles.places:
        count[place] += 1
    return count


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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-d", required=True, help="dataset")
    parser.add_argument("-c", required=True, help="configuration, 3-D")
    parser.add_argument("-p", default="MedSegDiffPlans", help="plans of the model")
    parser.add_argument("-f", type=int, default=0, help="fold")
    parser.add_argument("--patch", type=int, nargs=3, required=True, help="size of the tiles")
    parser.add_argument("--cases", type=int, default=10)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("-o", help="picture to write")
    args = parser.parse_args()
    name = paths.resolve_dataset(args.d)
    preprocessed, results = paths.require_folder("nnUNet_preprocessed") / name, paths.require_folder("nnUNet_results") / name
    torch.set_num_threads(num_cores())
    model = load_model(results / f"nnUNetTrainerMedSegDiff__{args.p}__{args.c}", [args.f])
    sampler = TiledSampler(model, args.samples, args.patch)
    label_manager = model.plans_manager.get_label_manager(model.dataset_json)
    sums, counts, of_reference, pictured = defaultdict(float), defaultdict(list), defaultdict(list), None
    for _, (case, image, reference, _) in zip(range(args.cases), validation_cases(model, preprocessed, args.f)):
        drawn = {kind: sampler.draw(kind, image, case) for kind in (WHOLE, COHERENT, INDEPENDENT)}
        overlap = coverage(sampler.tiles_of(image)) > 1
        maps = {kind: np.stack([np.asarray(label_manager.convert_probabilities_to_segmentation(one)) for one in samples])
                for kind, samples in drawn.items()}
        for kind, samples in drawn.items():
            for place, mask in (("overlap", overlap), ("interior", ~overlap)):
                sums[kind, place] += float(spread(samples)[mask].sum())
        for structure in structures_of(model.dataset_json):
            of_reference[structure.name] += components(reference[None], structure)
            for kind, of_kind in maps.items():
                counts[kind, structure.name] += components(of_kind, structure)
        pictured = pictured or (reference, {kind: maps[kind][:4] for kind in (COHERENT, INDEPENDENT)})
    names = list(of_reference)
    print(f"dispersion {model.diffusion.dispersion:.3f}, {args.samples} samples, tiles of {args.patch}\n")
    print(f"| samples drawn as | spread: overlap over interior, each relative to one tile | "
          f"{' | '.join(f'components of {one}' for one in names)} |\n|{'---|' * (len(names) + 2)}")
    for kind in (COHERENT, INDEPENDENT):
        ratio = (sums[kind, "overlap"] / sums[WHOLE, "overlap"]) / (sums[kind, "interior"] / sums[WHOLE, "interior"])
        print(f"| {kind} | {ratio:.3f} | {' | '.join(f'{np.mean(counts[kind, one]):.2f}' for one in names)} |")
    print(f"| {WHOLE} | 1 | {' | '.join(f'{np.mean(counts[WHOLE, one]):.2f}' for one in names)} |")
    print(f"| the reference | | {' | '.join(f'{np.mean(of_reference[one]):.2f}' for one in names)} |")
    if args.o:
        draw_picture(*pictured, Path(args.o))


if __name__ == "__main__":
    main()
