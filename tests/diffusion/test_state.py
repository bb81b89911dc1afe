"""Masks as states and back."""

import pytest
import torch

from medsegdiff_auto.diffusion.state import (logits_from_probabilities, probabilities_from_logits,
                                             probabilities_from_state, state_from_labels, state_from_probabilities,
                                             state_from_regions)

SPATIAL = [(4, 5), (3, 4, 2)]
DIMENSIONS = ["2-D", "3-D"]


@pytest.mark.parametrize("spatial", SPATIAL, ids=DIMENSIONS)
def test_the_largest_channel_of_a_state_is_the_label(spatial):
    labels = torch.randint(0, 4, (2, 1, *spatial), generator=torch.Generator().manual_seed(0))
    state = state_from_labels(labels.float(), 4)
    assert torch.equal(state.argmax(1, keepdim=True), labels)
    assert torch.equal(state.sum(1), torch.full((2, *spatial), 1.0 - 3.0))
    assert set(state.unique().tolist()) == {-1.0, 1.0}


@pytest.mark.parametrize("spatial", SPATIAL, ids=DIMENSIONS)
def test_ignored_voxels_are_zero_in_every_class_and_the_others_unchanged(spatial):
    labels = torch.randint(0, 3, (2, 1, *spatial), generator=torch.Generator().manual_seed(1))
    ignored = torch.rand(2, 1, *spatial, generator=torch.Generator().manual_seed(2)) < 0.3
    state = state_from_labels(labels.masked_fill(ignored, 3), 3, ignore_label=3)
    assert torch.equal(state == 0, ignored.expand_as(state))
    assert torch.equal(state.masked_fill(ignored, 0.0), state_from_labels(labels, 3).masked_fill(ignored, 0.0))


@pytest.mark.parametrize("spatial", SPATIAL, ids=DIMENSIONS)
def test_region_states_give_the_overlapping_regions_back(spatial):
    regions = (torch.rand(2, 3, *spatial, generator=torch.Generator().manual_seed(3)) < 0.5).float()
    assert torch.equal(probabilities_from_state(state_from_regions(regions), "regions"), regions)


@pytest.mark.parametrize("spatial", SPATIAL, ids=DIMENSIONS)
def test_ignored_voxels_are_zero_in_every_region(spatial):
    regions = torch.ones(2, 3, *spatial)
    ignored = torch.rand(2, 1, *spatial, generator=torch.Generator().manual_seed(4)) < 0.5
    assert torch.equal(state_from_regions(regions, ignored.float()), (~ignored).float().expand_as(regions))


@pytest.mark.parametrize("target", ["classes", "regions"])
def test_probabilities_survive_the_way_through_logits(target):
    values = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(5)) + 1e-3
    probabilities = values / values.sum(1, keepdim=True) if target == "classes" else values.clamp(max=1)
    found = probabilities_from_logits(logits_from_probabilities(probabilities, target), target)
    assert torch.allclose(found, probabilities, atol=3e-6, rtol=0)


@pytest.mark.parametrize("target", ["classes", "regions"])
def test_certain_voxels_keep_logits_that_half_precision_sums_can_hold(target):
    logits = logits_from_probabilities(torch.tensor([0.0, 1.0]).reshape(1, 2, 1, 1), target)
    assert logits.isfinite().all() and logits.abs().max() < 14
    certain = probabilities_from_logits(logits, target).flatten().tolist()
    assert certain == pytest.approx([0.0, 1.0], abs=2e-6)


def test_probabilities_survive_the_way_through_the_expected_state():
    probabilities = torch.tensor([0.2, 0.5, 0.3]).reshape(1, 3, 1, 1)
    state = state_from_probabilities(probabilities)
    assert state.flatten().tolist() == pytest.approx([-0.6, 0.0, -0.4])
    assert torch.allclose(probabilities_from_state(state, "classes"), probabilities, atol=3e-6)


def test_a_predicted_state_beyond_its_range_is_clipped_and_normalised():
    x_start = torch.tensor([3.0, 0.0, -7.0]).reshape(1, 3, 1, 1)
    assert probabilities_from_state(x_start, "classes").flatten().tolist() == pytest.approx([2 / 3, 1 / 3, 0], abs=3e-6)
    assert probabilities_from_state(x_start, "regions").flatten().tolist() == [1.0, 0.5, 0.0]
