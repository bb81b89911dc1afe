"""Smooth fields: unit variance everywhere, correlated over a structure, the same in whatever slices they are asked for.
"""

import pytest
import torch

from medsegdiff_auto.diffusion.smooth_field import SmoothField, correlation_vox, interpolation

SHAPE, DISTANCE = (2, 9, 14, 11), (4.0, 6.0, 3.5)
WHOLE = (slice(None),) * 3


def fields(count):
    return torch.stack([SmoothField(SHAPE, DISTANCE, seed).at(WHOLE) for seed in range(count)])


def test_every_voxel_is_standard_normal_over_seeds():
    drawn = fields(2000)
    assert drawn.mean(0).abs().max() < 5 / 2000 ** 0.5
    assert drawn.var(0).mean().item() == pytest.approx(1, abs=0.02)
    assert (drawn.var(0) - 1).abs().max() < 6 * (2 / 2000) ** 0.5


def test_neighbours_agree_and_voxels_two_nodes_apart_do_not():
    drawn = fields(2000)
    near = (drawn[:, :, :, 5] * drawn[:, :, :, 6]).mean().item()
    far = (drawn[:, :, :, 0] * drawn[:, :, :, 13]).mean().item()
    assert near > 0.9 and abs(far) < 0.05


def test_a_place_is_the_same_alone_and_in_the_whole_and_channels_are_independent():
    field = SmoothField(SHAPE, DISTANCE, 3)
    whole = field.at(WHOLE)
    for place in ((slice(0, 4), slice(3, 14), slice(2, 9)), (slice(8, 9), slice(0, 1), slice(None))):
        assert torch.allclose(field.at(place), whole[(slice(None), *place)], atol=1e-6)
    assert torch.equal(SmoothField(SHAPE, DISTANCE, 3).at(WHOLE), whole)
    drawn = fields(2000)
    assert abs((drawn[:, 0] * drawn[:, 1]).mean().item()) < 0.02


def test_rows_of_the_interpolation_have_unit_norm_and_two_neighbouring_nodes():
    matrix = interpolation(20, 3.7, 0.4)
    assert torch.allclose(matrix.norm(dim=1), torch.ones(20))
    assert ((matrix > 0).sum(1) <= 2).all()


def test_nodes_lie_a_structure_apart_and_slices_of_a_2d_plan_get_the_mean():
    assert correlation_vox((5.0, 10.0, 15.0), 3) == (5.0, 10.0, 15.0)
    assert correlation_vox((5.0, 10.0), 3) == (7.5, 5.0, 10.0)
    assert correlation_vox((0.5, 1.0), 2) == (1.0, 1.0)
