"""What nnU-Net's own prediction gets from the network."""

import pytest
import torch
from tiny_networks import (ANISOTROPIC, STATE, LATENT, PRESETS, random_image, random_state, randomised,
                           tiny_network)

from medsegdiff_auto.diffusion.state import probabilities_from_logits
from medsegdiff_auto.tables import SOLVERS

CASES = [(2, None, (8, 12)), (3, ANISOTROPIC, (2, 12, 8))]


@pytest.fixture(params=PRESETS.values(), ids=PRESETS)
def preset(request):
    return request.param


def trained(dimension, configuration, strides=None):
    return randomised(tiny_network(dimension, configuration, strides=strides)).eval()


@torch.no_grad()
@pytest.mark.parametrize("dimension, strides, size", CASES, ids=str)
def test_the_softmax_of_the_output_sums_to_one_and_keeps_the_probabilities(preset, dimension, strides, size):
    network = trained(dimension, preset, strides)
    logits = network(random_image(*size))
    assert torch.allclose(logits.exp().sum(1), torch.ones(2, *size), atol=1e-5)
    assert logits.abs().max() < 14


@torch.no_grad()
@pytest.mark.parametrize("dimension, strides, size", CASES, ids=str)
def test_the_same_image_gives_the_same_voxels_again(preset, dimension, strides, size):
    network, image = trained(dimension, preset, strides), random_image(*size)
    first = network(image)
    torch.manual_seed(1234)
    assert torch.equal(network(image), first)


@torch.no_grad()
@pytest.mark.parametrize("solver", SOLVERS.names())
def test_a_tile_gives_the_same_voxels_alone_and_in_any_batch(preset, solver):
    network = trained(2, preset.changed(solver=solver))
    image = random_image(8, 12, batch_size=3)
    together = network(image).softmax(1)
    for k in range(3):
        assert torch.allclose(network(image[k:k + 1]).softmax(1)[0], together[k], atol=1e-4)
    assert torch.allclose(network(image.flip(0)).softmax(1), together.flip(0), atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("target", ["classes", "regions"])
def test_an_untrained_network_fuses_to_the_conditioner(target):
    network, image = tiny_network(2, STATE.changed(target=target)).eval(), random_image(8, 12)
    plain = probabilities_from_logits(network.condition(image).logits[0], target)
    assert torch.allclose(probabilities_from_logits(network(image), target), plain, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("weight", [0.0, 0.3, 0.9])
def test_regions_are_fused_with_the_weight_of_the_plan(preset, weight):
    network = trained(2, preset.changed(target="regions", conditioner_weight=weight))
    image = random_image(8, 12)
    condition = network.condition(image)
    plain = network.conditioner_probabilities(condition)
    drawn = (network(image).sigmoid() - weight * plain)
    assert -1e-5 < drawn.min() / (1 - weight) and drawn.max() / (1 - weight) < 1 + 1e-5
    assert drawn.std() > 0.01 * (1 - weight)


@torch.no_grad()
def test_other_noise_gives_another_mask(preset):
    network = trained(2, preset)
    condition = network.condition(random_image(8, 12))
    first, second = (network.sample_probabilities(condition, random_state(8, 12, seed=seed)) for seed in (5, 6))
    assert (first - second).abs().max() > 1e-3


@torch.no_grad()
def test_where_the_mean_of_all_samples_is_known_it_takes_the_place_of_a_sample():
    configuration = LATENT.changed(sees_state=False, num_steps=1)
    network, image = randomised(tiny_network(2, configuration)).eval(), random_image(8, 12)
    condition = network.condition(image)
    plain = network.conditioner_probabilities(condition)
    expected = network.expected_probabilities(network.image_terms(condition))
    weight = configuration.sampling.conditioner_weight
    assert torch.allclose(network(image).softmax(1), weight * plain + (1 - weight) * expected, atol=1e-5)


def test_weights_that_were_taken_last_are_not_loaded_again_but_all_others_are(monkeypatch):
    network = tiny_network(2)
    first = {name: value.clone() for name, value in network.state_dict().items()}
    second = {name: value + 1 for name, value in first.items()}
    loaded = []
    monkeypatch.setattr(torch.nn.Module, "load_state_dict",
                        lambda self, weights, *options, load=torch.nn.Module.load_state_dict: loaded.append(weights)
                        or load(self, weights, *options))
    for weights in (first, first, second, first):
        network.take_weights(weights)
        assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())
    assert [one is first for one in loaded] == [True, False, True]
    network.load_state_dict(second)
    network.take_weights(first)  # not those that were taken before
    assert all(torch.equal(value, first[name]) for name, value in network.state_dict().items())
