"""Preset ``paper``: MedSegDiff as published."""


import pytest
import torch
from tiny_networks import ANISOTROPIC, NUM_OUTPUTS, PAPER, random_image, random_state, randomised, tiny_network

from medsegdiff_auto.diffusion.losses import mse
from medsegdiff_auto.diffusion.process import noise_from_x_start
from medsegdiff_auto.tables import SOLVERS
from medsegdiff_auto.diffusion.state import state_from_labels
from medsegdiff_auto.networks.dynamic_encoding import attentive_fusion, layer_norm
from medsegdiff_auto.networks.paper import InlineConditionalEncoding
from medsegdiff_auto.planning.presets import load_preset

CASES = [(2, None, (8, 12)), (3, ANISOTROPIC, (2, 12, 8)), (2, None, (9, 13)), (3, None, (5, 6, 7))]
TIMES = torch.tensor([0.3, 1.0])


class TrueNoise(torch.nn.Module):
    """A perfect eps-network: the noise that lies between a known x_0 and x_t; remembers the times it saw."""

    def __init__(self, x_start, schedule):
        super().__init__()
        self.x_start, self.schedule, self.times = x_start, schedule, []

    def forward(self, x_t, t, condition):
        self.times.append(t[0].item())
        return noise_from_x_start(self.x_start.to(x_t), x_t, *self.schedule.alpha_sigma(t))


@torch.no_grad()
@pytest.mark.parametrize("solver", SOLVERS.names())
@pytest.mark.parametrize("num_steps", [1, 3, 7, 50])
@pytest.mark.parametrize("dimension, size", [(2, (8, 12)), (3, (2, 4, 4))])
def test_a_perfect_noise_prediction_recovers_the_mask_in_any_number_of_steps(dimension, size, num_steps, solver):
    network = tiny_network(dimension, PAPER)
    labels = torch.randint(0, NUM_OUTPUTS, (2, 1, *size), generator=torch.Generator().manual_seed(0))
    x_start = state_from_labels(labels, NUM_OUTPUTS)
    network.denoiser = TrueNoise(x_start, network.schedule)
    drawn = network.sample_probabilities(network.condition(random_image(*size)), random_state(*size), num_steps, solver)
    assert torch.allclose(drawn, (x_start + 1) / 2, atol=1e-5)
    assert network.denoiser.times == pytest.approx([round(1000 * (1 - k / num_steps)) / 1000 for k in range(num_steps)])


def test_times_between_the_training_steps_are_rounded_to_them():
    network = tiny_network(2, PAPER)
    found = network.schedule.discrete(torch.tensor([1 / 3, 1e-5, 0.9996, 1.0], dtype=torch.float64))
    assert found.tolist() == [0.333, 0.001, 1.0, 1.0]
    assert tiny_network(2, PAPER.changed(schedule="cosine")).schedule.discrete(TIMES) is TIMES


def test_the_encoding_is_the_fusion_of_the_paper_and_nothing_else():
    m_image, m_mask = (torch.randn(2, 4, 5, 6, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    norm = layer_norm(4)
    expected = attentive_fusion(m_image, norm(m_image), norm(m_mask))
    assert torch.allclose(InlineConditionalEncoding(2, 4, 5)(m_image, m_mask), expected, atol=1e-4)


@torch.no_grad()
def test_both_encoders_are_added_at_the_last_stage():
    denoiser = tiny_network(2, PAPER.changed(bottleneck_attention_heads=0)).denoiser
    seen, last = {}, len(denoiser.fusion) - 1
    denoiser.fusion[last].register_forward_hook(
        lambda module, inputs, output: seen.update(image=output, mask=inputs[1]))
    denoiser.bottleneck.register_forward_hook(lambda module, inputs, output: seen.update(sum=inputs[0]))
    condition = tiny_network(2, PAPER).condition(random_image(8, 12))
    denoiser(random_state(8, 12), TIMES, condition)
    assert torch.equal(seen["sum"], seen["image"] + seen["mask"])


@torch.no_grad()
@pytest.mark.parametrize("dimension, strides, size", CASES, ids=str)
def test_the_predicted_noise_is_zero_at_first_and_later_depends_on_state_time_and_image(dimension, strides, size):
    network = tiny_network(dimension, PAPER, strides=strides).eval()
    x_t, condition, other = random_state(*size), *(network.condition(random_image(*size, seed=s)) for s in (2, 9))
    assert torch.equal(network.denoise(x_t, TIMES, condition), torch.zeros_like(x_t))
    found = randomised(network).denoise(x_t, TIMES, condition)
    for changed in ((x_t.flip(0), TIMES, condition), (x_t, TIMES.flip(0), condition), (x_t, TIMES, other)):
        assert not torch.allclose(network.denoise(*changed), found, atol=1e-3)


@torch.no_grad()
def test_the_predicted_mask_is_that_of_the_noise_clipped_to_its_range():
    """T = 1000, t = 1: alpha is 0.00635, so that an untrained network would draw values of a hundred and more."""
    network = tiny_network(2, PAPER)
    x_t = torch.tensor([0.5, -2.0, 0.001]).reshape(1, 3, 1, 1).expand(2, 3, 8, 12).double()
    found = network.predict_x_start(x_t, torch.ones(2), network.condition(random_image(8, 12)))
    assert found[0, :, 0, 0].tolist() == pytest.approx([1.0, -1.0, 0.001 / 4.0358e-5 ** 0.5], rel=1e-4)


def training_losses(network, num_steps, learning_rate, side=8):
    """MSE of the predicted noise per AdamW step, on one batch of squares with noise drawn anew."""
    labels = torch.zeros(2, 1, side, side, dtype=torch.long)
    labels[0, :, 2:6, 2:6], labels[1, :, :4, 3:] = 1, 2
    image = torch.cat([labels, labels], 1) + 0.3 * random_image(side, side)
    optimizer = torch.optim.AdamW(network.parameters(), learning_rate)
    generator, losses = torch.Generator().manual_seed(0), []
    for _ in range(num_steps):
        noise = torch.randn(2, NUM_OUTPUTS, side, side, generator=generator)
        step = network(image, state_from_labels(labels, NUM_OUTPUTS), torch.tensor([0.2, 0.7]), noise)
        assert step.logits is None
        loss = mse(step.output, noise)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_thirty_steps_of_training_halve_the_loss():
    losses = training_losses(tiny_network(2, PAPER).train(), 30, 3e-3)
    assert losses[0] == pytest.approx(1, abs=0.2)
    assert sum(losses[-5:]) / 5 < 0.5


def test_every_parameter_learns_the_filters_and_the_fusion_included():
    """Three zero-initialised layers lie in a row (head, second convolution, FiLM) before the time embedding.

    At 16 x 16 the lowest feature map is 4 x 4: at 2 x 2 every frequency is its own mirror, and no phase can turn.
    """
    network = tiny_network(2, PAPER).train()
    training_losses(network, 4, 1e-2, side=16)
    silent = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


@pytest.mark.parametrize("target, probability", [("classes", 1 / NUM_OUTPUTS), ("regions", 0.5)])
def test_there_is_no_plain_network_so_every_output_is_as_likely(target, probability):
    network, image = tiny_network(3, PAPER.changed(target=target)), random_image(2, 4, 4)
    condition = network.condition(image)
    plain = network.conditioner_probabilities(condition)
    assert plain.shape == (2, NUM_OUTPUTS, 2, 4, 4)
    assert plain.unique().tolist() == pytest.approx([probability])
    assert condition.pyramid[0] is image


@torch.no_grad()
def test_nnunets_validation_loss_sees_the_logits_of_a_sample_of_two_steps():
    network, image = randomised(tiny_network(2, PAPER, deep_supervision=True)).eval(), random_image(8, 12)
    logits = network(image)
    network.deep_supervision = False
    assert len(logits) == 1 and not torch.equal(logits[0], network(image))
    network.configuration = PAPER.changed(num_steps=2)
    assert torch.equal(logits[0], network(image))


def test_the_fragment_of_the_paper_has_the_keys_of_auto_and_the_published_settings():
    fragment = load_preset("paper")
    assert fragment.keys() == load_preset("auto").keys()
    found = [fragment["network"]["parameterisation"], *fragment["noise"].values(), fragment["sampling"]["num_samples"],
             fragment["loss"]["initial_learning_rate"], fragment["sampling"]["conditioner_weight"]]
    assert found == ["noise", "linear", None, 1000, 25, 1e-4, 0]
