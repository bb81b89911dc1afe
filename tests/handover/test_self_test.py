"""The phantom is the same everywhere, and an answer that is another model's is refused."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save
from small_model import KEPT

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.handover.self_test import Answer, answer_of, phantom, read_answer, require_same_answer
from medsegdiff_auto.inference.model import load_model
from medsegdiff_auto.nnunet.managers import PlansManager, determine_num_input_channels
from medsegdiff_auto.nnunet.plans import diffusion_configuration
from medsegdiff_auto.training.trainer import nnUNetTrainerMedSegDiff


@pytest.fixture(scope="module")
def model():
    return load_model(KEPT)


@pytest.fixture(scope="module")
def answer(model) -> Answer:
    return answer_of(model)


@pytest.mark.parametrize("shape, digest", [((1, 32, 32), "fd40"), ((9, 16, 12), "f912")])
def test_the_phantom_is_this_one_on_every_machine(shape, digest):
    image = phantom(2, shape)
    assert image.shape == (2, *shape) and image.dtype == np.float32
    assert image.min() == -2 and image.max() == 2 and np.abs(np.corrcoef(image[0].ravel(), image[1].ravel())[0, 1]) < .5
    neighbours = np.corrcoef(image[0, :, 1:].ravel(), image[0, :, :-1].ravel())[0, 1]
    assert neighbours > 0.6, "smooth enough for a network to see structures"
    assert hashlib.sha256(image.tobytes()).hexdigest()[:4] == digest


def test_a_model_answers_itself_and_sees_more_than_background(model, answer):
    assert len(np.unique(answer.label_map)) > 1
    assert sum(answer.facts.mean_probabilities) == pytest.approx(1, abs=1e-5)
    assert require_same_answer(model, answer) == "as when it was exported, in all 1024 voxels"


def test_a_voxel_of_another_processor_is_named_and_a_hundred_are_refused(model, answer):
    def with_changed(count: int) -> Answer:
        label_map = answer.label_map.copy()
        label_map.ravel()[:count] = (label_map.ravel()[:count] + 1) % 3
        assert (label_map != answer.label_map).sum() == count
        return Answer(label_map, replace(answer.facts, labels=64 * "0"))

    assert require_same_answer(model, with_changed(1)).startswith("as when it was exported but for 1 of 1024 voxels")
    with pytest.raises(UserError) as refused:
        require_same_answer(model, with_changed(100))
    assert refused.value.found.startswith("100 of 1024 voxels differ")


def test_weights_of_one_part_in_a_hundred_more_are_refused_even_where_the_mask_stays(model, answer):
    means = [value + sign * 0.002 for value, sign in zip(answer.facts.mean_probabilities, (1, -1, 0))]
    with pytest.raises(UserError, match="0 of 1024 voxels differ, mean probabilities by 0.002"):
        require_same_answer(model, replace(answer, facts=replace(answer.facts, mean_probabilities=means)))


def test_another_phantom_cannot_be_compared(model, answer):
    with pytest.raises(UserError, match="phantom of the self-test is another one"):
        require_same_answer(model, replace(answer, facts=replace(answer.facts, image=64 * "1")))


@pytest.mark.parametrize("text, labels", [(b"{}", torch.zeros(1, dtype=torch.int32)), (b"[", torch.zeros(1)),
                                          (b'{"image": 1}', torch.zeros(1, dtype=torch.int32))])
def test_a_damaged_answer_is_named(text, labels):
    with pytest.raises(UserError, match="self-test of the model cannot be read"):
        read_answer(text, save({"labels": labels}))


@pytest.mark.parametrize("kind", ["cascade", "regions"])
def test_a_cascade_gets_a_first_stage_and_regions_their_own_masks(kind, model):
    """Networks that were not trained."""
    plans, dataset_json = (json.loads((KEPT / name).read_text(encoding="utf-8")) for name in (
        "plans.json", "dataset.json"))
    if kind == "cascade":
        plans["configurations"]["2d"]["previous_stage"] = "2d"
    else:
        plans["configurations"]["2d"]["diffusion"]["target"] = "regions"
        dataset_json |= {"labels": {"background": 0, "whole": [1, 2], "lesion": [2]}, "regions_class_order": [1, 2]}
    plans_manager = PlansManager(plans)
    configuration, labels = plans_manager.get_configuration("2d"), plans_manager.get_label_manager(dataset_json)
    num_inputs = determine_num_input_channels(plans_manager, configuration, dataset_json)
    assert num_inputs == (3 if kind == "cascade" else 1)
    torch.manual_seed(0)
    network = nnUNetTrainerMedSegDiff.build_network_architecture(plans_manager, configuration, num_inputs,
                                                                 labels.num_segmentation_heads, False)
    other = replace(model, plans_manager=plans_manager, configuration_manager=configuration, network=network,
                    dataset_json=dataset_json, fold_weights=[network.state_dict()],
                    diffusion=diffusion_configuration(configuration))
    answer = answer_of(other)
    assert len(answer.facts.mean_probabilities) == (3 if kind == "cascade" else 2)
    assert answer.label_map.shape == (1, 32, 32) and set(np.unique(answer.label_map)) <= {0, 1, 2}
    assert require_same_answer(other, answer).endswith("in all 1024 voxels")
    assert (answer.facts.image == answer_of(model).facts.image) is (kind == "regions")
