"""What is relied on of nnU-Net's inside, checked against the one that is installed: plans, labels, sliding window."""

import itertools
import json
import math
from importlib.metadata import version
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from nnunetv2.inference import predict_from_raw_data

from medsegdiff_auto.diffusion.configuration import PLANS_KEY
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.nnunet.contract import CHECKED_AGAINST, require_checked_version
from medsegdiff_auto.nnunet.inheritance import DATA, NETWORK, holder, holders, network_arguments, resolved
from medsegdiff_auto.nnunet.managers import PlansManager, planned_network, previous_stage_channels
from medsegdiff_auto.nnunet.structures import structures_of
from medsegdiff_auto.nnunet.windows import gaussian_window, place_of

ARGUMENTS = {"n_stages": 2, "features_per_stage": [4, 8], "conv_op": "torch.nn.modules.conv.Conv2d",
             "kernel_sizes": [[3, 3]] * 2, "strides": [[1, 1], [2, 2]], "n_conv_per_stage": [1, 1],
             "n_conv_per_stage_decoder": [1], "conv_bias": True, "norm_op_kwargs": {"eps": 1e-5, "affine": True},
             "norm_op": "torch.nn.modules.instancenorm.InstanceNorm2d", "dropout_op": None, "dropout_op_kwargs": None,
             "nonlin": "torch.nn.LeakyReLU", "nonlin_kwargs": {"inplace": True}}
ARCHITECTURE = {"network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
                "arch_kwargs": ARGUMENTS,
                "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"]}
PLANS = {"dataset_name": "Dataset001_A", "plans_name": "p", "label_manager": "LabelManager", "configurations": {
    "base": {"data_identifier": "p_base", "architecture": ARCHITECTURE, "batch_size": 2, "spacing": [1.0, 1.0],
             "patch_size": [4, 8], PLANS_KEY: {"of": "base"}},
    "finer": {"inherits_from": "base", "data_identifier": "p_finer", "spacing": [0.5, 0.5]},
    "large_batch": {"inherits_from": "finer", "batch_size": 9, "previous_stage": "base"}}}
CLASSES = {"labels": {"background": 0, "organ": 1, "lesion": 2}}
REGIONS = {"labels": {"background": 0, "organ": [1, 2], "lesion": 2, "other": 3}, "regions_class_order": [1, 2, 3]}


def test_the_installed_nnunet_is_the_one_that_was_checked_against():
    assert version("nnunetv2") == CHECKED_AGAINST, "where these tests pass with another one, CHECKED_AGAINST names it"
    require_checked_version()


@pytest.mark.parametrize("installed, is_accepted", [("2.8.0", True), ("2.8.12", True), ("2.9.0", False),
                                                    ("2.7.3", False), ("3.8.1", False)])
def test_another_minor_version_is_refused_by_name(installed, is_accepted):
    if is_accepted:
        require_checked_version(installed)
        return
    with pytest.raises(UserError) as refusal:
        require_checked_version(installed)
    assert refusal.value.found == f"nnunetv2 {installed}" and CHECKED_AGAINST in refusal.value.fix


@pytest.mark.parametrize("name", PLANS["configurations"])
def test_a_configuration_inherits_as_in_nnunet_over_two_steps(name):
    theirs = PlansManager(PLANS).get_configuration(name).configuration
    assert resolved(PLANS, name) == theirs
    for key in set(theirs) - {"inherits_from"}:
        assert PLANS["configurations"][holder(PLANS, name, key)][key] == theirs[key]


def test_data_and_network_belong_to_the_nearest_configuration_that_states_them():
    assert holder(PLANS, "large_batch", DATA) == "finer" and holder(PLANS, "large_batch", NETWORK) == "base"
    assert holders(PLANS, DATA) == ["base", "finer"] and holders(PLANS, NETWORK) == ["base"]
    assert resolved(PLANS, "large_batch")["spacing"] == [0.5, 0.5] and resolved(PLANS, "large_batch")["batch_size"] == 9


def test_nnunet_keeps_the_keys_of_a_configuration_that_it_does_not_know(tmp_path):
    file = tmp_path / "plans.json"
    file.write_text(json.dumps(PLANS))
    manager = PlansManager(str(file)).get_configuration("large_batch")
    assert manager.configuration[PLANS_KEY] == {"of": "base"}
    assert manager.data_identifier == "p_finer" and manager.previous_stage_name == "base"


def test_the_planned_network_has_the_stated_arguments_and_one_output():
    section = PLANS["configurations"]["base"]
    network = planned_network(section, num_inputs=2, num_outputs=3)
    assert network_arguments(section) is ARGUMENTS and network_arguments({}) == {}
    assert [list(stride) for stride in network.encoder.strides] == ARGUMENTS["strides"]
    assert list(network.encoder.output_channels) == ARGUMENTS["features_per_stage"]
    assert network(torch.zeros(1, 2, 8, 8)).shape == (1, 3, 8, 8)


@pytest.mark.parametrize("dataset_json", [CLASSES, REGIONS], ids=["classes", "regions"])
def test_structures_and_their_channels_are_those_that_nnunet_decodes(dataset_json):
    labels, structures = PlansManager(PLANS).get_label_manager(dataset_json), structures_of(dataset_json)
    keys = labels.foreground_regions if labels.has_regions else labels.foreground_labels
    assert [structure.key for structure in structures] == list(keys)
    for structure in structures:
        probabilities = np.full((labels.num_segmentation_heads, 1, 1, 1), 0.1, np.float32)
        probabilities[structure.channel] = 0.9
        assert structure.mask(labels.convert_probabilities_to_segmentation(probabilities)).all()


def test_the_first_stage_comes_as_one_channel_per_foreground_label():
    labels = PlansManager(PLANS).get_label_manager(CLASSES)
    found = previous_stage_channels(np.array([[0, 1, 2], [2, 2, 0]]), labels, np.float32)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, [[[0, 1, 0], [0, 0, 0]], [[0, 0, 1], [1, 1, 0]]])


def predictor(patch_size):
    one = predict_from_raw_data.nnUNetPredictor(device=torch.device("cpu"), perform_everything_on_device=False,
                                                allow_tqdm=False)
    one.configuration_manager = SimpleNamespace(patch_size=list(patch_size))
    one.label_manager, one.allowed_mirroring_axes = SimpleNamespace(num_segmentation_heads=1), None
    one.network = torch.nn.Identity()
    return one


def test_2d_slicers_are_the_channels_then_the_number_of_a_slice_then_its_patch():
    slicers = predictor((4, 8))._internal_get_sliding_window_slicers((2, 6, 8))
    assert slicers == [(slice(None), depth, slice(y, y + 4), slice(0, 8)) for depth in (0, 1) for y in (0, 2)]
    assert [place_of(slicer) for slicer in slicers[1:3]] == [(slice(0, 1), slice(2, 6), slice(0, 8)),
                                                             (slice(1, 2), slice(0, 4), slice(0, 8))]


def test_3d_slicers_are_the_channels_then_the_patch():
    slicers = predictor((2, 4, 8))._internal_get_sliding_window_slicers((3, 4, 14))
    places = [(slice(z, z + 2), slice(0, 4), slice(x, x + 8)) for z, x in itertools.product((0, 1), (0, 3, 6))]
    assert slicers == [(slice(None), *place) for place in places] and [place_of(slicer) for slicer in slicers] == places


@pytest.mark.parametrize("patch_size", [(6, 10), (4, 6, 10)])
def test_the_window_is_the_one_that_nnunets_predictor_blends_with(patch_size, monkeypatch):
    seen, original = [], predict_from_raw_data.compute_gaussian
    monkeypatch.setattr(predict_from_raw_data, "compute_gaussian", lambda *args, **options: seen.append(
        original(*args, **options)) or seen[-1])
    one, image = predictor(patch_size), torch.ones(1, *[1] * (3 - len(patch_size)), *patch_size)
    slicers = one._internal_get_sliding_window_slicers(tuple(image.shape[1:]))
    one._internal_predict_sliding_window_return_logits(image, slicers, False)
    torch.testing.assert_close(gaussian_window(patch_size), seen[0].float(), rtol=1e-3, atol=1e-3)  # theirs is float16


def test_the_window_is_ten_in_the_middle_and_a_gaussian_of_an_eighth_of_the_patch():
    window, centre = gaussian_window((16, 32)), (8, 16)
    assert window.dtype == torch.float32 and window.max() == window[centre] == 10 and window.min() > 0
    for dy, dx in ((0, 4), (2, 0), (-3, 5)):
        expected = 10 * math.exp(-0.5 * ((dy / 2) ** 2 + (dx / 4) ** 2))
        assert window[centre[0] + dy, centre[1] + dx] == pytest.approx(expected, rel=1e-5)
