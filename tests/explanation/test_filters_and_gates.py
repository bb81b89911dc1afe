"""The maps of filters and fusions hold what the modules do."""

import numpy as np
import pytest
import torch

from medsegdiff_auto.explanation.record import draw, recorded_gates
from medsegdiff_auto.explanation.responses import Response, frequencies, parser_response, profile, responses
from medsegdiff_auto.networks.ff_parser import FFParser
from medsegdiff_auto.networks.dynamic_encoding import DynamicConditionalEncoding
from medsegdiff_auto.networks.medsegdiff_v2 import AnchorAttention

NUM_FILTERS = {"auto": 2, "state": 2, "paper": 3, "paper_v2": 4, "simple_diffusion": 0}
NUM_GATES = {"auto": 2, "state": 2, "paper": 3, "paper_v2": 1, "simple_diffusion": 0}


@pytest.mark.parametrize("dimension", [2, 3])
def test_an_identity_filter_is_drawn_as_the_constant_1(dimension):
    np.testing.assert_allclose(parser_response(FFParser(dimension, 3, 5)), np.ones((3, 33, 33)), atol=1e-5)


@pytest.mark.parametrize("dimension", [2, 3])
def test_a_filter_that_rises_with_the_last_frequency_is_drawn_so(dimension):
    """Real part 1 + 2 |f|, imaginary part f: linear on f >= 0, which is what is stored and interpolated."""
    parser = FFParser(dimension, 2, 5)
    stored = torch.linspace(0, 0.5, 3)
    with torch.no_grad():
        parser.filter_real[1] = 1 + 2 * stored
        parser.filter_imaginary[1] = stored
    expected = np.broadcast_to(1 + 2 * np.abs(frequencies()) + 1j * frequencies(), (33, 33))
    found = parser_response(parser)
    np.testing.assert_allclose(found[0], 1, atol=1e-5)
    np.testing.assert_allclose(found[1], expected, atol=1e-5)
    one = Response("stage 1", np.ones_like(found), found)
    assert one.most_changed == 1


def test_the_profile_of_a_map_of_the_distance_is_the_distance():
    f = frequencies()
    radii, found = profile(np.hypot(f[:, None], f)[None])
    np.testing.assert_allclose(found[0], radii, atol=0.5 / 33)
    assert found[0][0] == 0 and radii[-1] == pytest.approx(16 / 33)


def test_every_filter_of_a_preset_is_the_identity_before_training(network, preset):
    found = responses(network)
    assert len(found) == NUM_FILTERS[preset]
    for one in found:
        np.testing.assert_allclose(one.before, 1, atol=1e-5)
        assert np.abs(one.after - 1).max() > 0.01


def test_every_gate_lies_between_0_and_1_at_every_step_and_belongs_to_the_drawn_plane(network, predictor, tile, preset):
    gates = draw(predictor, tile).gates
    assert len(gates) == NUM_GATES[preset]
    for gate in gates:
        assert len(gate.maps) == (3 if network.configuration.network.sees_state else 1)
        for values in gate.maps:
            assert values.shape == gate.size[-2:]
            assert values.min() >= 0 and values.max() <= 1
            assert gate.kind == "anchor" or values.max() == pytest.approx(1)
    assert not any(module._forward_hooks for module in network.modules())


def test_the_gate_of_a_fusion_is_the_size_of_its_weight(make):
    plane = make.tile(2, "regions").plane
    fusion = DynamicConditionalEncoding(2, 3, 4, filter_grid_size=5)
    m_mask, m_image = torch.randn(1, 4, 20, 16), torch.randn(1, 3, 20, 16)
    with torch.no_grad(), recorded_gates(fusion, plane) as gates:
        fusion(m_mask, fusion.image_terms(m_image))
        # the filter is the identity
        weight = fusion.norm_image(fusion.image_projection(m_image)) * fusion.norm_mask(m_mask)
    expected = weight[0].abs().mean(0)
    assert len(gates) == 1 and gates[0].size == (20, 16)
    np.testing.assert_allclose(gates[0].maps[0], (expected / expected.max()).numpy(), atol=1e-5)


def test_the_gate_of_an_anchor_is_its_mean_sigmoid(make):
    plane = make.tile(2, "regions").plane
    anchor = AnchorAttention(2, 3, 4)
    with torch.no_grad():
        anchor.projection.weight.zero_()
        anchor.projection.bias.copy_(torch.tensor([0.0, 0.0, 50.0, -50.0]))
        with recorded_gates(anchor, plane) as gates:
            anchor(torch.randn(1, 4, 8, 8), anchor.image_gate(torch.randn(1, 3, 8, 8)))
    np.testing.assert_allclose(gates[0].maps[0], 0.5, atol=1e-6)
