"""nnU-Net's dataset fingerprint plus what the diffusion needs to know: size, count and volume of every structure.

    diameter along axis i of a component = 2 sqrt(d + 2) std_i, the axis of the ellipsoid (d = 3) or ellipse (d = 2)
    with the same second moments; exact for an ellipsoid aligned with the grid.
"""

from __future__ import annotations

import logging
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path

import cc3d
import numpy as np
from batchgenerators.utilities.file_and_folder_operations import load_json
from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor
from nnunetv2.imageio.reader_writer_registry import determine_reader_writer_from_dataset_json
from nnunetv2.paths import nnUNet_preprocessed

from medsegdiff_auto.nnunet.dataset_files import FINGERPRINT_FILE
from medsegdiff_auto.nnunet.properties import spacing_of
from medsegdiff_auto.files.provenance import recorded
from medsegdiff_auto.planning.made_from import dataset_checksums, stale_because
from medsegdiff_auto.writing import write_json

STRUCTURES_KEY = "structures"
logger = logging.getLogger(__name__)


def structure_labels(dataset_json: dict) -> dict[str, list[int]]:
    """Foreground structures of a dataset: name to the label values that make it up (one, or several for a region)."""
    structures = {}
    for name, value in dataset_json["labels"].items():
        values = [int(v) for v in value] if isinstance(value, (list, tuple)) else [int(value)]
        if values != [0] and name != "ignore":
            structures[name] = values
    return structures


def measure_structure(mask: np.ndarray, spacing_mm: np.ndarray) -> dict | None:
    """Diameter per axis and volume of the largest component, number of components and total volume of one mask.

    Args:
        mask: bool, (z, y, x); 2-D images have one slice.
        spacing_mm: per axis, in mm (in pixels where an image format has no spacing).
    Returns:
        None where the mask is empty.
    """
    if not mask.any():
        return None
    components = cc3d.connected_components(mask.astype(np.uint8), connectivity=26)
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    coordinates = np.argwhere(components == sizes.argmax())
    dimension = sum(n > 1 for n in mask.shape)
    diameter_vox = np.maximum(2 * np.sqrt(dimension + 2) * coordinates.std(0), 1.0)
    return {
        "diameter_mm": (diameter_vox * spacing_mm).tolist(),
        "num_components": int((sizes > 0).sum()),
        "volume_mm3": float(mask.sum() * np.prod(spacing_mm)),
        "volume_fraction": float(mask.mean()),
    }


def _measure_case(label_file: str, reader_writer_class, structures: dict[str, list[int]]) -> dict[str, dict | None]:
    segmentation, properties = reader_writer_class().read_seg(label_file)
    spacing_mm = np.where(np.array(segmentation.shape[1:]) > 1, spacing_of(properties), 1.0)
    return {name: measure_structure(np.isin(segmentation[0], values), spacing_mm)
            for name, values in structures.items()}


def summarise(measurements: list[dict | None]) -> dict:
    """Medians over the cases that contain the structure, and the share of the cases that do."""
    present = [m for m in measurements if m is not None]
    if not present:
        return {"share_of_cases": 0.0}
    return {
        "share_of_cases": len(present) / len(measurements),
        "diameter_mm": np.median([m["diameter_mm"] for m in present], axis=0).tolist(),
        "num_components": float(np.median([m["num_components"] for m in present])),
        "volume_mm3": float(np.median([m["volume_mm3"] for m in present])),
        "volume_fraction": float(np.median([m["volume_fraction"] for m in present])),
    }


def _num_cases(fingerprint: Path) -> int | None:
    """Cases that a fingerprint was made from; None where it cannot be read."""
    try:
        return len(load_json(str(fingerprint))["spacings"])
    except (ValueError, KeyError, TypeError):
        return None


class MedSegDiffFingerprintExtractor(DatasetFingerprintExtractor):
    """nnU-Net's extractor; ``dataset_fingerprint.json`` gains ``structures`` (per structure, medians over cases)."""

    def run(self, overwrite_existing: bool = False) -> dict:
        """Extracts what is missing, or was made from other files than the dataset's, and returns the whole fingerprint.
        """
        file = Path(nnUNet_preprocessed, self.dataset_name, FINGERPRINT_FILE)
        made_from = dataset_checksums(Path(self.input_folder), self.dataset_json, self.num_processes)
        reason = stale_because(file, made_from, _num_cases(file)) if file.is_file() else ""
        if reason:
            logger.warning("The fingerprint is extracted anew: %s.", reason)
        if overwrite_existing or reason or not file.is_file():
            with recorded(file, **made_from):
                super().run(overwrite_existing=True)
                return self.with_structures(file)
        fingerprint = load_json(str(file))
        return fingerprint if STRUCTURES_KEY in fingerprint else self.with_structures(file)

    def with_structures(self, file: Path) -> dict:
        """Adds the structures to nnU-Net's fingerprint."""
        fingerprint = load_json(str(file)) | {STRUCTURES_KEY: self.measure_structures()}
        write_json(fingerprint, file, sort_keys=True)
        return fingerprint

    def measure_structures(self) -> dict[str, dict]:
        """Measures every label file, ``num_processes`` at a time (threads: the work is inside numpy and cc3d)."""
        structures = structure_labels(self.dataset_json)
        files = [case["label"] for case in self.dataset.values()]
        example = next(iter(self.dataset.values()))["images"][0]
        reader_writer_class = determine_reader_writer_from_dataset_json(self.dataset_json, example, verbose=False)
        measure = partial(_measure_case, reader_writer_class=reader_writer_class, structures=structures)
        with ThreadPool(self.num_processes) as pool:
            cases = pool.map(measure, files)
        return {name: summarise([case[name] for case in cases]) for name in structures}
