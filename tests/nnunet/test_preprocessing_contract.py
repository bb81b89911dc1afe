"""What nnU-Net's readers, preprocessing and dataset folder leave of a case, checked against the installed nnU-Net."""

from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nnunetv2.imageio.nibabel_reader_writer import NibabelIO, NibabelIOWithReorient
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from skimage import io

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.files.scans import read_scan
from medsegdiff_auto.nnunet.dataset_files import (NUM_FOLDS, SPLITS_FILE, image_file, is_divisible, labels_file,
                                                  next_stage_folder, properties_file, read_splits)
from medsegdiff_auto.nnunet.managers import PlansManager
from medsegdiff_auto.nnunet.preprocessed import read_cases, require_data_folder
from medsegdiff_auto.nnunet.properties import LONE_SLICE, crop_of, cropped_shape, header_of, spacing_of, whole_shape
from medsegdiff_auto.nnunet.readers import find_reader
from medsegdiff_auto.nnunet.resampling import in_plan_order, network_shape, network_spacing

SHAPE, SPACING = (6, 9, 7), (2.0, 1.0, 1.5)  # z, y, x
OWN = (1.0, 1.5, 2.0)  # the same in the plan's order
BOX = (slice(1, 5), slice(2, 9), slice(0, 6))  # of what is not 0, (z, y, x)
DATASET = {"labels": {"background": 0, "organ": 1}, "channel_names": {"0": "image"}, "file_ending": ".nii.gz"}
HOW = {"order": 1, "order_z": 0, "force_separate_z": None}
RESAMPLING = {f"resampling_fn_{what}": "resample_data_or_seg_to_shape" for what in ("data", "seg")}
RESAMPLING |= {f"resampling_fn_{what}_kwargs": HOW | {"is_seg": what == "seg"} for what in ("data", "seg")}


def managers(spacing):
    configuration = {"architecture": {}, "preprocessor_name": "DefaultPreprocessor", "spacing": list(spacing),
                     "patch_size": [4] * len(spacing), "normalization_schemes": ["NoNormalization"],
                     "use_mask_for_norm": [False], **RESAMPLING}
    plans = PlansManager({"plans_name": "p", "transpose_forward": [1, 2, 0], "transpose_backward": [2, 0, 1],
                          "label_manager": "LabelManager", "image_reader_writer": "SimpleITKIO",
                          "foreground_intensity_properties_per_channel": {"0": {}},
                          "configurations": {"planned": configuration}})
    return plans, plans.get_configuration("planned")


def voxels(box=BOX):
    array = np.zeros(SHAPE, np.float32)
    array[box] = np.random.default_rng(0).uniform(1, 2, array[box].shape)
    return array


@pytest.fixture
def case(tmp_path):
    files = {"image": voxels(), "label": (voxels() > 1.5).astype(np.uint8)}
    for name, array in files.items():
        image = sitk.GetImageFromArray(array)
        image.SetSpacing(SPACING[::-1])
        image.SetOrigin((5.0, -6.0, 7.0))
        sitk.WriteImage(image, tmp_path / f"{name}.nii.gz")
    return SimpleNamespace(image=str(tmp_path / "image.nii.gz"), label=str(tmp_path / "label.nii.gz"), folder=tmp_path)


def run_case(case, spacing):
    plans, configuration = managers(spacing)
    return DefaultPreprocessor(verbose=False).run_case([case.image], case.label, plans, configuration, DATASET)


def preprocessed(case):
    """The folder of the case, named a, as it is resampled to its own spacing."""
    plans, configuration = managers(OWN)
    folder = case.folder / "p_planned"
    folder.mkdir()
    DefaultPreprocessor(verbose=False).run_case_save(str(folder / "a"), [case.image], case.label, plans, configuration,
                                                     DATASET)
    return folder


def test_properties_say_spacing_and_crop_and_the_crop_is_what_the_network_sees(case):
    data, _, properties = run_case(case, OWN)
    assert spacing_of(properties) == list(SPACING)
    assert whole_shape(properties) == (9, 7, 6) and cropped_shape(properties) == (7, 6, 4)
    assert crop_of(properties) == (BOX[1], BOX[2], BOX[0])
    np.testing.assert_array_equal(data[0], voxels().transpose(1, 2, 0)[crop_of(properties)])


@pytest.mark.parametrize("planned", [(1.0, 1.0, 1.0), (0.7, 2.0, 2.6), (0.5, 3.0)], ids=["3d", "3d anisotropic", "2d"])
def test_the_shape_on_the_networks_grid_is_known_beforehand(case, planned):
    plans, configuration = managers(planned)
    whole = sitk.GetImageFromArray(voxels(np.s_[:]))
    whole.SetSpacing(SPACING[::-1])
    sitk.WriteImage(whole, case.image)
    data, _, _ = run_case(case, planned)
    assert network_shape(SHAPE, SPACING, plans, configuration) == data.shape[1:]


def test_a_2d_plan_keeps_the_spacing_between_its_slices():
    plans, configuration = managers((0.5, 3.0))
    assert in_plan_order(SPACING, plans) == list(OWN)
    assert network_spacing(OWN, configuration) == [1.0, 0.5, 3.0]


def test_a_lone_slice_is_so_far_from_the_next_as_the_readers_make_up(tmp_path):
    image = sitk.GetImageFromArray(np.ones((4, 5), np.float32))
    image.SetSpacing((0.5, 0.25))
    sitk.WriteImage(image, tmp_path / "flat.mha")
    io.imsave(tmp_path / "flat.png", np.ones((4, 5), np.uint8), check_contrast=False)
    for name, ending, expected in (("flat.mha", ".mha", [LONE_SLICE * 0.5, 0.25, 0.5]),
                                   ("flat.png", ".png", [LONE_SLICE, 1, 1])):
        reader = find_reader(DATASET | {"file_ending": ending}, [tmp_path / name])
        _, properties = reader.read_images((str(tmp_path / name),))
        assert spacing_of(properties) == expected


def test_the_reader_of_a_file_ending_is_nnunets(case):
    assert isinstance(find_reader(DATASET, [case.folder / "image.nii.gz"]), SimpleITKIO)
    with pytest.raises(RuntimeError):
        find_reader(DATASET | {"file_ending": ".xyz"}, [])


def test_simpleitks_reader_remembers_spacing_origin_and_direction(case):
    header = header_of(SimpleITKIO().read_images((case.image,))[1])
    assert header.affine is None and header.itk == ((1.5, 1.0, 2.0), (5.0, -6.0, 7.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))


@pytest.mark.parametrize("reader", [NibabelIO, NibabelIOWithReorient])
def test_nibabels_affine_leads_from_indices_of_the_array_to_mm(case, reader):
    flipped = nibabel.load(case.image).as_reoriented([[1, -1], [0, 1], [2, 1]])  # axes y, x, z, the first one turned
    nibabel.save(flipped, case.image)
    array, properties = reader().read_images((case.image,))
    header = header_of(properties)
    assert header.itk is None
    z, y, x = np.unravel_index(array[0].argmax(), array[0].shape)
    expected = np.unravel_index(voxels().argmax(), SHAPE)[::-1] * np.array([1.5, 1.0, 2.0]) + (5.0, -6.0, 7.0)
    np.testing.assert_allclose((header.affine @ (x, y, z, 1))[:3], expected * (-1, -1, 1), atol=1e-5)  # RAS
    geometry = read_scan(case.folder / "image.nii.gz", reader(), "image").geometry
    assert geometry.size == array.shape[:0:-1]
    np.testing.assert_allclose(geometry.affine, header.affine)


def test_a_preprocessed_case_lies_under_the_names_that_nnunet_reads_and_is_read_as_it_was_written(case):
    folder = preprocessed(case)
    assert {image_file(folder, "a"), labels_file(folder, "a"), properties_file(folder, "a")} == set(folder.iterdir())
    assert infer_dataset_class(str(folder)).get_identifiers(str(folder)) == ["a"]
    [found] = read_cases(folder, ["a"])
    at = crop_of(found.properties)
    np.testing.assert_array_equal(found.image, voxels().transpose(1, 2, 0)[at][None])
    np.testing.assert_array_equal(found.reference, (voxels() > 1.5).transpose(1, 2, 0)[at])
    assert found.name == "a" and found.previous is None


def test_what_nnunet_marks_as_outside_is_background(case):
    for file in (case.image, case.label):
        image = sitk.ReadImage(file)
        image[0, 2, 1] = 0  # a corner of the box
        sitk.WriteImage(image, file)
    folder = preprocessed(case)
    labels = infer_dataset_class(str(folder))(str(folder), ["a"]).load_case("a")[1]
    assert np.asarray(labels[:])[0].min() == -1 and next(read_cases(folder, ["a"])).reference.min() == 0


def test_nnunets_default_split_has_the_folds_that_are_expected_of_it(tmp_path):
    (tmp_path / "data").mkdir(), (tmp_path / "gt_segmentations").mkdir()
    names = [f"case_{number}" for number in range(NUM_FOLDS)]
    for name in names:
        image_file(tmp_path / "data", name).touch()
        (tmp_path / "gt_segmentations" / f"{name}.nii.gz").touch()
    assert is_divisible(tmp_path) and not (tmp_path / SPLITS_FILE).exists()
    with pytest.raises(UserError):
        require_data_folder(tmp_path, "data")
    trainer = SimpleNamespace(dataset_class=None, preprocessed_dataset_folder=str(tmp_path / "data"), fold=1,
                              preprocessed_dataset_folder_base=str(tmp_path), folder_with_segs_from_previous_stage=None,
                              print_to_log_file=lambda *words: None)
    train, val = nnUNetTrainer.do_split(trainer)
    splits = read_splits(tmp_path)
    assert len(splits) == NUM_FOLDS and splits[1] == {"train": list(train), "val": list(val)}
    assert sorted(case for split in splits for case in split["val"]) == names
    assert require_data_folder(tmp_path, "data") == tmp_path / "data"


def test_the_second_stage_reads_the_first_where_nnunet_looks_for_it(tmp_path, monkeypatch):
    for name in ("nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(name, str(tmp_path))
    low = {"architecture": {}, "patch_size": [4, 4], "data_identifier": "low", "batch_size": 2, "batch_dice": True}
    plans = {"dataset_name": "Dataset001_A", "plans_name": "p", "label_manager": "LabelManager",
             "continue_training": False,
             "configurations": {"3d_lowres": low, "cascade": low | {"previous_stage": "3d_lowres"}}}
    trainer = nnUNetTrainer(plans, "cascade", 0, DATASET, torch.device("cpu"))
    first = tmp_path / "Dataset001_A" / "nnUNetTrainer__p__3d_lowres"
    assert trainer.folder_with_segs_from_previous_stage == str(next_stage_folder(first, "cascade"))
