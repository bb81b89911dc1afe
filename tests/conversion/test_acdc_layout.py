"""ACDC: two frames a patient, kept in one fold, and what Info.cfg says of them."""

import nibabel as nib
import numpy as np
import pytest


@pytest.fixture
def database(tmp_path, nifti, noise):
    """Patients 1 to 7 for training and 101 for test, with frames of their own at the end of diastole and systole."""
    root = tmp_path / "database"
    for number in (*range(1, 8), 101):
        name = f"patient{number:03d}"
        folder = root / ("testing" if number > 100 else "training") / name
        nifti(folder / f"{name}_4d.nii.gz", noise(6, 5, 2, 3, dtype=np.int16))
        for frame in (1 + number % 4, 9 + number % 4):
            nifti(folder / f"{name}_frame{frame:02d}.nii.gz", noise(6, 5, 2, dtype=np.int16))
            nifti(folder / f"{name}_frame{frame:02d}_gt.nii.gz", noise(6, 5, 2) % 4)
        phases = f"ED: {1 + number % 4}\nES: {9 + number % 4}\n"
        (folder / "Info.cfg").write_text(f"{phases}Group: DCM\nHeight: 184.0\nNbFrame: 30\nWeight: 95.0\n")
        (folder / "MANDATORY_CITATION.md").write_text("Bernard et al.")
    return root


def test_both_frames_arrive_byte_for_byte_and_the_test_patients_stay_apart(convert, database, require_intact):
    done = convert("acdc", database)
    assert done.code == 0 and len(done.files("labelsTr")) == 14
    assert done.files("labelsTs") == ["patient101_frame02.nii.gz", "patient101_frame10.nii.gz"]
    for part, folder in (("Tr", "training"), ("Ts", "testing")):
        for name in (file.removesuffix(".nii.gz") for file in done.files(f"labels{part}")):
            original = database / folder / name.split("_")[0] / name
            assert (done.folder / f"images{part}" /
                    f"{name}_0000.nii.gz").read_bytes() == original.with_name(f"{name}.nii.gz").read_bytes()
            assert (done.folder / f"labels{part}" /
                    f"{name}.nii.gz").read_bytes() == original.with_name(f"{name}_gt.nii.gz").read_bytes()
    assert done.description["labels"] == {"background": 0, "right ventricle": 1, "myocardium": 2, "left ventricle": 3}
    assert "14 training cases of 7 patients, 2 test cases" in done.out
    require_intact(done.folder)


@pytest.mark.parametrize("seed", range(3))
def test_the_two_frames_of_a_patient_never_stand_on_both_sides(convert, database, seed):
    for fold in convert("acdc", database, "--seed", str(seed)).splits:
        sides = [{case.split("_")[0] for case in fold[side]} for side in ("train", "val")]
        assert not sides[0] & sides[1] and len(sides[0] | sides[1]) == 7


def test_without_info_the_frames_are_those_that_have_files(convert, database):
    for info in database.glob("t*/*/Info.cfg"):
        info.unlink()
    done = convert("acdc", database)
    assert done.code == 0 and len(done.files("labelsTr")) == 14


def test_an_older_copy_without_references_of_the_test_patients_gives_images_only(convert, database):
    for mask in database.glob("testing/*/*_gt.nii.gz"):
        mask.unlink()
    done = convert("acdc", database)
    assert done.code == 0 and len(done.files("imagesTs")) == 2 and not (done.folder / "labelsTs").exists()
    assert "the references of testing/ are not at hand" in done.out


def test_what_does_not_fit_together_is_listed_and_the_rest_is_converted(convert, database, nifti):
    of = {number: database / "training" / f"patient{number:03d}" for number in range(1, 8)}
    (of[1] / "patient001_frame02_gt.nii.gz").unlink()
    (of[2] / "patient002_frame03.nii.gz").unlink()
    for path in of[3].glob("*_frame12*"):
        path.unlink()
    (of[4] / "Info.cfg").write_text("ED: 1\nGroup: NOR\n")
    nifti(of[5] / "patient005_frame02_gt.nii.gz", np.full((6, 5, 2), 4, np.uint8))
    nifti(of[6] / "patient006_frame03_gt.nii.gz", np.zeros((6, 5, 3), np.uint8))
    (of[7] / "patient007_frame04.nii.gz").write_bytes(b"")
    done = convert("acdc", database)
    assert done.code == 1 and len(done.files("labelsTr")) == 8
    for line in ("patient001_frame02: image without a mask: patient001_frame02.nii.gz",
                 "patient002_frame03: mask without an image: patient002_frame03_gt.nii.gz",
                 "patient003_frame12: Info.cfg names it as ES, but patient003_frame12.nii.gz is missing",
                 "patient004: Info.cfg does not name its frame ES",
                 "patient005_frame02: the label map holds the label 4, expected 0, 1, 2, 3",
                 "patient006_frame03: the label map has the size 6 x 5 x 3, expected 6 x 5 x 2 as the image",
                 "patient007_frame04: patient007_frame04.nii.gz cannot be read"):
        assert line in done.out


def test_a_folder_of_another_layout_is_refused_with_the_file_that_is_missing(convert, database):
    done = convert("acdc", database / "training")
    assert done.code == 2 and f"did you mean {database}?" in done.err
    for mask in database.glob("training/*/*_gt.nii.gz"):
        mask.unlink()
    done = convert("acdc", database)
    assert done.code == 2 and "training/patient*/patient*_frame*_gt.nii.gz is missing." in done.err


def test_the_whole_cycle_is_not_taken_for_a_frame(convert, database):
    done = convert("acdc", database)
    assert not any("4d" in name for name in done.files("imagesTr"))
    assert all(nib.load(path).ndim == 3 for path in (done.folder / "imagesTr").iterdir())
