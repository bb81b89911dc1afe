"""What latent noise does to the denoiser, in training and in sampling."""

import pytest
import torch
from tiny_networks import ANISOTROPIC, STATE, LATENT, random_image, random_state, randomised, tiny_network

from medsegdiff_auto.diffusion.energy_score import energy_score
from medsegdiff_auto.diffusion.objective import denoiser_loss
from medsegdiff_auto.diffusion.state import state_from_labels
from medsegdiff_auto.networks import denoiser as denoiser_module
from medsegdiff_auto.networks.blocks import along_last

CASES = [(2, None, (8, 12)), (3, ANISOTROPIC, (2, 12, 8))]
TIMES = torch.tensor([0.3, 1.0], dtype=torch.float64)


def latent_network(dimension, strides, configuration=LATENT):
    return randomised(tiny_network(dimension, configuration, strides=strides)).eval()


@pytest.mark.parametrize("dimension, strides, size", CASES, ids=str)
@torch.no_grad()
def test_logits_are_linear_in_the_latent_noise_and_without_it_those_of_zero(dimension, strides, size):
    network = latent_network(dimension, strides)
    condition, x_t = network.condition(random_image(*size)), random_state(*size)
    latent = network.latents((1, 2), size, torch.device("cpu"))
    offset = network.denoise(x_t, TIMES, condition, torch.zeros_like(latent))
    once, twice = (network.denoise(x_t, TIMES, condition, factor * latent) - offset for factor in (1, 2))
    without = network.denoise(x_t, TIMES, condition)
    assert torch.allclose(twice, 2 * once, atol=1e-4) and once.abs().max() > 0.1
    assert torch.allclose(offset, without, atol=1e-5)


@torch.no_grad()
def test_a_noise_that_moves_one_cell_moves_its_neighbourhood_and_fades_out():
    network = latent_network(2, None)
    condition, x_t, latent = network.condition(random_image(8, 16)), random_state(8, 16), torch.zeros(2, 4, 4, 8)
    latent[:, :, 2, 4] = 1.0  # the voxels 4 to 5 by 8 to 9
    moved = network.denoise(x_t, TIMES, condition, latent) - network.denoise(x_t, TIMES, condition)
    along = moved[0, 0, 4] / moved[0, 0, 4, 8]
    expected = torch.zeros(16)
    expected[7:11] = torch.tensor([1 / 3, 1.0, 1.0, 1 / 3])  # 0.25 and 0.75 of the way between two centres
    assert torch.allclose(along, expected, atol=1e-4)


@torch.no_grad()
def test_a_denoiser_without_a_state_says_what_the_whole_one_says_of_an_empty_state(monkeypatch):
    size = (8, 12)
    network = latent_network(2, None, LATENT.changed(sees_state=False, num_steps=1))
    condition, latent = network.condition(random_image(*size)), network.latents((1, 2), size, torch.device("cpu"))
    terms = network.image_terms(condition)
    assert terms.stem is None and terms.last is not None
    found = network.denoise(random_state(*size), TIMES, terms, latent)
    monkeypatch.setattr(network.denoiser, "sees_state", True)
    whole = network.denoise(random_state(*size), TIMES, network.image_terms(condition), latent)
    assert torch.equal(found, whole)
    of_views = network.denoise(random_state(*size)[:1], TIMES[:1], terms.of([1]), latent[1:])
    assert torch.allclose(of_views, found[1:], atol=1e-5)


@pytest.mark.parametrize("target", ["classes", "regions"])
@pytest.mark.parametrize("dimension, strides, size", CASES, ids=str)
def test_a_training_step_scores_independent_draws_of_one_state(dimension, strides, size, target):
    configuration = LATENT.changed(target=target, num_training_draws=3)
    network = latent_network(dimension, strides, configuration)
    labels = torch.randint(0, 3, (2, 1, *size), generator=torch.Generator().manual_seed(4))
    x_start = state_from_labels(labels, 3)
    valid = torch.rand(2, 1, *size, generator=torch.Generator().manual_seed(5)) > 0.2
    torch.manual_seed(0)
    step = network(random_image(*size), x_start, TIMES.tolist(), random_state(*size))
    draws = step.output.unflatten(0, (3, 2))
    assert step.x_t.shape == x_start.shape
    assert all((draws[j] - draws[k]).abs().max() > 0.05 for j, k in ((0, 1), (0, 2), (1, 2)))
    probabilities = draws.softmax(2) if target == "classes" else draws.sigmoid()
    expected = energy_score(probabilities, (x_start + 1) / 2, configuration.loss.class_weights, valid)
    found = denoiser_loss(step.output, x_start, step.x_t, step.log_snr, configuration, valid)
    assert torch.equal(found, expected)
    found.backward()
    assert network.denoiser.latent_gain.weight.grad.abs().max() > 0


@torch.no_grad()
def test_draws_come_draw_by_draw_each_of_the_features_and_state_of_its_image():
    network, size = latent_network(2, None, LATENT.changed(num_training_draws=3)), (8, 12)
    torch.nn.init.zeros_(network.denoiser.latent_gain.weight)
    torch.nn.init.zeros_(network.denoiser.latent_gain.bias)
    image = random_image(*size)
    step = network(image, random_state(*size).clamp(-1, 1), TIMES.tolist(), random_state(*size))
    alone = network.denoise(step.x_t, TIMES, network.condition(image))
    assert (alone[0] - alone[1]).abs().max() > 0.1
    for draw in step.output.unflatten(0, (3, 2)):
        assert torch.allclose(draw, alone, atol=1e-5)


@torch.no_grad()
def test_recycled_states_are_drawn_with_latent_noise_of_their_own():
    network = latent_network(2, None)
    x_start, noise = random_state(8, 12).clamp(-1, 1), torch.zeros(2, 3, 8, 12)
    condition = network.condition(random_image(8, 12))
    torch.manual_seed(0)
    first = network.noised_state(x_start, TIMES, noise, [0], condition)
    torch.manual_seed(1)
    second = network.noised_state(x_start, TIMES, noise, [0], condition)
    assert (first[0] - second[0]).abs().max() > 0.01 and torch.equal(first[1], second[1])


@torch.no_grad()
def test_a_mask_depends_on_its_own_noise_alone_and_another_draws_another_mask():
    network, size = latent_network(2, None), (8, 12)
    condition = network.condition(random_image(*size))
    noise = random_state(*size)
    together = network.sample_probabilities(condition, noise, num_steps=2)
    alone = network.sample_probabilities(condition.of([1]), noise[1:], num_steps=2)
    assert torch.allclose(together[1:], alone, atol=1e-6)
    same_image = condition.of([0, 0])
    drawn = network.sample_probabilities(same_image, noise, num_steps=1)
    assert (drawn[0] - drawn[1]).abs().max() > 0.05


@pytest.mark.parametrize("change, named", [
    ({"latent_channels": 0}, "latent_channels is 0 with latent_scales"),
    ({"latent_scales": ()}, "latent_channels is 2 with latent_scales"),
    ({"latent_scales": (0.0,)}, "latent_scales"),
    ({"num_training_draws": 1}, "num_training_draws is 1 with energy_score"),
    ({"name": "cross_entropy"}, "num_training_draws is 2 with cross_entropy"),
    ({"name": "cross_entropy", "num_training_draws": 1}, "class_weights is"),
    ({"class_weights": (-1.0,)}, "class_weights"),
    ({"pure_noise_share": 1.5}, "pure_noise_share"),
    ({"architecture": "two_encoders"}, "needs a denoiser that predicts the logits"),
], ids=str)
def test_a_plan_whose_latent_noise_does_not_fit_together_is_refused(change, named):
    with pytest.raises(ValueError) as refused:
        LATENT.changed(**change)
    assert named in str(refused.value)


def test_the_twin_without_latent_noise_is_the_network_of_before():
    names = [name for name, _ in tiny_network(2, STATE).named_parameters()]
    assert not [name for name in names if "latent" in name]


@torch.no_grad()
def test_the_dispersion_scales_the_noise_and_with_it_the_expected_mask():
    configuration, size = LATENT.changed(sees_state=False, num_steps=1), (8, 12)
    network = latent_network(2, None, configuration)
    terms, x_t = network.image_terms(network.condition(random_image(*size))), random_state(*size)
    seeds, device = (1, 2), torch.device("cpu")
    latent = network.latents(seeds, size, device)
    expected = network.expected_probabilities(terms)
    network.configuration = configuration.changed(dispersion=3.0)
    assert torch.allclose(network.latents(seeds, size, device), 3 * latent)
    without = network.denoise(x_t, TIMES, terms).softmax(1)
    assert (network.expected_probabilities(terms) - without).abs().mean() > 1.5 * (expected - without).abs().mean()
    with pytest.raises(ValueError, match="dispersion is 0 with latent noise"):
        configuration.changed(dispersion=0.0)


@pytest.mark.parametrize("target", ["classes", "regions"])
@pytest.mark.parametrize("dimension, strides, size", CASES, ids=str)
def test_draws_that_share_their_image_are_those_of_as_many_copies_of_it_with_their_gradients(dimension, strides, size,
                                                                                            target):
    stateless = LATENT.changed(sees_state=False, num_steps=1, target=target)
    network, outputs, gradients = latent_network(dimension, strides, stateless), [], []
    latent = network.latents(range(6), size, torch.device("cpu"))
    weights = torch.randn(6, 3, *size, generator=torch.Generator().manual_seed(0))
    for is_shared in (True, False):
        terms = network.image_terms(network.condition(random_image(*size)))
        if is_shared:
            found = network.denoise(torch.zeros(2, 1), torch.ones(2), terms, latent)
        else:
            found = network.denoise(torch.zeros(6, 1), torch.ones(6), terms.of([0, 1] * 3), latent)
        network.zero_grad()
        (found * weights).sum().backward()
        gradients.append([None if p.grad is None else p.grad.clone() for p in network.denoiser.parameters()])
        outputs.append(found.detach())
    assert torch.allclose(*outputs, atol=1e-5) and outputs[0].std(0).min() > 0
    for shared, copied in zip(*gradients, strict=True):
        assert (shared is None) == (copied is None)
        assert shared is None or torch.allclose(shared, copied, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dimension, size", [(2, (8, 12)), (3, (8, 8, 12))])
@torch.no_grad()
def test_of_many_classes_those_that_are_impossible_in_a_tile_are_left_out_of_its_arithmetic(dimension, size,
                                                                                            monkeypatch):
    """Three of twelve classes are possible, one of them in a single voxel and one nowhere by more than 1e-3: draws and
    their mean stay, and rows of three classes are interpolated.
    """
    network = tiny_network(dimension, LATENT.changed(sees_state=False, num_steps=1, dispersion=1.0), num_outputs=12)
    network = randomised(network).eval()
    terms = network.image_terms(network.condition(random_image(*size, batch_size=1)))
    logits = torch.full_like(terms.logits, -40.0)
    logits[:, 3], logits[:, 5], logits[(0, 7, *(n // 2 for n in size))] = 5.0, -4.0, 6.0
    terms, latent = terms._replace(logits=logits), network.latents((1, 2, 3), size, torch.device("cpu"))
    channels = []
    monkeypatch.setattr(denoiser_module, "along_last", lambda x, n: channels.append(x.shape[-dimension - 1])
                        or along_last(x, n))
    few, mean = network.predict_draws(latent, terms), network.expected_probabilities(terms)
    assert set(channels) == {3}
    monkeypatch.setattr(denoiser_module, "FEW_CLASSES", 12)
    assert torch.allclose(few, network.predict_draws(latent, terms), atol=1e-4)
    assert torch.allclose(mean, network.expected_probabilities(terms), atol=1e-4)
    assert set(channels) == {3, 12} and few[:, 7].max() > -1 and few[:, 5].max() > -1 and few[:, 6].max() == -1
