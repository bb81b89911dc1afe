"""BraTS: every edition's names and codes become one dataset; sequences in one order, three nested regions."""

import json

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

SHAPE = (4, 4, 3)
EDITIONS = {
    "2017 to 2019": ("HGG/Brats18_CBICA_A{:02d}_1/Brats18_CBICA_A{:02d}_1_{}.nii.gz", ("t1", "t1ce", "t2", "flair",
                                                                                       "seg"), {1: 2, 2: 1, 4: 3}),
    "2020": ("BraTS20_Training_{:03d}/BraTS20_Training_{:03d}_{}.nii", ("t1", "t1ce", "t2", "flair", "seg"),
             {1: 2, 2: 1, 4: 3}),
    "2021": ("BraTS2021_{:05d}/BraTS2021_{:05d}_{}.nii.gz", ("t1", "t1ce", "t2", "flair", "seg"), {1: 2, 2: 1, 4: 3}),
    "2023": ("BraTS-GLI-{:05d}-000/BraTS-GLI-{:05d}-000-{}.nii.gz", ("t1n", "t1c", "t2w", "t2f", "seg"),
             {1: 2, 2: 1, 3: 3}),
}
KINDS_2015 = ("XX.O.MR_T1", "XX.O.MR_T1c", "XX.O.MR_T2", "XX.O.MR_Flair")


def mask_of(codes) -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    for column, code in enumerate(codes):
        mask[column] = code
    return mask


@pytest.fixture
def brats(tmp_path, nifti, noise):
    """``brats(version, cases)``: a folder in the layout of an edition; sequence k of a case has values above 1000 k."""
    def write(version: str, numbers=(0, 1)):
        pattern, parts, codes = EDITIONS[version]
        for number in numbers:
            for order, part in enumerate(parts[:4]):
                nifti(tmp_path / "brats" / pattern.format(number, number, part),
                      noise(*SHAPE, dtype=np.int16) + np.int16(1000 * order))
            nifti(tmp_path / "brats" / pattern.format(number, number, "seg"), mask_of(codes))
        return tmp_path / "brats"

    return write


@pytest.mark.parametrize("version", EDITIONS)
def test_the_codes_and_sequences_of_an_edition_arrive_in_one_order(convert, brats, version, require_intact):
    source = brats(version)
    pattern, parts, codes = EDITIONS[version]
    done = convert("brats", source)
    assert done.code == 0 and done.description["release"] == version
    assert list(done.description["channel_names"].values()) == ["T1", "T1 with contrast", "T2", "FLAIR"]
    name = pattern.format(0, 0, "").split("/")[-2]
    np.testing.assert_array_equal(done.voxels(f"labelsTr/{name}.nii.gz"), mask_of(codes.values()))
    for order, part in enumerate(parts[:4]):
        original = nib.load(source / pattern.format(0, 0, part))
        np.testing.assert_array_equal(done.voxels(f"imagesTr/{name}_{order:04d}.nii.gz"),
                                      np.asanyarray(original.dataobj))
        np.testing.assert_array_equal(
            nib.load(done.folder / "imagesTr" / f"{name}_{order:04d}.nii.gz").affine, original.affine)
    require_intact(done.folder)


def test_regions_are_whole_tumour_core_and_enhancing_tumour_for_nnunet(convert, brats):
    from nnunetv2.utilities.label_handling.label_handling import LabelManager

    description = convert("brats", brats("2021")).description
    manager = LabelManager(description["labels"], description["regions_class_order"])
    assert manager.foreground_regions == [(1, 2, 3), (2, 3), (3,)]
    probabilities = np.array([[1, 0, 0], [1, 1, 0], [1, 1, 1], [0, 0, 0]], np.float32).T[..., None, None]
    np.testing.assert_array_equal(np.ravel(manager.convert_probabilities_to_segmentation(probabilities)), [1, 2, 3, 0])


def test_brats_2015_in_mha_keeps_voxels_and_geometry_and_groups_the_time_points_of_a_patient(
        convert, tmp_path, noise, require_intact):
    originals = {}
    for case in ("brats_2013_pat0001_1", "brats_tcia_pat118_0001", "brats_tcia_pat118_0083"):
        kinds = (*KINDS_2015, "_3more.XX.O.OT")
        for number, kind in enumerate(kinds):
            voxels = mask_of([1, 2, 3, 4]) if kind.endswith("OT") else noise(*SHAPE, dtype=np.int16)
            image = sitk.GetImageFromArray(voxels.T)
            image.SetOrigin((3.0, -2.0, 154.0))
            image.SetDirection((1, 0, 0, 0, -1, 0, 0, 0, 1))
            stem = f"VSD.Brain{'' if kind.startswith('_') else '.'}{kind}.{54512 + number}"
            path = tmp_path / "BRATS2015_Training" / "HGG" / case / stem / f"{stem}.mha"
            path.parent.mkdir(parents=True)
            sitk.WriteImage(image, str(path))
            originals[case, number] = image
    done = convert("brats", tmp_path / "BRATS2015_Training")
    assert done.code == 0 and "3 training cases of 2 patients" in done.out
    for (case, number), original in originals.items():
        file = f"labelsTr/{case}.nii.gz" if number == 4 else f"imagesTr/{case}_{number:04d}.nii.gz"
        written = sitk.ReadImage(str(done.folder / file))
        expected = mask_of([2, 1, 2, 3]).T if number == 4 else sitk.GetArrayFromImage(original)
        np.testing.assert_array_equal(sitk.GetArrayFromImage(written), expected)
        assert (written.GetSpacing(), written.GetOrigin(), written.GetDirection()) == (
            original.GetSpacing(), original.GetOrigin(), original.GetDirection())
    assert sorted(map(len, (fold["val"] for fold in done.splits))) == [1, 2]
    require_intact(done.folder)


def test_the_decathlon_s_task_is_reordered_to_the_same_channels(convert, tmp_path, nifti, noise, require_intact):
    task = tmp_path / "Task01_BrainTumour"
    for name in ("BRATS_001", "BRATS_002"):
        image = noise(*SHAPE, 4, dtype=np.int16)
        nifti(task / "imagesTr" / f"{name}.nii.gz", image)
        nifti(task / "labelsTr" / f"{name}.nii.gz", mask_of([1, 2, 3]))
    (task / "dataset.json").write_text(
        json.dumps({
            "name": "BRATS", "modality": {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"}, "test": [],
            "labels": {"0": "background", "1": "edema", "2": "non-enhancing tumor", "3": "enhancing tumour"},
            "training": [{"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"}
                         for name in ("BRATS_001", "BRATS_002")]
        }))
    done = convert("brats", task)
    for channel, frame in enumerate((1, 2, 3, 0)):
        np.testing.assert_array_equal(done.voxels(f"imagesTr/BRATS_002_{channel:04d}.nii.gz"), image[..., frame])
    np.testing.assert_array_equal(done.voxels("labelsTr/BRATS_002.nii.gz"), mask_of([1, 2, 3]))
    require_intact(done.folder)


def test_another_task_of_the_decathlon_is_sent_to_msd(convert, msd_task):
    done = convert("brats", msd_task)
    assert done.code == 2 and f"medsegdiff_convert msd -i {msd_task}" in done.err


def test_the_misnamed_mask_of_brats_2020_is_found(convert, brats):
    source = brats("2020", numbers=(354, 355))
    folder = source / "BraTS20_Training_355"
    (folder / "BraTS20_Training_355_seg.nii").rename(folder / "W39_1998.09.19_Segm.nii")
    assert convert("brats", source).files("labelsTr") == ["BraTS20_Training_354.nii.gz", "BraTS20_Training_355.nii.gz"]


def test_a_missing_mask_or_sequence_is_listed_and_validation_data_become_test_cases(convert, brats, nifti):
    source = brats("2021", numbers=(1, 2, 3))
    (source / "BraTS2021_00002" / "BraTS2021_00002_seg.nii.gz").unlink()
    (source / "BraTS2021_00003" / "BraTS2021_00003_t2.nii.gz").unlink()
    for part in ("t1", "t1ce", "t2", "flair"):
        nifti(source / "ValidationData" / "BraTS2021_00009" / f"BraTS2021_00009_{part}.nii.gz",
              np.ones(SHAPE, np.int16))
    done = convert("brats", source)
    assert done.code == 1
    assert "BraTS2021_00002: image without a mask: seg is missing" in done.out
    assert "BraTS2021_00003: a sequence is missing: t2" in done.out
    assert done.files("labelsTr") == ["BraTS2021_00001.nii.gz"] and len(done.files("imagesTs")) == 4


def test_a_label_that_the_edition_does_not_have_leaves_the_case_out(convert, brats, nifti):
    source = brats("2021")
    nifti(source / "BraTS2021_00000" / "BraTS2021_00000_seg.nii.gz", mask_of([1, 2, 3]))
    done = convert("brats", source)
    assert done.code == 1 and "BraTS2021_00000_seg.nii.gz holds the label 3, expected 0, 1, 2, 4" in done.out


def test_a_folder_without_any_sequence_is_refused_with_an_example(convert, tmp_path):
    (tmp_path / "other").mkdir()
    done = convert("brats", tmp_path / "other")
    assert done.code == 2 and "BraTS2021_00006_flair.nii.gz" in done.err


@pytest.mark.shared_data
def test_the_original_case_arrives_voxel_for_voxel(shared_data, convert):
    source = shared_data / "originals" / "BraTS2021"
    done = convert("brats", source)
    name = "BraTS2021_00006"
    for channel, part in enumerate(("t1", "t1ce", "t2", "flair")):
        original = source / name / f"{name}_{part}.nii.gz"
        written = done.folder / "imagesTr" / f"{name}_{channel:04d}.nii.gz"
        assert written.read_bytes() == original.read_bytes()
    original = sitk.ReadImage(str(source / name / f"{name}_seg.nii.gz"))
    written = sitk.ReadImage(str(done.folder / "labelsTr" / f"{name}.nii.gz"))
    codes = np.array([0, 2, 1, 255, 3], np.uint8)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(written), codes[sitk.GetArrayFromImage(original)])
    assert (written.GetSpacing(), written.GetOrigin(), written.GetDirection()) == (
        original.GetSpacing(), original.GetOrigin(), original.GetDirection())
    whole_ml = np.count_nonzero(sitk.GetArrayFromImage(original)) / 1000
    assert f"whole tumour: in 1 of 1 cases, median {whole_ml:.4g} ml" in done.out
