"""What can be wrong with the cases of a dataset together, though each of them is intact."""

from collections.abc import Sequence

import numpy as np

from medsegdiff_auto.files.geometry import Geometry
from medsegdiff_auto.findings import Finding
from medsegdiff_auto.nnunet.structures import structures_of


def empty_structure_findings(dataset_json: dict, values: Sequence[np.ndarray]) -> list[Finding]:
    """Structures that no label map holds: nothing can be learnt of them. ``values`` are those of each label map."""
    present = set(np.unique(np.concatenate(values)).astype(int).tolist()) if values else set()
    return [
        Finding("dataset.json", "lists a structure that is empty in all cases",
                f"{structure.name} ({', '.join(map(str, structure.labels))}) in 0 of {len(values)} label maps",
                f"a voxel of {structure.name} in at least one case",
                f"check that the annotations were saved, or remove {structure.name} from dataset.json")
        for structure in structures_of(dataset_json) if values and not present & set(structure.labels)
    ]


def flat_plane_findings(grids: Sequence[Geometry]) -> list[Finding]:
    """Images of one slice each that do not lie along their last axis: nnU-Net would cut lines out of them.

    nnU-Net takes the axis with the largest spacing, the last of several, for that of the slices.
    """
    volumes = [grid for grid in grids if len(grid.size) == 3]
    if not volumes:
        return []
    size = np.median([grid.size for grid in volumes], axis=0)
    spacing_mm = np.median([grid.spacing_mm for grid in volumes], axis=0)
    of_slices = 2 - int(np.argmax(spacing_mm[::-1]))
    flat = [axis for axis in range(3) if axis != of_slices and size[axis] <= 1]
    if not flat:
        return []
    return [Finding("imagesTr", "holds images that are one voxel wide",
                    f"{' x '.join(f'{extent:g}' for extent in size)} voxels of "
                    f"{' x '.join(f'{edge:g}' for edge in spacing_mm)} mm, the median",
                    f"several voxels along each axis but {'xyz'[of_slices]}, that of the slices",
                    "reorder the axes of images and labels, so that a lone slice lies along the last one")]
