"""Regions overlap: each is a segment of its own in every format, with its own channel, code and inclusion."""

import json
from pathlib import Path

import numpy as np
import pytest
import slicerio
from dicom_files import OBLIQUE, Place, frames_of, volume_of, write_series
from nnunetv2.imageio.nibabel_reader_writer import NibabelIO, NibabelIOWithReorient

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.files.dicom_series import read_series_of_slices
from medsegdiff_auto.inference.export import ImageGridPrediction, Outputs, write_case
from medsegdiff_auto.inference.image_grid import ImageGrid
from medsegdiff_auto.inference.image_input import written
from medsegdiff_auto.inference.viewer_files import require_viewer_formats
from medsegdiff_auto.nnunet.managers import PlansManager
from medsegdiff_auto.sampling.volume_store import in_memory

MODEL, SHAPE, PLACE = Path(__file__).parent / "version_1", (4, 6, 5), Place(axes=OBLIQUE)
CORE = {"value": "108369006", "scheme": "SCT", "meaning": "Neoplasm"}
DATASET = {"channel_names": {"0": "MR"}, "labels": {"background": 0, "whole": [1, 2], "core": [2]},
           "regions_class_order": [1, 2], "numTraining": 1, "file_ending": ".nii.gz", "codes": {"core": CORE}}
RNG = np.random.default_rng(5)
SAMPLES = RNG.integers(0, 3, (20, *SHAPE)).astype(np.uint8)
MASK = SAMPLES[0]
PROBABILITIES = RNG.random((2, *SHAPE), dtype=np.float32)


def plans() -> PlansManager:
    return PlansManager(json.loads((MODEL / "plans.json").read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """All files of one case."""
    root = tmp_path_factory.mktemp("case")
    voxels = RNG.integers(0, 500, SHAPE).astype(np.int16)
    image, series = read_series_of_slices(write_series(root / "series", voxels, PLACE), "series")
    file = written(image, root / "case_0000.nii.gz")
    _, properties = plans().image_reader_writer_class().read_images((str(file), ))
    properties |= {"shape_before_cropping": SHAPE, "bbox_used_for_cropping": [[0, extent] for extent in SHAPE],
                   "shape_after_cropping_and_before_resampling": SHAPE}
    grid = ImageGrid(properties, plans(), plans().get_configuration("2d"), DATASET)
    prediction = ImageGridPrediction(MASK, in_memory(PROBABILITIES), [in_memory(one) for one in SAMPLES], grid)
    outputs = Outputs(probabilities=True, inclusion=True, formats=("dicom-seg", "seg.nrrd", "itk-snap"))
    write_case(prediction, root / "out", "case", file, outputs, series)
    names = {path.name for path in (root / "out").iterdir()}
    assert names == {"case.nii.gz", "case.pkl", "labels_itksnap.txt", *(f"case{end}" for end in outputs.endings())}
    return root / "out"


def test_each_region_is_a_segment_of_the_dicom_file_with_its_own_code_and_channel(folder):
    for number, mask in enumerate((MASK > 0, MASK == 2), start=1):
        np.testing.assert_array_equal(volume_of(folder / "case.dcm", number, SHAPE, PLACE), mask)
        found = volume_of(folder / "case_probabilities.dcm", number, SHAPE, PLACE) / 255
        np.testing.assert_allclose(found, PROBABILITIES[number - 1], atol=0.5 / 255 + 1e-6)
    whole, core = frames_of(folder / "case.dcm")[0].SegmentSequence
    assert whole.SegmentedPropertyTypeCodeSequence[0].CodingSchemeDesignator == "99MEDSEGDIFF"
    assert core.SegmentedPropertyTypeCodeSequence[0].CodeValue == CORE["value"]


def test_each_region_and_each_of_its_shares_is_a_segment_of_the_slicer_file(folder):
    found = slicerio.read_segmentation(str(folder / "case.seg.nrrd"))
    held = {one["name"]: found["voxels"][one["layer"]].T == one["labelValue"] for one in found["segments"]}
    assert len(held) == 8
    for name, mask, samples in (("whole", MASK > 0, SAMPLES > 0), ("core", MASK == 2, SAMPLES == 2)):
        np.testing.assert_array_equal(held[name], mask)
        for percent, fewest in ((5, 1), (50, 10), (95, 19)):
            np.testing.assert_array_equal(held[f"{name} in {percent} % of the samples"], samples.sum(0) >= fewest)
    colours = {one["name"]: one["color"] for one in found["segments"]}
    np.testing.assert_allclose(colours["whole"], (230 / 255, 159 / 255, 0), atol=1e-5)
    np.testing.assert_allclose(colours["whole in 5 % of the samples"], (246 / 255, 220 / 255, 162 / 255), atol=1e-5)
    core = next(one for one in found["segments"] if one["name"] == "core")
    assert core["terminology"]["type"] == ["SCT", CORE["value"], CORE["meaning"]]


def test_the_label_descriptions_name_every_region_of_a_value(folder):
    assert [line.split('"')[1] for line in (folder / "labels_itksnap.txt").read_text(encoding="utf-8").splitlines()
            if not line.startswith("#")] == ["Clear Label", "whole", "whole + core"]


@pytest.mark.parametrize("reader, is_refused", [(NibabelIO, False), (NibabelIOWithReorient, True)])
def test_a_reader_that_turns_images_writes_no_dicom_segmentation(monkeypatch, tmp_path, reader, is_refused):
    series = read_series_of_slices(write_series(tmp_path / "s", np.arange(120).reshape(SHAPE), PLACE), "s")[1]
    monkeypatch.setattr(PlansManager, "image_reader_writer_class", reader)
    require_viewer_formats(["seg.nrrd"], {"case": None}, plans())
    if not is_refused:
        return require_viewer_formats(["dicom-seg"], {"case": series}, plans())
    with pytest.raises(UserError, match="reader turns images"):
        require_viewer_formats(["dicom-seg"], {"case": series}, plans())
