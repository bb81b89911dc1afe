"""From a DICOM series to its segmentation: the command and the Segmenter, with the model that is kept."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import slicerio
from dicom_files import OBLIQUE, Place, frames_of, volume_of, write_series

from medsegdiff_auto import Segmenter
from medsegdiff_auto.cli import predict
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.inference.export import Outputs
from medsegdiff_auto.inference.postprocessing import postprocess
from medsegdiff_auto.nnunet.postprocessing_steps import write_postprocessing

MODEL = Path(__file__).parent / "version_1"
PLACE = Place(spacing_mm=(3.0, 1.0, 1.0), axes=OBLIQUE)
FORMATS = ["--output_format", "dicom-seg", "seg.nrrd", "itk-snap", "--save_inclusion", "--save_samples"]


def voxels() -> np.ndarray:
    """The kept image and copies of it that are moved, one above the other, as whole numbers."""
    plane = array_of(MODEL / "phantom_005_0000.nii.gz").squeeze()
    return (np.stack([np.roll(plane, shift, 0) for shift in (0, 3, 6, 9)]) * 1000).round().astype(np.int16)


def command(*words) -> int:
    return predict.main([*map(str, words), "-m", str(MODEL), "-device", "cpu", "--samples", "3"])


def array_of(file: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(file)))


@pytest.fixture(scope="module")
def series(tmp_path_factory) -> Path:
    return write_series(tmp_path_factory.mktemp("dicom") / "anna", voxels(), PLACE)


@pytest.fixture(scope="module")
def predictions(series, tmp_path_factory) -> Path:
    """What the command writes."""
    folder = tmp_path_factory.mktemp("predictions")
    assert command("-i", series, "-o", folder, *FORMATS, "--save_probabilities") == 0
    return folder


def test_the_command_writes_a_segmentation_that_lies_as_the_series(predictions):
    mask = array_of(predictions / "anna.nii.gz")
    assert mask.shape[0] == 4 and {1, 2} <= set(np.unique(mask))
    for label in (1, 2):
        np.testing.assert_array_equal(volume_of(predictions / "anna.dcm", label, mask.shape, PLACE), mask == label)
    probabilities = array_of(predictions / "anna_probabilities.nii.gz")
    found = volume_of(predictions / "anna_probabilities.dcm", 2, mask.shape, PLACE) / 255
    np.testing.assert_allclose(found, probabilities[2], atol=0.5 / 255 + 1e-6)
    image = sitk.ReadImage(str(predictions / "anna.nii.gz"))
    for z, y, x in ((0, 0, 0), (3, 5, 7)):
        np.testing.assert_allclose(image.TransformIndexToPhysicalPoint((x, y, z)), PLACE.position(z, y, x), atol=1e-3)


def test_slicer_and_itksnap_find_mask_and_inclusion(predictions):
    mask, samples = array_of(predictions / "anna.nii.gz"), array_of(predictions / "anna_samples.nii.gz")
    inclusion = array_of(predictions / "anna_inclusion.nii.gz")
    found = slicerio.read_segmentation(str(predictions / "anna.seg.nrrd"))
    layers = found["voxels"] if found["voxels"].ndim == 4 else found["voxels"][None]
    held = {segment["name"]: layers[segment["layer"]].T == segment["labelValue"] for segment in found["segments"]}
    for label, name in ((1, "organ"), (2, "lesion")):
        np.testing.assert_array_equal(held[name], mask == label)
        counts = (samples == label).sum(0)
        for percent, fewest in ((5, 1), (50, 2), (95, 3)):
            np.testing.assert_array_equal(held[f"{name} in {percent} % of the samples"], counts >= fewest)
            np.testing.assert_array_equal(inclusion[label - 1] >= percent, counts >= fewest)
    assert len(held) == 8
    text = (predictions / "labels_itksnap.txt").read_text()
    assert '"organ"' in text and '"lesion"' in text


def test_from_python_a_series_gives_the_voxels_and_files_of_the_command(series, predictions, tmp_path):
    with Segmenter(MODEL, device="cpu", samples=3) as segmenter:
        prediction = segmenter.predict(series)
    assert prediction.case == "anna"
    np.testing.assert_array_equal(prediction.segmentation, array_of(predictions / "anna.nii.gz"))
    np.testing.assert_array_equal(prediction.samples, array_of(predictions / "anna_samples.nii.gz"))
    np.testing.assert_array_equal(prediction.probabilities, array_of(predictions / "anna_probabilities.nii.gz"))
    prediction.save(tmp_path, outputs=Outputs(formats=("dicom-seg", )))
    ours, theirs = (frames_of(folder / "anna.dcm")[1] for folder in (tmp_path, predictions))
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs):
        np.testing.assert_array_equal(one.pixels, other.pixels)
        np.testing.assert_array_equal(one.position_mm, other.position_mm)


def test_a_lone_slice_is_a_series_too(tmp_path):
    folder = write_series(tmp_path / "lone", voxels()[:1], PLACE)
    assert command("-i", folder, "-o", tmp_path / "out", *FORMATS) == 0
    mask = array_of(tmp_path / "out" / "lone.nii.gz")
    mask = mask.reshape(1, *mask.shape[-2:])
    for label in (1, 2):
        np.testing.assert_array_equal(volume_of(tmp_path / "out" / "lone.dcm", label, mask.shape, PLACE), mask == label)
    found = sitk.ReadImage(str(tmp_path / "out" / "lone.seg.nrrd"))
    np.testing.assert_allclose(found.TransformIndexToPhysicalPoint((7, 5, 0)), PLACE.position(0, 5, 7), atol=1e-3)


def test_continuing_makes_what_is_missing_or_cut_and_nothing_else(series, predictions, tmp_path, capsys):
    folder = Path(shutil.copytree(predictions, tmp_path / "out"))
    again = ["-i", series, "-o", folder, *FORMATS, "--save_probabilities", "--continue_prediction"]
    assert command(*again) == 0 and "0 predictions" in capsys.readouterr().out
    for name in ("anna.dcm", "anna.seg.nrrd"):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[:-30])
        assert command(*again) == 0 and "1 predictions" in capsys.readouterr().out
        assert abs(len((folder / name).read_bytes()) - len(content)) < 30


def test_a_folder_of_series_is_one_case_each_and_a_bad_one_is_left_out(series, tmp_path, capsys, caplog):
    both = tmp_path / "both"
    shutil.copytree(series, both / "good_0000")
    write_series(both / "gap", voxels(), heights=[0, 1, 3, 4])
    assert command("-i", both, "-o", tmp_path / "out", "--output_format", "dicom-seg") == 1
    assert "Left out, see above: gap" in capsys.readouterr().err and "not evenly spaced" in caplog.text
    assert sorted(file.name for file in (tmp_path / "out").glob("*.dcm")) == ["good.dcm"]
    assert (tmp_path / "out" / "good.nii.gz").is_file() and not (tmp_path / "out" / "gap.nii.gz").exists()


@pytest.mark.parametrize("write, words, what, found", [
    (lambda folder: write_series(folder, voxels(), heights=[0, 1, 3, 4]), [],
     "is no DICOM series that is one grid", "not evenly spaced, 2.5 to 5 mm"),
    (lambda folder: write_series(folder, np.full((3, 40, 40), 7, np.int16)), [], "is constant", "7 everywhere"),
    (lambda folder: write_series(folder, voxels(), FrameOfReferenceUID=None),
     ["--output_format", "dicom-seg"], "lacks what a DICOM segmentation of it needs", "FrameOfReferenceUID"),
    (lambda folder: folder.mkdir() or shutil.copy(MODEL / "phantom_005_0000.nii.gz", folder),
     ["--output_format", "dicom-seg"], "belongs to a DICOM series", "phantom_005")])
def test_what_cannot_be_segmented_is_said_and_nothing_is_written(tmp_path, capsys, write, words, what, found):
    folder = tmp_path / "berta"
    write(folder)
    assert command("-i", folder, "-o", tmp_path / "out", *words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 4 and what in error and found in error and "medsegdiff_dicom_" not in error
    assert not (tmp_path / "out").exists()


def test_postprocessing_leaves_masks_of_before_behind_and_keeps_what_tells_of_the_samples(predictions, tmp_path):
    steps = tmp_path / "postprocessing.pkl"
    write_postprocessing([], steps)
    plans, dataset_json = (json.loads((MODEL / name).read_text()) for name in ("plans.json", "dataset.json"))
    postprocess(predictions, tmp_path / "out", steps, plans, dataset_json, 1)
    names = {file.name for file in (tmp_path / "out").iterdir()}
    assert {"anna.nii.gz", "anna_samples.nii.gz", "anna_inclusion.nii.gz", "anna_probabilities.dcm",
            "labels_itksnap.txt"} <= names
    assert not names & {"anna.dcm", "anna.seg.nrrd"}


def test_an_image_that_was_no_series_has_no_dicom_segmentation(tmp_path):
    prediction = Segmenter(MODEL, device="cpu", samples=1).predict(MODEL / "phantom_005_0000.nii.gz")
    with pytest.raises(UserError, match="belongs to a DICOM series"):
        prediction.save(tmp_path / "out", outputs=Outputs(formats=("dicom-seg", )))
    assert not (tmp_path / "out").exists()
