"""Arrays and images of nibabel are the image of the file that holds the same."""

import weakref
from pathlib import Path
from threading import Event

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from medsegdiff_auto import Prediction, Segmenter
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.inference import many_images, segmenter as module
from medsegdiff_auto.inference.image_input import image_files
from medsegdiff_auto.inference.segmenter import predict

MODEL = Path(__file__).parent / "version_1"
FILE = MODEL / "phantom_005_0000.nii.gz"
SPACING_MM = (2.5, 0.8, 0.7)
RNG = np.random.default_rng(0)
VOLUME = RNG.normal(size=(2, 4, 5, 6)).astype(np.float32)


def model_of(file_ending: str, num_channels: int) -> dict:
    return {"channel_names": {str(number): f"MR{number}" for number in range(num_channels)},
            "file_ending": file_ending, "labels": {"background": 0, "organ": 1}}


def read(files) -> np.ndarray:
    return np.stack([sitk.GetArrayFromImage(sitk.ReadImage(str(path))) for path in files.paths])


@pytest.fixture(scope="module")
def segmenter():
    with Segmenter(MODEL, device="cpu", samples=2) as one:
        yield one


@pytest.mark.parametrize("array, spacing_mm, channels", [
    (VOLUME[0], SPACING_MM, VOLUME[:1]), (VOLUME, SPACING_MM, VOLUME),
    (VOLUME[0, 0], SPACING_MM[1:], VOLUME[:1, 0]), (VOLUME[:, 0], np.array(SPACING_MM[1:]), VOLUME[:, 0]),
    (VOLUME.astype(">f8")[:, ::-1], SPACING_MM, VOLUME[:, ::-1]),
    (VOLUME > 0, SPACING_MM, VOLUME > 0), (VOLUME.astype(np.float16), SPACING_MM, VOLUME.astype(np.float16)),
    ((VOLUME * 2**40).astype(np.int64), SPACING_MM, (VOLUME * 2**40).astype(np.int64))],
    ids=["z y x", "C z y x", "y x", "C y x", "another byte order, reversed", "bool", "half", "64 bits"])
def test_an_array_is_written_value_by_value_with_its_spacing(array, spacing_mm, channels, tmp_path):
    found = image_files(array, model_of(".nii.gz", len(channels)), tmp_path, spacing_mm)
    np.testing.assert_array_equal(read(found), channels)
    assert found.case is None
    for path in found.paths:
        np.testing.assert_allclose(sitk.ReadImage(str(path)).GetSpacing(), list(spacing_mm)[::-1], rtol=1e-6)


def test_a_picture_needs_no_spacing(tmp_path):
    picture = RNG.integers(0, 255, (3, 8, 9)).astype(np.uint8)
    np.testing.assert_array_equal(read(image_files(picture, model_of(".png", 3), tmp_path)), picture)


@pytest.mark.parametrize("array, spacing_mm, num_channels, what, found", [
    (VOLUME[0], None, 1, "needs its spacing", "spacing_mm=None"),
    (VOLUME[0], (0, 1, 1), 1, "no spacing", "(0, 1, 1)"), (VOLUME[0], (1, float("nan"), 1), 1, "no spacing", "nan"),
    (VOLUME[0], 1.0, 1, "no spacing", "1.0"), (VOLUME[0], ("a", 1, 1), 1, "no spacing", "'a'"),
    (VOLUME[0], (1, 1, 1, 1), 1, "no spacing", "(1, 1, 1, 1)"),
    (VOLUME[None], SPACING_MM, 1, "no image of this spacing", "(1, 2, 4, 5, 6)"),
    (VOLUME[0, 0, 0], SPACING_MM[1:], 1, "no image of this spacing", "(6,)"),
    (VOLUME[0, :0], SPACING_MM, 1, "no image of this spacing", "(0, 5, 6)"),
    (VOLUME, SPACING_MM, 1, "another number of channels", "2 channel(s) in the shape (2, 4, 5, 6)"),
    (VOLUME[0], SPACING_MM, 2, "another number of channels", "1 channel(s) in the shape (4, 5, 6)"),
    (VOLUME.astype(complex), SPACING_MM, 2, "not hold real numbers", "complex128"),
    (VOLUME.astype(object), SPACING_MM, 2, "not hold real numbers", "object"),
    (np.full((4, 5, 6), "a"), SPACING_MM, 1, "not hold real numbers", "<U1"),
    (np.ma.masked_less(VOLUME, 0), SPACING_MM, 2, "masked", "MaskedArray"),
    ("scan.nii.gz", SPACING_MM, 1, "Only arrays are given a spacing", "str")])
def test_what_is_no_image_is_refused_in_four_lines(array, spacing_mm, num_channels, what, found, tmp_path):
    with pytest.raises(UserError, match=what) as raised:
        image_files(array, model_of(".nii.gz", num_channels), tmp_path, spacing_mm)
    assert found in raised.value.found
    assert [line.split(":")[0] for line in str(raised.value).splitlines()[1:]] == ["  found", "  expected", "  fix"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("file_ending", [".nii.gz", ".nrrd"])
@pytest.mark.parametrize("slope", [1, 0.37], ids=["as stored", "scaled"])
def test_an_image_of_nibabel_is_what_its_file_is(file_ending, slope, tmp_path):
    affine = np.array([[0, -0.9, 0, 5], [0.7, 0, 0, -3], [0, 0, 2.5, 11], [0, 0, 0, 1.0]])
    image = nibabel.Nifti1Image((VOLUME[0].T * 100).astype(np.int16), affine)
    image.header.set_slope_inter(slope, -1)
    nibabel.save(image, tmp_path / "scan.nii.gz")
    expected, loaded = sitk.ReadImage(str(tmp_path / "scan.nii.gz")), nibabel.load(tmp_path / "scan.nii.gz")
    found = image_files(loaded, model_of(file_ending, 1), tmp_path)
    read_again = sitk.ReadImage(str(found.paths[0]))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read_again).astype(np.float32),
                                  sitk.GetArrayFromImage(expected).astype(np.float32))
    for name in ("GetOrigin", "GetSpacing", "GetDirection"):
        np.testing.assert_allclose(getattr(read_again, name)(), getattr(expected, name)(), atol=1e-6)


def test_the_numbers_of_an_unsaved_image_of_nibabel_are_not_rounded_to_a_scale_of_its_header(tmp_path):
    voxels = (VOLUME[0].T * 100).astype(np.int16)
    image = nibabel.Nifti1Image(voxels, np.eye(4))
    image.header.set_slope_inter(0.37, -1)
    np.testing.assert_array_equal(read(image_files(image, model_of(".nii.gz", 1), tmp_path))[0].T, voxels)


def test_a_sheared_image_of_nibabel_is_refused(tmp_path):
    affine = np.array([[1, 0.3, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    with pytest.raises(UserError, match="image 0 has"):
        image_files(nibabel.Nifti1Image(VOLUME[0], affine), model_of(".nii.gz", 1), tmp_path)


def test_file_array_and_nibabel_give_the_same_voxels(segmenter):
    image = sitk.ReadImage(str(FILE))
    of_file = segmenter.predict(FILE)
    array, spacing_mm = sitk.GetArrayFromImage(image), image.GetSpacing()[::-1]
    for given, spacing in ((array, spacing_mm), (nibabel.load(FILE), None)):
        prediction = segmenter.predict(given, case=of_file.case, spacing_mm=spacing)
        for name in ("segmentation", "samples", "probabilities", "uncertainty"):
            np.testing.assert_array_equal(getattr(prediction, name), getattr(of_file, name))
        assert prediction.volumes == of_file.volumes
    assert of_file.segmentation.any()


def test_nan_in_an_array_is_refused_by_its_place(segmenter):
    array = sitk.GetArrayFromImage(sitk.ReadImage(str(FILE))).astype(np.float32)
    array[..., 3, 4] = np.nan
    with pytest.raises(UserError, match="image 0 holds NaN or infinite values"):
        segmenter.predict(array, spacing_mm=(1.0, ) * array.ndim)


def test_many_images_come_one_by_one_and_an_error_stands_in_the_place_of_its_image(segmenter):
    image = sitk.ReadImage(str(FILE))
    found = segmenter.predict_many({"a": image, "b": "missing.nii.gz", "phantom_005": image})
    first = next(found)
    assert first.case == "a" and isinstance(first, Prediction)
    error, last = found
    assert isinstance(error, UserError) and "does not exist" in error.what
    np.testing.assert_array_equal(last.samples, segmenter.predict(FILE).samples)
    assert (first.samples != last.samples).any()  # the case seeds the noise
    with pytest.raises(UserError, match="does not exist"):
        list(segmenter.predict_many([FILE, "missing.nii.gz"], raise_errors=True))


@pytest.mark.parametrize("is_room", [True, False], ids=["room for both", "room for one"])
def test_the_next_image_is_prepared_beside_the_one_in_use_where_the_memory_holds_both(segmenter, monkeypatch, is_room):
    """The first image waits for the preparation of the second where there is room; else it is over before."""
    events, second = [], Event()
    prepare, fuse = module.prepare_case, module.fused_case

    def prepare_case(*rest):
        events.append("prepared")
        if events.count("prepared") == 2:
            second.set()
        return prepare(*rest)

    def fused_case(*rest):
        assert not is_room or events.count("prepared") == 2 or second.wait(60)
        prediction = fuse(*rest)
        events.append("over")
        return prediction

    monkeypatch.setattr(module, "prepare_case", prepare_case)
    monkeypatch.setattr(module, "fused_case", fused_case)
    monkeypatch.setattr(many_images, "fit_beside", lambda in_use, following: is_room)
    found = list(segmenter.predict_many([FILE, FILE]))
    assert events == (["prepared"] * 2 + ["over"] * 2 if is_room else ["prepared", "over"] * 2)
    expected = segmenter.predict(FILE)
    for prediction in found:
        np.testing.assert_array_equal(prediction.samples, expected.samples)


def test_images_that_are_not_asked_for_are_not_looked_at(segmenter):
    asked = []
    images = (asked.append(number) or FILE for number in range(100))
    found = segmenter.predict_many(images)
    assert next(found).segmentation.any() and asked == [0, 1]
    found.close()


def test_a_mistake_of_ours_is_no_error_of_the_image(segmenter, monkeypatch):
    monkeypatch.setattr("medsegdiff_auto.inference.segmenter.fused_case", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        list(segmenter.predict_many([FILE]))


def test_the_memory_of_the_model_comes_back_at_the_end_of_the_block():
    with Segmenter(MODEL, device="cpu", samples=1) as segmenter:
        network = weakref.ref(segmenter.predictor.network)
        prediction = segmenter.predict(FILE)
        assert network() is not None
    assert network() is None and prediction.segmentation.any() and repr(segmenter) == "Segmenter(closed)"
    with pytest.raises(UserError, match="is closed"):
        segmenter.predict(FILE)
    with pytest.raises(UserError, match="is closed"):
        segmenter.predict_many([FILE])


def test_the_function_takes_an_array_with_its_spacing():
    image = sitk.ReadImage(str(FILE))
    prediction = predict(sitk.GetArrayFromImage(image), MODEL, spacing_mm=image.GetSpacing()[::-1], device="cpu",
                         samples=1)
    assert prediction.case == "case" and prediction.segmentation.any()
