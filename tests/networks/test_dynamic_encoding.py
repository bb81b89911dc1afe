"""The attentive fusion and dynamic conditional encoding."""

import pytest
import torch

from medsegdiff_auto.networks.dynamic_encoding import DynamicConditionalEncoding, attentive_fusion, layer_norm


def test_the_fusion_equals_the_example_worked_out_by_hand():
    """m_I = 1, 3, 5, 7: mean 4, variance 5. m_x = 2, 2, 6, 6: mean 4, variance 4. The last factor is m_I itself."""
    m_image = torch.tensor([[1.0, 3.0], [5.0, 7.0]]).reshape(1, 2, 2, 1)
    m_mask = torch.tensor([[2.0, 2.0], [6.0, 6.0]]).reshape(1, 2, 2, 1)
    norm = layer_norm(2, affine=False)
    found = attentive_fusion(m_image, norm(m_image), norm(m_mask)).flatten()
    root = 5 ** -0.5
    expected = [-3 * root * -1 * 1, -1 * root * -1 * 3, 1 * root * 1 * 5, 3 * root * 1 * 7]
    assert found.tolist() == pytest.approx(expected, rel=1e-5)


def test_an_image_twice_as_bright_doubles_the_fusion():
    """True of (LN(m_I) * LN(m_x)) * m_I; a fusion whose last factor is normalised would not change."""
    generator, norm = torch.Generator().manual_seed(0), layer_norm(4)
    m_image, m_mask = (torch.randn(2, 4, 5, 6, generator=generator) for _ in range(2))
    once, twice = (attentive_fusion(m, norm(m), norm(m_mask)) for m in (m_image, 2 * m_image))
    assert torch.allclose(twice, 2 * once, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("size", [(4, 6), (3, 4, 5)], ids=str)
def test_layer_norm_standardises_over_channels_and_positions_of_each_sample(size):
    x = 3 + 5 * torch.randn(2, 4, *size, generator=torch.Generator().manual_seed(0))
    axes = tuple(range(1, x.ndim))
    expected = (x - x.mean(axes, keepdim=True)) / (x.var(axes, keepdim=True, unbiased=False) + 1e-5).sqrt()
    assert torch.allclose(layer_norm(4)(x), expected, atol=1e-5)


@pytest.mark.parametrize("size", [(4, 7), (3, 4, 5)], ids=str)
def test_dynamic_encoding_adds_projected_fusion_and_image_to_the_mask_features(size):
    generator = torch.Generator().manual_seed(0)
    encoding = DynamicConditionalEncoding(len(size), 2, 2, filter_grid_size=5)
    one = torch.ones((1,) * len(size))
    with torch.no_grad():
        encoding.image_projection.weight.copy_(torch.eye(2)[(...,) + (None,) * len(size)] * one)
        encoding.image_projection.bias.zero_()
        for projection, factor in ((encoding.attended_projection, 2), (encoding.shown_projection, 3)):
            projection.weight.copy_(factor * torch.eye(2)[(...,) + (None,) * len(size)] * one)
            projection.bias.zero_()
    m_image, m_mask = (torch.randn(2, 2, *size, generator=generator) for _ in range(2))
    norm = layer_norm(2)
    expected = m_mask + 2 * attentive_fusion(m_image, norm(m_image), norm(m_mask)) + 3 * m_image
    assert torch.allclose(encoding(m_mask, encoding.image_terms(m_image)), expected, atol=1e-4)
