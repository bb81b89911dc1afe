"""The pictures of the latent noise are those of the network's own answers."""

import numpy as np
import pytest
import torch

from medsegdiff_auto.explanation.latent import STEPS, latent_section, moved_by_scale


@pytest.fixture(scope="module", params=["classes", "regions"])
def drawn(request, make):
    """Network, tile, terms of its image, and what each scale moves."""
    network, tile = make.network("auto", 2, request.param), make.tile(2, request.param)
    network.configuration = network.configuration.changed(dispersion=1.5)
    with torch.inference_mode():
        condition = network.condition(tile.image[None])
        terms = network.image_terms(condition)
    return network, tile, terms, moved_by_scale(network, condition, tile.plane)


def prediction(network, tile, terms, latent):
    """Probabilities of the network with this latent noise, (K, *patch)."""
    with torch.inference_mode():
        x_t = torch.zeros(1, len(tile.x_start), *tile.image.shape[1:], dtype=torch.float64)
        x_start = network.predict_x_start(x_t, torch.ones((), dtype=torch.float64), terms, latent=latent)
    return ((x_start[0] + 1) / 2).numpy()


def test_the_masks_along_a_field_are_the_networks_own(drawn):
    network, tile, terms, moved = drawn
    c = network.configuration.network
    empty = network.empty_latents(1, tile.image.shape[1:])
    for scale, one in enumerate(moved):
        fields = []
        for channel in range(c.latent_channels):
            at_field = []
            for step in STEPS:
                latent = torch.zeros_like(empty)
                latent[:, scale * c.latent_channels + channel] = step * network.configuration.sampling.dispersion
                at_field.append(prediction(network, tile, terms, latent))
            fields.append(np.abs(np.stack(at_field) - np.stack(one.along)).max())
        assert min(fields) < 1e-4 < max(fields)


def test_the_map_is_the_deviation_of_logits_over_drawn_fields(drawn):
    network, tile, terms, moved = drawn
    c = network.configuration.network
    for scale, one in enumerate(moved):
        drawn_logits = []
        generator = torch.Generator().manual_seed(scale)
        for _ in range(300):
            latent = torch.zeros_like(network.empty_latents(1, tile.image.shape[1:]))
            channels = slice(scale * c.latent_channels, (scale + 1) * c.latent_channels)
            latent[:, channels] = 1.5 * torch.randn((1, c.latent_channels, 1, 1), generator=generator)
            p = np.clip(prediction(network, tile, terms, latent), 1e-9, 1 - 1e-9)
            logits = np.log(p) - (np.log(1 - p) if tile.target == "regions" else np.log(p).mean(0))
            drawn_logits.append(logits)
        found, shown = np.std(drawn_logits, axis=0).max(0), one.deviation
        is_sure = np.abs(np.mean(drawn_logits, axis=0)).max(0) > 10  # where float32 probabilities end
        assert np.median(np.abs(found - shown)[~is_sure] / shown[~is_sure].clip(1e-3)) < 0.1


def test_a_model_without_latent_noise_says_so(make):
    network, tile = make.network("paper", 2, "classes"), make.tile(2, "classes")
    found = latent_section(tile, None, network.configuration)
    assert found.png is None and "no latent noise" in found.html
