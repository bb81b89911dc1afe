"""Slices of a raw dataset: which one is taken, what a cell holds, and who is held out."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.explanation.slices import read_slices

NAMES = [f"case_{k}" for k in range(6)]


@pytest.fixture
def raw_folder(tmp_path):
    """Volumes of three slices of 4 x 4; the middle slice of case k has the most foreground and ends in k."""
    content = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "whole": [1, 2], "core": [2]},
               "regions_class_order": [1, 2], "numTraining": len(NAMES), "file_ending": ".nii.gz"}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    for folder in ("imagesTr", "labelsTr"):
        (tmp_path / folder).mkdir()
    for k, name in enumerate(NAMES):
        image, labels = np.zeros((3, 4, 4), np.float32), np.zeros((3, 4, 4), np.uint8)
        image[1] = np.arange(16).reshape(4, 4)
        image[1, 3, 3] = k
        labels[0, 0, 0] = 1
        labels[1, :2, :2], labels[1, 2, :2], labels[1, 3, 3] = 1, 2, 2
        sitk.WriteImage(sitk.GetImageFromArray(image), str(tmp_path / "imagesTr" / f"{name}_0000.nii.gz"))
        sitk.WriteImage(sitk.GetImageFromArray(labels), str(tmp_path / "labelsTr" / f"{name}.nii.gz"))
    return tmp_path


def test_a_cell_is_the_mean_of_the_slice_with_the_most_foreground_and_the_majority_of_its_mask(raw_folder):
    found = read_slices(raw_folder, side=2)
    cells = torch.tensor([[2.5, 4.5], [10.5, (10 + 11 + 14 + 3) / 4]])  # of case 3, before it is normalised
    assert torch.allclose(found.images[3, 0], (cells - cells.mean()) / cells.std(), atol=1e-6)
    assert found.masks[:, 0].tolist() == [[[1, 0], [1, 0]]] * 6  # four of four, none; two of four, one of four


def test_a_slice_that_is_smaller_is_interpolated(raw_folder):
    assert read_slices(raw_folder, side=8, num_cases=2).images.shape == (2, 1, 8, 8)
    assert read_slices(raw_folder, side=8).masks[0, 0, :4, :4].all()


def test_a_constant_channel_becomes_0(raw_folder):
    sitk.WriteImage(sitk.GetImageFromArray(np.full((3, 4, 4), 7, np.float32)),
                    str(raw_folder / "imagesTr" / "case_0_0000.nii.gz"))
    assert read_slices(raw_folder, side=2).images[0].tolist() == [[[0, 0], [0, 0]]]


def test_every_fifth_case_is_held_out_where_there_are_no_folds_and_the_first_fold_where_there_are(raw_folder):
    assert read_slices(raw_folder, side=2).held_out == [0, 5]
    (raw_folder / "splits_final.json").write_text(json.dumps([{"train": NAMES[:4], "val": NAMES[4:]}]))
    assert read_slices(raw_folder, side=2).held_out == [4, 5]


def test_a_folder_that_is_no_dataset_is_an_error_of_the_user(tmp_path):
    with pytest.raises(UserError, match="dataset.json"):
        read_slices(tmp_path, side=2)
