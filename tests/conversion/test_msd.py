"""The Decathlon: voxels, geometry, channels, test images, and a task that is not one."""

import json
import shutil

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk


def edit(task, **changes):
    content = json.loads((task / "dataset.json").read_text(encoding="utf-8"))
    (task / "dataset.json").write_text(
        json.dumps({key: value
                    for key, value in (content | changes).items() if value is not None}))


def geometry(path, num_axes=3):
    """Spacing, origin and direction of the first axes, as the reader of nnU-Net sees them, to the last bit."""
    image = sitk.ReadImage(str(path))
    direction = np.reshape(image.GetDirection(), (image.GetDimension(),) * 2)[:num_axes, :num_axes]
    return image.GetSpacing()[:num_axes], image.GetOrigin()[:num_axes], direction.tolist()


def test_every_sequence_becomes_a_channel_with_the_same_voxels_and_geometry(convert, msd_task, require_intact):
    done = convert("msd", msd_task)
    for number in range(6):
        original = nib.load(msd_task / "imagesTr" / f"tiny_{number}.nii.gz")
        for channel in range(2):
            file = done.folder / "imagesTr" / f"tiny_{number}_{channel:04d}.nii.gz"
            written = nib.load(file)
            np.testing.assert_array_equal(np.asanyarray(written.dataobj), np.asanyarray(original.dataobj)[..., channel])
            np.testing.assert_array_equal(written.affine, original.affine)
            assert written.get_data_dtype() == np.int16
            assert geometry(file) == geometry(msd_task / "labelsTr" / f"tiny_{number}.nii.gz")
        label = f"labelsTr/tiny_{number}.nii.gz"
        assert (done.folder / label).read_bytes() == (msd_task / label).read_bytes()
    assert done.files("imagesTs") == ["tiny_9_0000.nii.gz", "tiny_9_0001.nii.gz"]
    assert done.description["channel_names"] == {"0": "T2", "1": "ADC"}
    assert done.description["labels"] == {"background": 0, "PZ": 1, "TZ": 2}
    require_intact(done.folder)


def test_labels_with_a_gap_are_renumbered(convert, msd_task, require_intact):
    edit(msd_task, labels={"0": "background", "1": "PZ", "2": "TZ", "5": "tumour"})
    path = msd_task / "labelsTr" / "tiny_0.nii.gz"
    voxels = np.where(np.asanyarray(nib.load(path).dataobj) == 1, 5, 0).astype(np.uint8)
    nib.save(nib.Nifti1Image(voxels, nib.load(path).affine), path)
    done = convert("msd", msd_task)
    np.testing.assert_array_equal(done.voxels("labelsTr/tiny_0.nii.gz"), np.where(voxels == 5, 3, 0))
    assert done.description["labels"]["tumour"] == 3
    require_intact(done.folder)


def test_a_label_that_the_task_does_not_have_leaves_the_case_out(convert, msd_task):
    edit(msd_task, labels={"0": "background", "1": "PZ"})
    done = convert("msd", msd_task)
    assert done.code == 2 and "holds the label 2, expected 0, 1" in done.err


def test_a_listed_file_that_is_missing_is_reported_by_its_path(convert, msd_task):
    (msd_task / "labelsTr" / "tiny_1.nii.gz").unlink()
    done = convert("msd", msd_task)
    assert done.code == 1
    assert "tiny_1: labelsTr/tiny_1.nii.gz is listed in dataset.json, but missing" in done.out


@pytest.mark.parametrize("removed", ["dataset.json", "imagesTr", "labelsTr"])
def test_a_folder_of_another_layout_is_refused_with_the_file_that_is_missing(convert, msd_task, removed):
    (msd_task / removed).rename(msd_task / "aside")
    done = convert("msd", msd_task)
    assert done.code == 2 and done.err.splitlines()[0].split(": ")[-1].startswith(removed)


def test_the_folder_above_the_task_is_refused_with_the_task_as_suggestion(convert, msd_task):
    done = convert("msd", msd_task.parent)
    assert done.code == 2 and f"did you mean {msd_task}?" in done.err


def test_a_dataset_in_nnunet_s_own_format_is_refused_as_no_task(convert, msd_task):
    edit(msd_task, modality=None)
    done = convert("msd", msd_task)
    assert done.code == 2 and "found:    no modality" in done.err


@pytest.mark.shared_data
def test_hippocampus_as_the_decathlon_distributes_it_gives_the_known_dataset(shared_data, convert, tmp_path,
                                                                             require_intact):
    known = shared_data / "Dataset004_Hippocampus"
    task, names = tmp_path / "Task04_Hippocampus", [
        path.name.removesuffix(".nii.gz") for path in sorted((known / "labelsTr").iterdir())[:12]
    ]
    for folder in ("imagesTr", "labelsTr"):
        (task / folder).mkdir(parents=True)
    for name in names:
        (task / "imagesTr" / f"{name}.nii.gz").symlink_to(known / "imagesTr" / f"{name}_0000.nii.gz")
        (task / "labelsTr" / f"{name}.nii.gz").symlink_to(known / "labelsTr" / f"{name}.nii.gz")
    (task / "dataset.json").write_text(json.dumps({
        "name": "Hippocampus", "release": "1.0 04/05/2018", "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "Anterior", "2": "Posterior"}, "test": [],
        "training": [{"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name in names]}))
    done = convert("msd", task)
    assert done.code == 0 and done.description["labels"] == {"background": 0, "Anterior": 1, "Posterior": 2}
    for name in names:
        for file in (f"imagesTr/{name}_0000.nii.gz", f"labelsTr/{name}.nii.gz"):
            np.testing.assert_array_equal(done.voxels(file), np.asanyarray(nib.load(known / file).dataobj))
            assert geometry(done.folder / file) == geometry(known / file)
    require_intact(done.folder)


def test_an_image_that_the_task_does_not_list_is_named(convert, msd_task):
    for name in ("extra.nii.gz", "._tiny_0.nii.gz"):
        shutil.copy(msd_task / "imagesTr" / "tiny_0.nii.gz", msd_task / "imagesTr" / name)
    (msd_task / "notes.txt").write_text("no image")
    done = convert("msd", msd_task)
    assert done.code == 0 and "left out: 1" in done.out and "imagesTr/extra.nii.gz: no case takes it" in done.out
    assert done.description["provenance"]["left_out"] == [
        {"name": "imagesTr/extra.nii.gz", "reason": "no case takes it"}]
