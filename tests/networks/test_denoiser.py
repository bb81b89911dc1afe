"""The light denoiser of preset ``auto`` behind its conditioner."""


import pytest
import torch
from tiny_networks import ANISOTROPIC, STATE, random_image, random_state, randomised, tiny_network

from medsegdiff_auto.diffusion.losses import cross_entropy
from medsegdiff_auto.diffusion.process import q_sample
from medsegdiff_auto.diffusion.state import state_from_labels

CASES = [(2, None, (8, 12)), (3, None, (4, 8, 12)), (3, ANISOTROPIC, (2, 12, 8)), (2, None, (12, 20)),
         (3, [(1, 1, 1), (2, 2, 2), (1, 2, 2)], (6, 12, 4))]
TIMES = torch.tensor([0.3, 1.0])


def training_step(network, size, recycled=()):
    """Conditioner logits, denoiser output and the reference state of one step on a random batch."""
    labels = torch.randint(0, 3, (2, 1, *size), generator=torch.Generator().manual_seed(4))
    x_start = state_from_labels(labels, 3)
    step = network(random_image(*size), x_start, TIMES.tolist(), random_state(*size), recycled)
    return step.logits, step.output, x_start


@pytest.mark.parametrize("target", ["classes", "regions"])
@pytest.mark.parametrize("dimension, strides, size", CASES, ids=str)
def test_the_denoiser_equals_the_conditioner_at_initialisation(dimension, strides, size, target):
    network = tiny_network(dimension, STATE.changed(target=target), strides=strides).eval()
    condition = network.condition(random_image(*size))
    assert torch.equal(network.denoiser(random_state(*size), TIMES, condition), condition.logits[0])


@pytest.mark.parametrize("dimension, strides, size", CASES, ids=str)
def test_a_trained_denoiser_depends_on_state_time_and_image(dimension, strides, size):
    network = randomised(tiny_network(dimension, strides=strides)).eval()
    condition, x_t = network.condition(random_image(*size)), random_state(*size)
    other = network.condition(random_image(*size, seed=9))
    other = type(condition)(condition.logits, other.pyramid)
    found = network.denoiser(x_t, TIMES, condition)
    for changed in ((x_t.flip(0), TIMES, condition), (x_t, TIMES.flip(0), condition), (x_t, TIMES, other)):
        assert not torch.allclose(network.denoiser(*changed), found, atol=1e-3)


@pytest.mark.parametrize("recycled", [(), (0,)], ids=str)
def test_no_gradient_flows_from_the_denoiser_into_the_conditioner(recycled):
    network = randomised(tiny_network(2, deep_supervision=True)).train()
    _, logits, x_start = training_step(network, (8, 12), recycled)
    cross_entropy(logits, x_start, "classes").backward()
    assert all(p.grad is None for p in network.conditioner.parameters())
    assert any(p.grad is not None and p.grad.any() for p in network.denoiser.parameters())


def test_the_conditioner_learns_from_its_own_loss_only():
    network = randomised(tiny_network(2, deep_supervision=True)).train()
    logits, _, x_start = training_step(network, (8, 12))
    cross_entropy(logits[0], x_start, "classes").backward()
    assert all(p.grad is None for p in network.denoiser.parameters())
    assert network.conditioner.unet.encoder.stages[0][0].convs[0].conv.weight.grad.any()


@pytest.mark.parametrize("dimension, size", [(2, (16, 24)), (3, (8, 12, 16))])
def test_every_parameter_of_the_denoiser_learns_once_the_zero_initialised_ones_have_moved(dimension, size):
    """Two zero-initialised layers lie in a row (head, then each block's second convolution): the third step reaches
    all.
    """
    network = tiny_network(dimension, deep_supervision=True).train()
    optimizer = torch.optim.AdamW(network.denoiser.parameters(), 1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        _, logits, x_start = training_step(network, size)
        cross_entropy(logits, x_start, "classes").backward()
        optimizer.step()
    silent = [name for name, p in network.denoiser.named_parameters() if not p.grad.any()]
    assert silent == []


def test_a_recycled_sample_is_noised_from_the_own_prediction_and_the_others_from_the_reference():
    network = tiny_network(2).eval()
    condition, noise = network.condition(random_image(8, 12)), random_state(8, 12)
    x_start = state_from_labels(torch.zeros(2, 1, 8, 12), 3)
    own = 2 * condition.logits[0].softmax(1) - 1
    x_t = network.noised_state(x_start, TIMES.double(), noise, [0], condition)
    expected = q_sample(torch.stack([own[0], x_start[1]]), noise, *network.schedule.alpha_sigma(TIMES))
    assert torch.allclose(x_t, expected, atol=1e-6)
