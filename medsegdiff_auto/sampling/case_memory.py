"""What a case takes on its way from the image to the files, part by part, in bytes.

    code        meaning
    n, m        voxels on the network's grid, and of the image
    C, K        input channels; classes or regions
    volume      K n values, what a sample's state takes
    slab        K values of the slices under a row of tiles

Bytes of a voxel in nnU-Net's preprocessing and resampling were measured (:data:`COPIES` to :data:`ZOOMED`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from medsegdiff_auto.diffusion.configuration import DiffusionConfiguration
from medsegdiff_auto.diffusion.latent_noise import num_nodes
from medsegdiff_auto.nnunet.managers import HIGHEST_OF_A_BYTE
from medsegdiff_auto.sampling.case_size import CaseSize
from medsegdiff_auto.sampling.conditions import views_per_call
from medsegdiff_auto.sampling.tile_memory import TileMemory
from medsegdiff_auto.sampling.tiling import Tiles
from medsegdiff_auto.sampling.volume_store import ELEMENTS_PER_BLOCK
from medsegdiff_auto.tables import DECODERS, SOLVERS

FLOAT = 4
BLOCKS = 12  # temporaries of what is computed voxel by voxel
LIBRARIES = 0.15e9  # what torch's libraries take at their first call
COPIES, MASK = 8, 4.5  # of the image per channel, of its mask, where nothing is resampled
# of a voxel of the image, of one of the network's grid
RESAMPLED_IMAGE, RESAMPLED_IMAGE_PER_CHANNEL = (19, 14), (16, 4)
ZOOMED = (12, 8)  # of one channel of probabilities: of a voxel of the image, of one of the network's grid


@dataclass(frozen=True)
class CaseMemory:
    """The parts of a case's memory, in bytes."""

    case: CaseSize
    tiles: Tiles
    num_folds: int
    num_samples: int
    num_views: int
    diffusion: DiffusionConfiguration
    solver: str
    tile: TileMemory
    samples_per_call: int
    fusion: str
    mutual_information: bool = False

    @property
    def preparation(self) -> float:
        """nnU-Net's reading and preprocessing: copies in float32, a mask, and float64 where it resamples."""
        n, m, c = math.prod(self.case.shape), math.prod(self.case.image_shape), self.case.num_channels
        if not self.case.is_resampled:
            return (COPIES * c + MASK) * m
        return sum((fixed + per_channel * c) * voxels for fixed, per_channel, voxels in zip(
            RESAMPLED_IMAGE, RESAMPLED_IMAGE_PER_CHANNEL, (m, n)))

    @property
    def volume(self) -> float:
        return FLOAT * self.case.num_outputs * math.prod(self.tiles.shape)

    @property
    def image(self) -> float:
        return FLOAT * self.case.num_channels * math.prod(self.tiles.shape)

    @property
    def on_image(self) -> float:
        """K channels on the image's grid."""
        return FLOAT * self.case.num_outputs * math.prod(self.case.image_shape)

    @property
    def share_of_slab(self) -> float:
        return self.tiles.window.shape[0] / self.tiles.shape[0]

    @property
    def keeps_labels(self) -> bool:
        """Whether a sample becomes a label map slab by slab: it has no state, is not resampled, and no more than its
        labels is asked for.
        """
        sees_state = self.diffusion.network.sees_state
        return not (sees_state or self.case.is_resampled or self.mutual_information)

    @property
    def label_map(self) -> float:
        """Bytes of a label map on the image."""
        return float((1 if self.case.num_outputs <= HIGHEST_OF_A_BYTE + 1 else 2) * math.prod(self.case.image_shape))

    @property
    def per_sample(self) -> float:
        """Bytes of the volumes that a sample holds while it is drawn."""
        return self.label_map if self.keeps_labels else SOLVERS.row(self.solver).num_volumes * self.volume

    @property
    def latent_noise(self) -> float:
        """Bytes of a sample's latent noise, which is in memory wherever the volumes are."""
        if not self.tile.latent_cell:
            return 0.0
        return float(FLOAT * num_nodes(self.tiles.shape, self.diffusion, self.tile.latent_cell))

    @property
    def labels(self) -> float:
        """Sampled label maps of all folds."""
        return self.num_folds * self.num_samples * self.label_map

    @property
    def all_terms(self) -> float:
        """Bytes of the image terms of all tiles and views."""
        return len(self.tiles) * self.num_views * self.tile.terms

    @property
    def shared_volumes(self) -> float:
        """That do not grow with the samples: the image; the fused mean of plain network and expected mask, summed over
        folds, or the plain network, its sum and the samples'; the fused probabilities on another grid; a sample's
        probabilities and two sums for the mutual information.
        """
        of_network = min(self.num_folds, 2) if self.diffusion.has_expected_mask else 3
        on_image = self.case.is_resampled + 3 * self.mutual_information
        return self.image + of_network * self.volume + on_image * self.on_image

    @property
    def fusing(self) -> float:
        """While a decoder chooses the label map: all probabilities and sampled maps at once, and what it works with."""
        work_bytes = DECODERS.row(self.fusion).work_bytes
        if work_bytes is None:
            return 0.0
        samples, classes = self.num_folds * self.num_samples, self.case.num_outputs
        work = work_bytes(samples, classes, self.diffusion.target == "classes")
        return (FLOAT * classes + samples + max(work, FLOAT * classes)) * math.prod(self.case.image_shape)

    def networks(self, samples: int) -> float:
        """While one tile is predicted, with what is cut out of the slabs for it."""
        patch = math.prod(self.tiles.window.shape)
        views = min(self.num_views, views_per_call(self.tiles.window.shape))
        tile = FLOAT * self.case.num_outputs * patch
        if self.diffusion.network.sees_state:
            together = min(samples, self.samples_per_call)
            step = (self.tile.step + self.tile.terms) * together + self.tile.terms * min(self.num_views,
                                                                                         together) + 5 * tile * samples
        else:  # one after the other, all of a view before they are put in place
            shown, of_view = min(self.num_views, samples), -(-samples // self.num_views)
            step = self.tile.step + (2 * shown + 1) * self.tile.terms + (samples + of_view + 1) * tile
        return max(self.tile.look * views + self.tile.terms * self.num_views, step) + LIBRARIES

    def temporaries(self) -> float:
        """Bytes of what is computed voxel by voxel: a few blocks, but no more than the volume has."""
        slices = max(self.volume / self.tiles.shape[0], FLOAT * ELEMENTS_PER_BLOCK)
        return BLOCKS * min(slices, self.volume)

    def drawing(self, samples: int, on_disk: bool) -> float:
        """While samples are drawn: the sums over a row of tiles, what is read of a volume on disk, or the volumes."""
        slab = self.share_of_slab * self.volume
        window = slab / self.case.num_outputs
        beside = window + self.networks(samples) + samples * self.latent_noise
        if not on_disk:
            return self.states(samples) + beside + self.temporaries()
        read = self.share_of_slab * self.image + (samples * slab if self.diffusion.network.sees_state else 0)
        return read + samples * slab + beside + samples * self.temporaries() / 4

    def exporting(self) -> float:
        """While one channel of probabilities goes to the image's grid and is compared with the likeliest so far, or one
        map is written.
        """
        n, m = math.prod(self.tiles.shape), math.prod(self.case.image_shape)
        resampling = FLOAT * (n + m) + m + (ZOOMED[0] * m + ZOOMED[1] * n if self.case.is_resampled else 0)
        maps = 2 * FLOAT * m + 3 * m  # one map and its cropped part, label maps
        return max(resampling, maps) + 2 * m + self.temporaries()

    def states(self, samples: int) -> float:
        """Volumes of samples that are drawn together, and their sums over a row of tiles; or, of states, the sums and
        noise of the views, which they may share at the first step.
        """
        shared = 2 * min(samples, self.num_views) if self.diffusion.network.sees_state else 0
        return samples * self.per_sample + max(samples, shared) * self.share_of_slab * self.volume

    def beside_states(self) -> float:
        """At the peak, without states and networks: for a GPU that holds these."""
        return max(self.preparation,
                   self.shared_volumes + self.volume + self.labels + max(self.exporting(), self.fusing))

    def on_disk(self, samples: int) -> float:
        """All volumes."""
        return self.shared_volumes + self.labels + samples * self.per_sample

    def peak(self, samples: int, on_disk: bool) -> float:
        """Bytes of everything at the peak, without kept features."""
        held = 0 if on_disk else self.shared_volumes + self.labels
        of_samples = 0 if on_disk else samples * self.per_sample
        return max(self.preparation, held + self.drawing(samples, on_disk), held + of_samples + self.exporting(),
                   held + self.fusing)
