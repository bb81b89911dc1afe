"""One state over the volume beside independent tiles: spread where tiles overlap, and components per sample.

The spread of the samples differs between places for reasons of anatomy. So every case is drawn twice, the second time
with the tiles moved by half of their distance, and voxels that lie inside a tile once and between tiles the other time
are compared with themselves. One state over the volume has the same noise and the same field both times. Several tiles
may also know more than one, and each of them less off its middle: so the same voxels' error is measured, and both again
without any blending, each voxel from its nearest tile alone. A spread that changes as the error does is true.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import islice, product, pairwise
from pathlib import Path
from collections.abc import Sequence

import matplotlib
import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from medsegdiff_auto import paths
from medsegdiff_auto.benchmarks.trained_model import model_of, model_parser
from medsegdiff_auto.cores import compute_on_cpu
from medsegdiff_auto.evaluation.audit import validation_cases
from medsegdiff_auto.nnunet.structures import Structure, structures_of
from medsegdiff_auto.decision.decoder import label_maps
from medsegdiff_auto.inference.model import TrainedModel
from medsegdiff_auto.inference.predictor import MedSegDiffPredictor, SamplingOptions
from medsegdiff_auto.sampling.tiling import Tiles

COHERENT, INDEPENDENT = "one state over the volume", "independent tiles"
NEAREST = "one state, each voxel from its nearest tile"
KINDS, REFERENCE = (COHERENT, NEAREST, INDEPENDENT), "the reference"
INSIDE_FROM, BETWEEN_TO = 0.9, 0.6  # share of the nearest tile in the blended value
SHARPNESS, SMALLEST_WEIGHT = 8, 1e-36  # power of the window by which the nearest tile counts alone


class MovableTiles(MedSegDiffPredictor):
    """A predictor whose tiles can be moved by half of their distance, and left unblended.

    Attributes:
        are_moved: whether they are; tiles at both ends stay, so that the volume is covered.
        is_blended: whether a voxel is the weighted mean of its tiles, or the nearest one's value.
    """

    are_moved, is_blended = False, True

    def tiles_of(self, shape: Sequence[int]) -> Tiles:
        tiles = self._places_of(shape)
        if not self.is_blended:
            tiles.window = (tiles.window / tiles.window.max()).pow(SHARPNESS).clamp_min(SMALLEST_WEIGHT)
        return tiles

    def _places_of(self, shape: Sequence[int]) -> Tiles:
        tiles = super().tiles_of(shape)
        if not self.are_moved:
            return tiles
        starts = [sorted({place[axis].start for place in tiles.places}) for axis in range(3)]
        slices = starts[:tiles.flat]  # 2-D tiles lie in slices, which stay
        along = [halfway(of_axis) for of_axis in starts[tiles.flat:]]
        return Tiles(tiles.shape, self.patch_size, [
            (slice(None), *first, *(slice(start, start + size) for start, size in zip(place, self.patch_size)))
            for first in product(*slices) for place in product(*along)])


def halfway(starts: Sequence[int]) -> list[int]:
    """The first and the last of these, and the middles between neighbours."""
    return sorted({starts[0], starts[-1], *((one + following) // 2 for one, following in pairwise(starts))})


class TiledSampler:
    """Samples of a case, of any of the three kinds."""

    def __init__(self, model: TrainedModel, num_samples: int):
        self.patch_size = model.configuration_manager.patch_size
        self.is_flat = len(self.patch_size) == 2
        self.predictor = MovableTiles(model, SamplingOptions(num_samples, num_mirrors=1))

    def _draw(self, image: np.ndarray, case: str) -> Tensor:
        return self.predictor.sample_case(image, case).samples.float()

    def draw(self, kind: str, image: np.ndarray, case: str, are_moved: bool) -> tuple[Tensor, np.ndarray]:
        """Probabilities (S, K, *spatial) of an image (C, *spatial), and of every voxel the share of the nearest tile.

        The image is continued by its mirror image, three quarters of a tile on every side: every tile is full of
        anatomy, and those at the ends of the volume, which do not move, reach no voxel of the image as the nearest.
        """
        margin = [0] * self.is_flat + [3 * size // 4 for size in self.patch_size]
        own = tuple(slice(first, first + size) for first, size in zip(margin, image.shape[1:]))
        image = np.pad(image, [(0, 0), *((one, one) for one in margin)], "symmetric")
        self.predictor.are_moved, self.predictor.is_blended = are_moved, True
        tiles = self.predictor.tiles_of(image.shape[1:])
        self.predictor.is_blended = kind != NEAREST

        def of_tile(index: int) -> Tensor:
            samples = self._draw(image[(slice(None), *tiles.places[index])], f"{case}/{index}")
            return samples.squeeze(-3) if self.is_flat else samples

        leading = (self.predictor.num_samples, self.predictor.label_manager.num_segmentation_heads)
        samples = tiles.blended(leading, of_tile) if kind == INDEPENDENT else self._draw(image, case)
        return samples[(..., *own)], largest_share(tiles)[own]


def largest_share(tiles: Tiles) -> np.ndarray:
    """Weight of the tile that counts most over the weight of all, per voxel."""
    largest, total = torch.zeros(tiles.shape), torch.zeros(tiles.shape)
    for place in tiles.places:
        largest[place] = torch.maximum(largest[place], tiles.window)
        total[place] += tiles.window
    return (largest / total).numpy()


def variance_between(samples: Tensor) -> np.ndarray:
    """Variance between samples, summed over the channels, (*spatial)."""
    return samples.var(0).sum(0).numpy()


def squared_error(samples: Tensor, reference: np.ndarray, structures: Sequence[Structure]) -> np.ndarray:
    """Squared error of the samples' mean, summed over the structures, (*spatial)."""
    mean = samples.mean(0).numpy()
    return sum((mean[structure.channel] - structure.mask(reference)) ** 2 for structure in structures)


def between_and_inside(first: np.ndarray, second: np.ndarray, first_share: np.ndarray,
                       second_share: np.ndarray) -> tuple[float, float]:
    """Spread or error of two draws, summed over the voxels that lie between the tiles of one and inside a tile of the
    other.
    """
    between = inside = 0.0
    for one, other, own, others in ((first, second, first_share, second_share), (second, first, second_share,
                                                                                 first_share)):
        voxels = (own <= BETWEEN_TO) & (others >= INSIDE_FROM)
        between, inside = between + float(one[voxels].sum()), inside + float(other[voxels].sum())
    return between, inside


def interval_of_ratio(numerators: np.ndarray, denominators: np.ndarray,
                      num_resamples: int = 2000) -> tuple[float, float]:
    """95 % of the ratio of sums over cases, by bootstrap."""
    chosen = np.random.default_rng(0).integers(0, len(numerators), (num_resamples, len(numerators)))
    low, high = np.percentile(numerators[chosen].sum(1) / denominators[chosen].sum(1), (2.5, 97.5))
    return float(low), float(high)


def ratio_of_sums(of_cases: Sequence[tuple[float, float]]) -> str:
    """The first over the second, summed over cases, with its interval."""
    between, inside = np.array(of_cases).T
    return "{:.3f} ({:.3f} to {:.3f})".format(between.sum() / inside.sum(), *interval_of_ratio(between, inside))


def components(maps: np.ndarray, structure) -> list[int]:
    """Connected components (face neighbours) of a structure in every label map (S, *spatial)."""
    return [ndimage.label(structure.mask(one))[1] for one in maps]


@dataclass
class Measured:
    """What the cases so far show.

    Attributes:
        first: reference and four samples of each kind, label maps, of the first case.
    """

    spreads: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    errors: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    components: dict[tuple[str, str], list[int]] = field(default_factory=lambda: defaultdict(list))
    first: tuple[np.ndarray, dict[str, np.ndarray]] | None = None

    def add(self, model: TrainedModel, sampler: TiledSampler, case: str, image: np.ndarray,
            reference: np.ndarray) -> None:
        """Draws a case in all three ways, each with the tiles as usual and moved."""
        maps, label_manager, structures = {}, model.plans_manager.get_label_manager(model.dataset_json), structures_of(
            model.dataset_json)
        for kind in KINDS:
            (samples, share), (moved_samples, moved_share) = (sampler.draw(kind, image, case, moved)
                                                              for moved in (False, True))
            maps[kind] = label_maps(samples, label_manager)
            self.spreads[kind].append(
                between_and_inside(variance_between(samples), variance_between(moved_samples), share, moved_share))
            self.errors[kind].append(
                between_and_inside(*(squared_error(drawn, reference, structures) for drawn in (samples, moved_samples)),
                                   share, moved_share))
            print(case, kind, *self.spreads[kind][-1], *self.errors[kind][-1], file=sys.stderr, flush=True)
        for structure in structures:
            for kind, of_kind in (maps | {REFERENCE: reference[None]}).items():
                self.components[kind, structure.name] += components(of_kind, structure)
        self.first = self.first or (reference, {kind: maps[kind][:4] for kind in (COHERENT, INDEPENDENT)})

    def table(self) -> str:
        """Ratios of spreads and errors and mean numbers of components as a Markdown table."""
        names = list(dict.fromkeys(name for _, name in self.components))
        lines = ["| samples drawn as | spread between tiles over spread inside a tile, the same voxels (95 %) | "
                 "squared error, likewise | "
                 f"{' | '.join(f'components of {name}' for name in names)} |", f"|{'---|' * (len(names) + 3)}"]
        for kind in (*KINDS, REFERENCE):
            ratios = [
                ratio_of_sums(of_kind[kind]) if kind in of_kind else "" for of_kind in (self.spreads, self.errors)
            ]
            of_names = [f"{np.mean(self.components[kind, name]):.2f}" for name in names]
            lines.append(f"| {' | '.join([kind, *ratios, *of_names])} |")
        return "\n".join(lines)


def draw_picture(reference: np.ndarray, maps: dict[str, np.ndarray], path: Path) -> None:
    """The slice with the most foreground: reference, and four samples of each kind."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    slice_number = int((reference > 0).reshape(len(reference), -1).sum(1).argmax())
    figure, axes = pyplot.subplots(len(maps), 5, figsize=(10, 2.2 * len(maps)))
    for row, (kind, samples) in zip(axes, maps.items()):
        for axis, (title, labels) in zip(
                row, [("reference", reference), *((f"sample {k + 1}", one) for k, one in enumerate(samples))]):
            axis.imshow(labels[slice_number], cmap="viridis", interpolation="nearest", vmin=0,
                        vmax=max(1, reference.max()))
            axis.set_title(title, fontsize=8)
            axis.set_xticks([]), axis.set_yticks([])
        row[0].set_ylabel(kind, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = model_parser(__doc__)
    parser.add_argument("-f", type=int, nargs="+", default=[0], help="folds, each with its own validation cases")
    parser.add_argument("--cases", type=int, default=10, help="of each fold")
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--dispersion", type=float, help="default: the fitted or planned one")
    parser.add_argument("-o", help="picture to write")
    args = parser.parse_args()
    compute_on_cpu()
    measured = Measured()
    for fold in args.f:
        model = model_of(args, fold, use_fitted=True)
        if args.dispersion is not None:
            model.network.configuration = model.network.configuration.changed(dispersion=args.dispersion)
        cases = validation_cases(model, paths.preprocessed_folder(args.d), fold)
        for case, image, reference, _ in islice(cases, args.cases):
            measured.add(model, TiledSampler(model, args.samples), case, image, reference)
    print(f"dispersion {model.network.configuration.sampling.dispersion:.3f}, {args.samples} samples, "
          f"tiles of {list(model.configuration_manager.patch_size)}\n\n{measured.table()}")
    if args.o:
        draw_picture(*measured.first, Path(args.o))


if __name__ == "__main__":
    main()
