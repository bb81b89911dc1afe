"""A mask that is judged on the network's grid has the size that a prediction states on the image's."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from medsegdiff_auto.inference.predictor import CaseDistribution
from medsegdiff_auto.selection.drawn_cases import DrawnCase


@pytest.mark.parametrize("whole, cropped, on_network, spacing_mm, ending, expected", [
    ((10, 20, 30), (10, 20, 30), (10, 20, 30), (2.0, 1.0, 1.0), ".nii.gz", 0.002),  # ml
    ((10, 20, 30), (5, 10, 30), (10, 20, 30), (2.0, 1.0, 1.0), ".nii.gz", 0.0005),  # a quarter of a voxel in each
    ((1, 20, 30), (1, 20, 30), (1, 40, 30), (999.0, 0.5, 0.5), ".nii.gz", 0.125),  # mm2
    ((1, 20, 30), (1, 20, 30), (1, 20, 30), (999.0, 1.0, 1.0), ".png", 1.0)])  # pixels
def test_a_voxel_of_the_network_is_its_share_of_the_images(whole, cropped, on_network, spacing_mm, ending, expected):
    properties = {"spacing": spacing_mm, "shape_before_cropping": whole,
                  "shape_after_cropping_and_before_resampling": cropped}
    model = SimpleNamespace(plans_manager=SimpleNamespace(transpose_backward=[0, 1, 2]),
                            dataset_json={"file_ending": ending})
    case = DrawnCase("a", None, np.zeros(on_network), properties, model)
    assert case.voxel_size == pytest.approx(expected)


def test_one_slice_is_a_picture_whichever_axis_the_plan_has_put_first():
    properties = {"spacing": (999.0, 2.0, 0.5), "shape_before_cropping": (30, 1, 20),
                  "shape_after_cropping_and_before_resampling": (30, 1, 20)}
    model = SimpleNamespace(plans_manager=SimpleNamespace(transpose_backward=[1, 2, 0]),
                            dataset_json={"file_ending": ".nii.gz"})
    assert DrawnCase("a", None, np.zeros((30, 1, 20)), properties, model).voxel_size == pytest.approx(1.0)


def test_a_mask_is_judged_by_its_probabilities_at_the_temperature_its_size_samples_and_reference():
    organ = torch.zeros(1, 4, 4)
    organ[0, :2, :2], organ[0, 0, 2] = 0.9, 0.6
    p = torch.stack([1 - organ, organ])
    sample = torch.stack([(organ <= 0.8).float(), (organ > 0.8).float()])
    dataset_json = {"labels": {"background": 0, "organ": 1}, "file_ending": ".nii.gz"}
    model = SimpleNamespace(dataset_json=dataset_json, plans_manager=SimpleNamespace(
        transpose_backward=[0, 1, 2], get_label_manager=lambda _: LabelManager(dataset_json["labels"], None)))
    reference = np.zeros((1, 4, 4), np.uint8)
    reference[0, :2, :3] = 1
    case = DrawnCase("a", CaseDistribution(p, torch.stack([sample] * 3).half(), 0.5), reference,
                     {"spacing": (999.0, 2.0, 1.0), "shape_before_cropping": (1, 4, 4),
                      "shape_after_cropping_and_before_resampling": (1, 4, 4)}, model)
    (found,) = case.judged_masks(1 - 1e-9, 2.0)  # nearly the plain network alone
    tempered = 1 / (1 + np.exp(-np.log([9.0] * 4 + [1.5]) / 2))
    assert found.soft_dice == pytest.approx(2 * tempered.sum() / (5 + tempered.sum()), abs=1e-4)  # the rest is certain
    assert found.size == pytest.approx(5 * 2.0)
    assert found.from_samples == pytest.approx(2 * 4 / (5 + 4)) and found.dice == pytest.approx(2 * 5 / (5 + 6))
