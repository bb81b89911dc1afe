"""What nnU-Net's own prediction gets from the network."""

from dataclasses import replace

import pytest
import torch
from tiny_networks import ANISOTROPIC, AUTO, PRESETS, random_image, random_state, randomised, tiny_network

from medsegdiff_auto.diffusion.solvers import SOLVERS
from medsegdiff_auto.diffusion.state import probabilities_from_logits

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
@pytest.mark.parametrize("solver", SOLVERS)
def test_a_tile_gives_the_same_voxels_alone_and_in_any_batch(preset, solver):
    network = trained(2, replace(preset, solver=solver))
    image = random_image(8, 12, batch_size=3)
    together = network(image).softmax(1)
    for k in range(3):
        assert torch.allclose(network(image[k:k + 1]).softmax(1)[0], together[k], atol=1e-4)
    assert torch.allclose(network(image.flip(0)).softmax(1), together.flip(0), atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("target", ["classes", "regions"])
def test_an_untrained_network_fuses_to_the_conditioner(target):
    network, image = tiny_network(2, replace(AUTO, target=target)).eval(), random_image(8, 12)
    plain = probabilities_from_logits(network.condition(image).logits[0], target)
    assert torch.allclose(probabilities_from_logits(network(image), target), plain, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_regions_are_fused_with_the_weight_of_the_plan(preset, weight):
    network = trained(2, replace(preset, target="regions", conditioner_weight=weight))
    image = random_image(8, 12)
    condition = network.condition(image)
    plain = network.conditioner_probabilities(condition)
    drawn = (network(image).sigmoid() - weight * plain)
    if weight == 1:
        assert drawn.abs().max() < 1e-5
    else:
        assert -1e-5 < drawn.min() / (1 - weight) and drawn.max() / (1 - weight) < 1 + 1e-5
        assert drawn.std() > 0.01


@torch.no_grad()
def test_other_noise_gives_another_mask(preset):
    network = trained(2, preset)
    condition = network.condition(random_image(8, 12))
    first, second = (network.sample_probabilities(condition, random_state(8, 12, seed=seed)) for seed in (5, 6))
    assert (first - second).abs().max() > 1e-3


@torch.no_grad()
def test_a_start_below_one_begins_at_the_noised_prediction_of_the_conditioner():
    network, seen = trained(2, replace(AUTO, start_time=0.6)), []
    condition, noise = network.condition(random_image(8, 12)), random_state(8, 12).double()
    denoise = network.denoise
    network.denoise = lambda x_t, t, *rest: (seen.append((x_t, t)), denoise(x_t, t, *rest))[1]
    network.sample_probabilities(condition, noise, num_steps=2)
    alpha, sigma = network.schedule.alpha_sigma(torch.tensor(0.6, dtype=torch.float64))
    expected = alpha * (2 * condition.logits[0].softmax(1).double() - 1) + sigma * noise
    assert torch.allclose(seen[0][0], expected, atol=1e-10)
    assert [t[0].item() for _, t in seen] == pytest.approx([0.6, 0.3], abs=1e-6)


@torch.no_grad()
def test_state_guidance_adds_what_the_state_changed_in_the_prediction(preset):
    """Two DDIM steps: the first prediction stays, the second moves on from it by gamma times the difference."""
    plain, guided = (trained(2, replace(preset, state_guidance=gamma)) for gamma in (1.0, 3.0))
    outputs = []
    for network in (plain, guided):
        denoise, seen = network.denoise, []
        network.denoise = lambda *inputs, seen=seen, denoise=denoise: (seen.append(denoise(*inputs)), seen[-1])[1]
        outputs.append(seen)
    condition, noise = plain.condition(random_image(8, 12)), random_state(8, 12)
    drawn = [network.sample_probabilities(condition, noise, 2, "ddim") for network in (plain, guided)]
    assert all(torch.equal(a, b) for a, b in zip(*outputs))
    if preset.parameterisation == "x_start":
        first, second = outputs[1]
        assert torch.allclose(drawn[1], (first + 3 * (second - first)).softmax(1), atol=1e-5)
    assert (drawn[0] - drawn[1]).abs().max() > 1e-3


@torch.no_grad()
def test_guided_samples_lie_further_apart():
    condition = trained(2, AUTO).condition(random_image(8, 12, batch_size=1)).repeated(8)
    noise, spread = random_state(8, 12, batch_size=8), []
    for gamma in (1.0, 2.0, 4.0):
        network = trained(2, replace(AUTO, state_guidance=gamma))
        spread.append(network.sample_probabilities(condition, noise, 3).std(0).mean().item())
    assert spread[0] < spread[1] < spread[2]
