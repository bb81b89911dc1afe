"""What can be wrong with an image or a label map that can be read."""

import numpy as np
import pandas as pd

from medsegdiff_auto.findings import WARNING, Finding, list_extents, list_values
from medsegdiff_auto.files.geometry import MAX_DISPLACEMENT, Geometry
from medsegdiff_auto.files.scans import Scan


def nonfinite_findings(num_nonfinite: int, num_voxels: int, shown: str) -> list[Finding]:
    """NaN and infinite values."""
    if not num_nonfinite:
        return []
    return [
        Finding(shown, "holds NaN or infinite values", f"{num_nonfinite} of {num_voxels} voxels",
                "finite values",
                "replace them by what means nothing: background in a label map, the intensity of air in an image")
    ]


def overflow_findings(scan: Scan, shown: str) -> list[Finding]:
    """Intensities that are finite, but whose variance is none in float32, which nnU-Net normalises with."""
    largest = max(abs(float(scan.voxels.min())), abs(float(scan.voxels.max())))
    if largest ** 2 * scan.voxels.size < float(np.finfo(np.float32).max):  # as nearly always
        return []
    with np.errstate(all="ignore"):
        overflows = not all(np.isfinite(channel.std(dtype=np.float32)) for channel in scan.voxels)
    return [Finding(shown, "holds intensities that overflow when they are normalised",
                    f"{scan.voxels.min():g} to {scan.voxels.max():g}", "intensities whose variance is a number",
                    "save the image with its true intensities, or remove the case")] if overflows else []


def constant_value(scan: Scan) -> float | None:
    """The one intensity of a file without contrast, else None."""
    lowest, highest = scan.voxels.min(), scan.voxels.max()
    return float(lowest) if lowest == highest else None


def label_values(voxels: np.ndarray) -> np.ndarray:
    """The values that occur, sorted."""
    return np.sort(pd.unique(voxels.ravel()))


def label_findings(scan: Scan, values: np.ndarray, shown: str, names: dict[int, str] | None) -> list[Finding]:
    """Values that are no labels of the dataset, and label maps of background alone.

    ``values`` are those that occur. ``names`` holds all that may occur; it is None where dataset.json does not say.
    """
    expected = "whole numbers" if names is None else ", ".join(
        f"{value} {name}" for value, name in sorted(names.items()))
    if len(scan.voxels) != 1:
        return [Finding(shown, "has several values per voxel", f"{len(scan.voxels)} channels", "one label per voxel",
                        "save the label map as a grey-scale image of label values")]
    if scan.num_nonfinite:
        return nonfinite_findings(scan.num_nonfinite, scan.voxels.size, shown)
    fractional = [value for value in values if not float(value).is_integer()]
    if fractional:
        return [Finding(shown, "holds label values that are no whole numbers", list_values(fractional), expected,
                        "save the label map with whole numbers (resample it with nearest neighbours)")]
    unlisted = [] if names is None else [int(value) for value in values if int(value) not in names]
    if unlisted:
        return [Finding(shown, "contains a label that dataset.json does not list", list_values(values), expected,
                        f"correct the file, or list label {list_values(unlisted)} in dataset.json")]
    if not any(value != 0 and (names or {}).get(int(value)) != "ignore" for value in values):
        return [Finding(shown, "holds only background", list_values(values), expected,
                        "check that the annotation was saved; leave it if the structure is truly absent", WARNING)]
    return []


def geometry_findings(geometry: Geometry, shown: str, reference: Geometry, reference_shown: str) -> list[Finding]:
    """Differences of size, spacing, origin and direction from the ``reference`` grid.

    Size and spacing have to agree as nnU-Net demands (relative tolerance 1e-5). A shift or rotation is an error where
    it moves a corner by more than half a voxel, and a warning below.
    """
    fix = f"resample or re-save it on the grid of {reference_shown}"
    if geometry.size != reference.size:
        return [
            Finding(shown, f"differs in size from {reference_shown}", list_extents(geometry.size),
                    list_extents(reference.size), fix)
        ]
    if not np.allclose(geometry.spacing_mm, reference.spacing_mm):
        return [Finding(shown, f"differs in spacing from {reference_shown}", f"{list_values(geometry.spacing_mm)} mm",
                        f"{list_values(reference.spacing_mm)} mm", fix)]
    if geometry.affine is None or reference.affine is None:
        return []
    displaced = geometry.displacement_mm(reference) > MAX_DISPLACEMENT * min(reference.spacing_mm)
    severity = {} if displaced else {"severity": WARNING}
    findings = []
    for aspect, here, there in (("origin", geometry.origin_mm(), reference.origin_mm()),
                                ("direction", geometry.direction(), reference.direction())):
        if not np.allclose(here, there, atol=1e-6):
            findings.append(
                Finding(shown, f"differs in {aspect} from {reference_shown}", list_values(here), list_values(there),
                        fix, **severity))
    return findings
