"""MedSegDiff-V2's conditions against their equations."""

import math

import pytest
import torch
from tiny_networks import randomised

from medsegdiff_auto.networks.medsegdiff_v2 import (AnchorAttention, GaussianBlur, SpectrumTransformer,
                                                    TimeModulatedFilter)

SIZES = [(9,), (7, 6), (4, 5, 6)]
EMBEDDING = torch.randn(2, 6, generator=torch.Generator().manual_seed(5))


def random_map(size, channels=4, seed=0):
    return torch.randn(2, channels, *size, generator=torch.Generator().manual_seed(seed))


def test_the_blur_of_a_point_is_a_gaussian_of_the_learned_width():
    blur = GaussianBlur(1, 2)
    with torch.no_grad():
        blur.log_deviation_vox.copy_(torch.tensor([0.0, math.log(0.5)]))
    point = torch.zeros(1, 2, 9)
    point[:, :, 4] = 1
    found = blur(point)[0]
    for channel, deviation in enumerate((1.0, 0.5)):
        weights = [math.exp(-k ** 2 / (2 * deviation ** 2)) for k in range(-2, 3)]
        assert found[channel, 2:7].tolist() == pytest.approx([w / sum(weights) for w in weights], rel=1e-5)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_blur_keeps_constants_up_to_the_border_and_is_separable(size):
    blur = GaussianBlur(len(size), 4)
    assert torch.allclose(blur(torch.full((2, 4, *size), 3.0)), torch.full((2, 4, *size), 3.0), atol=1e-5)
    x = random_map(size)
    axes = list(range(2, x.ndim))
    assert torch.allclose(blur(x.flip(axes)).flip(axes), blur(x), atol=1e-6)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_anchor_attention_follows_the_equation(size):
    anchor = AnchorAttention(len(size), 4, 3)
    f_mask, f_image = random_map(size, 3), random_map(size, 4, seed=1)
    weight, bias = anchor.projection.weight.flatten(1), anchor.projection.bias
    f_anchor = torch.maximum(anchor.blur(f_image), f_image)
    gate = torch.einsum("oc,bc...->bo...", weight, f_anchor) + bias.reshape(-1, *[1] * len(size))
    assert torch.allclose(anchor(f_mask, anchor.image_gate(f_image)), f_mask + f_mask / (1 + torch.exp(-gate)),
                          atol=1e-5)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_modulated_filter_is_the_identity_at_first_and_later_real_circular_and_different_in_time(size):
    filter_, x = TimeModulatedFilter(len(size), 4, 6), random_map(size)
    assert torch.allclose(filter_(x, EMBEDDING), x, atol=1e-5)
    randomised(filter_)
    found, axes = filter_(x, EMBEDDING), tuple(range(2, x.ndim))
    shift = tuple(range(1, len(size) + 1))
    assert torch.allclose(filter_(x.roll(shift, axes), EMBEDDING), found.roll(shift, axes), atol=1e-5)
    assert torch.allclose(filter_(x.flip(axes), EMBEDDING).flip(axes), found, atol=1e-5)
    assert not torch.allclose(filter_(x, EMBEDDING.flip(0)), found, atol=1e-3)


def test_the_response_of_a_map_twice_as_large_is_the_same_at_the_same_frequencies():
    filter_ = randomised(TimeModulatedFilter(2, 4, 6))
    small, large = filter_.response(torch.Size((6, 8)), EMBEDDING), filter_.response(torch.Size((12, 16)), EMBEDDING)
    assert torch.allclose(large[:, :, ::2, ::2], small, atol=1e-6)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_spectrum_transformer_is_the_identity_at_first_and_later_depends_on_image_and_time(size):
    former = SpectrumTransformer(len(size), 5, 12, 2, 3, 6, 0.0).eval()
    f_mask, f_image = random_map(size, 12), random_map(size, 5, seed=1)
    assert torch.equal(former(f_mask, f_image, EMBEDDING), f_mask)
    found = randomised(former)(f_mask, f_image, EMBEDDING)
    assert not torch.allclose(former(f_mask, f_image.flip(0), EMBEDDING), found, atol=1e-3)
    assert not torch.allclose(former(f_mask, f_image, EMBEDDING.flip(0)), found, atol=1e-3)


def attended(anchor):
    return anchor(random_map((7, 6), 3), anchor.image_gate(random_map((7, 6))))


def transformed(former):
    return former(random_map((7, 6), 12), random_map((7, 6)), EMBEDDING)


@pytest.mark.parametrize("module, output_of", [(AnchorAttention(2, 4, 3), attended),
                                               (SpectrumTransformer(2, 4, 12, 1, 3, 6, 0.0), transformed)])
def test_every_parameter_learns(module, output_of):
    output_of(randomised(module)).square().mean().backward()
    assert [name for name, p in module.named_parameters() if not p.grad.any()] == []
