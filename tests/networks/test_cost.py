"""The arithmetic cost against a count by hand, and live memory against sums."""

import gc

import pytest
import torch
from tiny_networks import (ANISOTROPIC, LATENT, NUM_INPUTS, NUM_OUTPUTS, PAPER, STATE, random_image, random_state,
                           tiny_network, tiny_unet)
from torch import nn

from medsegdiff_auto.networks.cost import LiveMemory, relative_denoiser_cost


def multiply_adds(network, *inputs):
    """Sum over convolutions and linear layers, one weight per tap and output (input, where transposed) position."""
    total, hooks = [], []

    def count(module, arguments, output):
        positions = arguments[0] if isinstance(module, (nn.ConvTranspose2d, nn.ConvTranspose3d)) else output
        channels_first = not isinstance(module, nn.Linear)
        num_positions = positions[0, 0].numel() if channels_first else 1
        total.append(module.weight.numel() * num_positions)

    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Linear)):
            hooks.append(module.register_forward_hook(count))
    with torch.no_grad():
        network(*inputs)
    for hook in hooks:
        hook.remove()
    return sum(total)


@pytest.mark.parametrize("configuration", [STATE, PAPER, LATENT.changed(sees_state=False, num_steps=1)],
                         ids=["state", "paper", "no state"])
@pytest.mark.parametrize("dimension, strides, size", [(2, None, (8, 12)), (3, ANISOTROPIC, (2, 12, 8))], ids=str)
def test_the_relative_cost_is_the_ratio_of_multiply_adds(configuration, dimension, strides, size):
    configuration = configuration.changed(bottleneck_attention_heads=0)
    network = tiny_network(dimension, configuration, strides=strides).eval()
    image, x_t = random_image(*size, batch_size=1), random_state(*size, batch_size=1)
    unet = tiny_unet(dimension, strides=strides).eval()
    condition, latent = network.condition(image), network.empty_latents(1, size)
    # of a denoiser that sees no state what it computes of the image counts: the forward of it alone includes that
    terms = network.image_terms(condition) if configuration.network.sees_state else condition
    inputs = (x_t, torch.ones(1), terms) + (() if latent is None else (torch.zeros_like(latent),))
    expected = multiply_adds(network.denoiser, *inputs) / multiply_adds(unet, image)
    with torch.device("meta"):
        found = relative_denoiser_cost(tiny_unet(dimension, strides=strides), NUM_INPUTS, NUM_OUTPUTS, size,
                                       configuration)
    assert found == pytest.approx(expected, rel=1e-6)


def test_live_memory_is_the_sum_of_what_lives_at_the_same_time():
    with torch.device("meta"), LiveMemory() as memory:
        first = torch.empty(1000)
        second = first + 1
        del first
        third = torch.cat([second, second])
        view = third.view(2, 1000).t()
        del second, third
        gc.collect()
    assert memory.peak_bytes == 4 * (1000 + 2000)  # second and third; first is gone by then
    assert memory.live_bytes == 4 * view.numel()
