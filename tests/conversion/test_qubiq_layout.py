"""QUBIQ: every set in the layout of its archive, raters and their majority, official parts, and masks that do not fit.
"""

import nibabel as nib
import numpy as np
import pytest

from medsegdiff_auto.dataset_conversion.qubiq import SETS

SLICE = np.diag([0.7, 0.7, 1.0, 1.0])


def marks(shape, num_raters):
    """Masks such that voxel k of the flattened grid is marked by k % (num_raters + 1) raters."""
    count = np.arange(np.prod(shape)).reshape(shape) % (num_raters + 1)
    return [(count > rater).astype(np.uint8) for rater in range(num_raters)]


@pytest.fixture
def qubiq(tmp_path, nifti, noise):
    """``qubiq(set)`` writes the three archives with four training cases, one validation and one test case of a set."""
    root = tmp_path / "qubiq"

    def write(name):
        kind, volume = SETS[name], name.startswith("pancrea")
        shape = (6, 5, 4) if volume else (6, 5)
        for archive, part, numbers in (("training_data_v3_QC", "Training", range(
                1, 5)), ("validation_data_qubiq2021_QC", "Validation", (5, )), ("QUBIQ21_test", "Testing", (7, ))):
            for number in numbers:
                case = f"case{(number + 1) // 2}-{2 - number % 2}" if volume else f"case{number:02d}"
                folder = root / archive / name / ("" if volume else part) / case
                image = noise(*shape, *((4,) if name == "brain-tumor" else ())).astype(np.float32)
                nifti(folder / "image.nii.gz", image, SLICE)
                for task in range(1, kind.num_tasks + 1) if part != "Testing" else ():
                    for rater, mask in enumerate(marks(shape, kind.num_raters), start=1):
                        stem = f"{case}_seg" if name == "pancreas" else f"task{task:02d}_seg"
                        mask = mask if task == 1 else mask[::-1, ::-1]
                        nifti(folder / f"{stem}{rater:02d}.nii.gz",
                              mask.astype(np.float64) if name == "kidney" else mask, SLICE)
        return root

    return write


@pytest.mark.parametrize("name", SETS)
def test_images_experts_and_their_majority_arrive_voxel_for_voxel(convert, qubiq, require_intact, name):
    source, kind = qubiq(name), SETS[name]
    done = convert("qubiq", source, "--set", name, "--raters")
    assert done.code == 0
    assert len(done.files("labelsTr")) == 4 and len(done.files("labelsTs")) == 1
    assert len(done.files("imagesTs")) == 2 * len(kind.channels)
    case = "case1-1" if name.startswith("pancrea") else "case01"
    original = nib.load(next(source.glob(f"training*/{name}/**/{case}/image.nii.gz")))
    voxels = np.asanyarray(original.dataobj)
    for channel in range(len(kind.channels)):
        written = nib.load(done.folder / "imagesTr" / f"{case}_{channel:04d}.nii.gz")
        np.testing.assert_array_equal(np.asanyarray(written.dataobj),
                                      voxels if len(kind.channels) == 1 else voxels[..., channel])
        np.testing.assert_array_equal(written.affine, original.affine)
    shape = voxels.shape[:2] if name == "brain-tumor" else voxels.shape
    masks = marks(shape, kind.num_raters)
    np.testing.assert_array_equal(done.voxels(f"labelsTr/{case}.nii.gz"), 2 * sum(mask.astype(int) for mask in masks)
                                  >= kind.num_raters)
    assert done.files("labelsTr_raters") == [f"rater_{rater}" for rater in range(1, kind.num_raters + 1)]
    for rater, mask in enumerate(masks, start=1):
        np.testing.assert_array_equal(done.voxels(f"labelsTr_raters/rater_{rater}/{case}.nii.gz"), mask)
    assert len(done.files("labelsTs_raters")) == kind.num_raters
    require_intact(done.folder)


def test_a_task_is_a_dataset_of_its_own(convert, qubiq):
    source = qubiq("prostate")
    done = convert("qubiq", source, "--set", "prostate", "--task", "2")
    expected = 2 * sum(mask[::-1, ::-1].astype(int) for mask in marks((6, 5), 6)) >= 6
    np.testing.assert_array_equal(done.voxels("labelsTr/case03.nii.gz"), expected)
    assert done.folder.name == "Dataset007_QUBIQ-prostate-task02"
    assert done.description["labels"] == {"background": 0, "prostate task02": 1}
    refused = convert("qubiq", source, "--set", "prostate", "--task", "3")
    assert refused.code == 2 and "found:    --task 3" in refused.err and "expected: 1 to 2" in refused.err


def test_a_structure_in_a_slice_is_counted_in_voxels_and_not_in_millilitres(convert, qubiq):
    done = convert("qubiq", qubiq("brain-growth"), "--set", "brain-growth")
    marked = np.count_nonzero(2 * sum(mask.astype(int) for mask in marks((6, 5), 7)) >= 7)
    assert f"brain-growth task01: in 5 of 5 cases, median {marked} voxels ({marked} to {marked})" in done.out


def test_the_archive_alone_is_understood_too(convert, qubiq):
    done = convert("qubiq", qubiq("kidney") / "training_data_v3_QC", "--set", "kidney")
    assert done.code == 0 and len(done.files("labelsTr")) == 4 and not (done.folder / "imagesTs").exists()
    done = convert("qubiq",
                   qubiq("pancreas") / "training_data_v3_QC", "--set", "pancreas", "--name", "QUBIQ-kidney",
                   "--overwrite")
    assert done.code == 0 and len(done.files("labelsTr")) == 4


def test_scans_with_one_number_before_the_hyphen_stay_in_one_fold(convert, qubiq):
    splits = convert("qubiq", qubiq("pancreatic-lesion"), "--set", "pancreatic-lesion").splits
    assert sorted(fold["val"] for fold in splits) == [[f"case{number}-1", f"case{number}-2"] for number in (1, 2)]


def test_a_mask_of_a_slice_stored_with_a_third_axis_lies_where_the_image_lies(convert, qubiq, nifti):
    source = qubiq("prostate")
    for rater, mask in enumerate(marks((6, 5), 6), start=1):
        nifti(source / f"training_data_v3_QC/prostate/Training/case01/task01_seg{rater:02d}.nii.gz", mask[..., None],
              np.eye(4))
    done = convert("qubiq", source, "--set", "prostate", "--raters")
    assert done.code == 0
    for file in ("labelsTr/case01.nii.gz", "labelsTr_raters/rater_6/case01.nii.gz"):
        written = nib.load(done.folder / file)
        assert written.shape == (6, 5) and np.array_equal(written.affine,
                                                          nib.load(done.folder / "imagesTr/case01_0000.nii.gz").affine)


def test_the_majority_of_fewer_experts_is_taken_from_those_who_marked_the_case(convert, qubiq):
    source = qubiq("prostate")
    (source / "training_data_v3_QC/prostate/Training/case02/task01_seg06.nii.gz").unlink()
    done = convert("qubiq", source, "--set", "prostate", "--raters")
    assert done.code == 0 and "note: case02 has the masks of 5 of 6 experts" in done.out
    assert "case02.nii.gz" not in done.files("labelsTr_raters/rater_6")
    expected = 2 * sum(mask.astype(int) for mask in marks((6, 5), 6)[:5]) >= 5
    np.testing.assert_array_equal(done.voxels("labelsTr/case02.nii.gz"), expected)


def test_derived_files_are_not_taken_for_an_expert(convert, qubiq, nifti):
    source = qubiq("kidney")
    nifti(source / "training_data_v3_QC/kidney/Training/case01/task01_seg_majority.nii.gz", np.ones((6, 5), np.uint8),
          SLICE)
    done = convert("qubiq", source, "--set", "kidney", "--raters")
    assert done.files("labelsTr_raters") == ["rater_1", "rater_2", "rater_3"]


def test_what_does_not_fit_together_is_listed_and_the_rest_is_converted(convert, qubiq, nifti):
    source = qubiq("kidney")
    of = {number: source / f"training_data_v3_QC/kidney/Training/case{number:02d}" for number in range(1, 5)}
    for path in of[1].glob("task*"):
        path.unlink()
    (of[2] / "image.nii.gz").unlink()
    nifti(of[3] / "task01_seg02.nii.gz", np.full((6, 5), 2, np.uint8), SLICE)
    nifti(source / "validation_data_qubiq2021_QC/kidney/Validation/case05/task01_seg02.nii.gz",
          np.zeros((6, 4), np.uint8), SLICE)
    (source / "QUBIQ21_test/kidney/Testing/case07/image.nii.gz").write_bytes(b"no gzip")
    done = convert("qubiq", source, "--set", "kidney")
    assert done.code == 1 and done.files("labelsTr") == ["case04.nii.gz"]
    for line in ("case01: image without a mask: no task01_seg*.nii.gz", "case02: image.nii.gz is missing",
                 "case03: task01_seg02.nii.gz holds the label 2, expected 0, 1",
                 "validation_case05: the experts' masks differ in size: rater_1 6 x 5, rater_2 6 x 4, rater_3 6 x 5",
                 "testing_case07: image.nii.gz cannot be read"):
        assert line in done.out


def test_a_slice_without_its_four_sequences_is_refused(convert, qubiq, nifti, noise):
    source = qubiq("brain-tumor")
    nifti(source / "training_data_v3_QC/brain-tumor/Training/case01/image.nii.gz", noise(6, 5, 3), SLICE)
    done = convert("qubiq", source, "--set", "brain-tumor")
    assert done.code == 1 and "case01: the image has the size 6 x 5 x 3, expected 4 along the third axis" in done.out


def test_a_folder_without_the_set_is_refused(convert, qubiq):
    done = convert("qubiq", qubiq("kidney"), "--set", "prostate")
    assert done.code == 2 and "holds no case of prostate." in done.err
    assert "found:    QUBIQ21_test/, training_data_v3_QC/, validation_data_qubiq2021_QC/" in done.err
