"""A case as the viewer reads it: each layer a NIfTI file on the grid and with the geometry of the prediction.

Nothing is down-sampled; what is cropped or kept in fewer greys is said in ``notes``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import nibabel
import numpy as np

from medsegdiff_auto.evaluation.case_files import Grid, companion, read_channels, read_label_map, read_map
from medsegdiff_auto.files.geometry import RAS_TO_LPS
from medsegdiff_auto.nnunet.structures import Structure
from medsegdiff_auto.reporting.images import read_image
from medsegdiff_auto.reporting.prediction_record import PredictionRecord

LARGEST_CASE_VOX = 16_000_000
LARGEST_EDGE_VOX = 2048  # of a 3-D texture in most browsers
CROP_MARGIN_VOX = 16
WINDOW_PERCENTILES, WINDOW_MARGIN, HEADROOM = (0.5, 99.5), 0.5, 0.25
BRIGHTEST = 255
LAYERS = ("image", "prediction", "reference", "uncertainty", "samples")


@dataclass(frozen=True)
class ViewedCase:
    """What is shown of a case; layers that are not there are None.

    Attributes:
        prediction, reference, uncertainty: `grid.shape`.
        samples: `(S, *grid.shape)`.
        image: `grid.shape`, or `(*grid.shape, 3)` in [0, 1] for colours.
        offset: of the first voxel in the file, along the array axes.
        notes: sentences on what differs from the files.
    """

    grid: Grid
    structures: Sequence[Structure]
    prediction: np.ndarray
    reference: np.ndarray | None
    uncertainty: np.ndarray | None
    samples: np.ndarray | None
    image: np.ndarray | None
    offset: tuple[int, ...]
    notes: list[str] = field(default_factory=list)

    @property
    def layers(self) -> dict[str, np.ndarray]:
        """Those that are there, by name."""
        return {name: getattr(self, name) for name in LAYERS if getattr(self, name) is not None}

    @property
    def is_large(self) -> bool:
        """Whether browsers refuse it, or take long."""
        return self.prediction.size > LARGEST_CASE_VOX or max(self.prediction.shape) > LARGEST_EDGE_VOX

    @property
    def is_picture(self) -> bool:
        """Whether nothing is known of its position."""
        return self.grid.geometry is None or self.grid.geometry.affine is None

    @cached_property
    def foreground(self) -> np.ndarray:
        """Where a mask, the reference or a sample has a structure, `grid.shape`."""
        maps = [self.prediction, *([] if self.reference is None else [self.reference]),
                *([] if self.samples is None else self.samples)]
        return np.any([self.foreground_of(one) for one in maps], axis=0)

    def foreground_of(self, label_map: np.ndarray) -> np.ndarray:
        """Where a label map has a structure."""
        return np.isin(label_map, [value for structure in self.structures for value in structure.labels])

    def box(self, margin_vox: int | None = None) -> tuple[slice, ...]:
        """The box around the structures with a margin, by default half of its extent; everything where there is none.
        """
        box = []
        for places, length in zip(np.nonzero(self.foreground), self.prediction.shape):
            low, high = (int(places.min()), int(places.max()) + 1) if len(places) else (0, length)
            margin = round(WINDOW_MARGIN * (high - low)) if margin_vox is None else margin_vox
            box.append(slice(max(low - margin, 0), min(high + margin, length)))
        return tuple(box)

    def cropped(self) -> "ViewedCase":
        """The part of every layer around the structures."""
        box = self.box(CROP_MARGIN_VOX)
        cut = {name: array[(slice(None), *box)] if name == "samples" else array[box]
               for name, array in self.layers.items()}
        note = (f"Cropped to {_extents(cut['prediction'].shape)} of {_extents(self.prediction.shape)} voxels: the "
                f"structures with a margin of {CROP_MARGIN_VOX}.")
        return replace(self, offset=tuple(s.start for s in box), notes=[*self.notes, note], **cut)

    def start(self) -> list[int]:
        """The voxel x, y, z where the slices of largest area meet; the middle where there is no structure."""
        predicted = self.foreground_of(self.prediction)
        area = predicted if predicted.any() else self.foreground
        axes = range(area.ndim)
        return xyz([int(area.sum(axis=tuple(a for a in axes if a != axis)).argmax()) if area.any() else length // 2
                    for axis, length in enumerate(area.shape)])

    def affine(self) -> np.ndarray:
        """Voxel indices x, y, z to mm along NIfTI's axes, (4, 4)."""
        affine, num_axes = np.eye(4), self.prediction.ndim
        if not self.is_picture:
            affine[:num_axes, :num_axes] = self.grid.geometry.affine[:-1, :-1]
            affine[:num_axes, 3] = self.grid.geometry.affine[:-1, -1]
        affine[:3, 3] = (affine @ [*xyz(self.offset), 1])[:3]
        return RAS_TO_LPS @ affine

    def files(self) -> tuple[dict[str, bytes], dict]:
        """The layers as NIfTI, with an even image where there is none, and what the page must know of the greys."""
        image, slope, start, greys = self._image()
        files = {"image": _nifti(_volume(image), self.affine(), slope, start)}
        for name, array in self.layers.items():
            if name == "uncertainty":
                stored = np.round(np.clip(array, 0, 1) * BRIGHTEST).astype(np.uint8)
                files[name] = _nifti(_volume(stored), self.affine(), 1 / BRIGHTEST)
            elif name != "image":
                stored = array.astype(np.min_scalar_type(int(array.max(initial=0))))
                volumes = [_volume(one) for one in (stored if name == "samples" else stored[None])]
                files[name] = _nifti(np.stack(volumes, axis=-1) if name == "samples" else volumes[0], self.affine())
        return files, greys

    def _image(self) -> tuple[np.ndarray, float, float, dict]:
        """The image in 256 greys or colours, the step between greys, the value of the darkest, and the window.

        The greys are spread over the values around the structures, with headroom, so that they resolve soft tissue.
        """
        if self.image is None:
            return np.zeros(self.prediction.shape, np.uint8), 1.0, 0.0, {}
        if self.image.ndim > self.prediction.ndim:
            colours = np.ascontiguousarray(np.round(self.image * BRIGHTEST).astype(np.uint8))
            return colours.view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0], 1.0, 0.0, {}
        low, high = (float(value) for value in np.percentile(self.image[self.box()], WINDOW_PERCENTILES))
        room = HEADROOM * (high - low)
        start, stop = max(low - room, float(self.image.min())), min(high + room, float(self.image.max()))
        slope = (stop - start) / BRIGHTEST or 1.0
        greys = np.round((self.image.astype(np.float64) - start) / slope).clip(0, BRIGHTEST).astype(np.uint8)
        stop = start + slope * BRIGHTEST
        return greys, slope, start, {"window": [low, high if high > low else stop], "range": [start, stop]}


def read_viewed_case(record: PredictionRecord, case: str, image_folder: Path | None) -> ViewedCase | None:
    """A predicted case with what lies beside it, cropped where it is large; None where it is too large even then.

    Raises:
        UserError: a file is not sound, or lies elsewhere than the prediction.
    """
    path, ending = record.predictions[case], record.dataset_json["file_ending"]
    prediction, grid = read_label_map(path, record.dataset_json)
    reference = None if case not in record.pairs else read_label_map(record.pairs[case][0], record.dataset_json,
                                                                     (path, grid))[0]
    files = {kind: (companion(path, ending, kind), read) for kind, read in (("uncertainty", read_map),
                                                                            ("samples", read_channels))}
    maps = {kind: None if file is None else read(file, grid) for kind, (file, read) in files.items()}
    image = None if image_folder is None else read_image(image_folder, case, record.dataset_json, grid)
    viewed = ViewedCase(grid, record.structures, prediction, reference, image=image, offset=(0,) * prediction.ndim,
                        **maps)
    viewed = viewed.cropped() if viewed.is_large else viewed
    return None if viewed.is_large else viewed


def xyz(indices: Sequence[int]) -> list[int]:
    """Array indices as x, y, z; z is 0 in 2-D."""
    return [*map(int, indices[::-1]), 0][:3]


def _volume(array: np.ndarray) -> np.ndarray:
    """An array `(z, y, x)` or `(y, x)` as `(x, y, z)`."""
    return array.T if array.ndim == 3 else array.T[:, :, None]


def _nifti(volume: np.ndarray, affine: np.ndarray, slope: float = 1.0, start: float = 0.0) -> bytes:
    image = nibabel.Nifti1Image(volume, affine)
    image.header.set_slope_inter(slope, start)
    image.header.set_xyzt_units("mm")
    return image.to_bytes()


def _extents(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape[::-1]))
