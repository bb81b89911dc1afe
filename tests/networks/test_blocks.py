"""Space-to-depth, residual blocks and attention."""

import pytest
import torch
from tiny_networks import randomised

from medsegdiff_auto.networks.blocks import (FiLMResidualBlock, SpatialAttention, along_last, between_cells,
                                             between_cells_but_last, convolution,
                                             convolve_cells, depth_to_space, group_norm, space_to_depth)

FACTORS = [((6, 8), (2, 2)), ((6, 9), (2, 3)), ((4, 6, 8), (1, 2, 2)), ((4, 3, 8), (2, 1, 4)), ((4, 6, 8), (2, 2, 2))]


def values(*shape):
    return torch.arange(torch.Size(shape).numel(), dtype=torch.float32).reshape(shape)


@pytest.mark.parametrize("size, factor", FACTORS, ids=str)
def test_depth_to_space_undoes_space_to_depth_exactly(size, factor):
    x = values(2, 3, *size)
    cells = space_to_depth(x, factor)
    assert torch.equal(depth_to_space(cells, factor), x)
    assert torch.equal(space_to_depth(depth_to_space(cells, factor), factor), cells)


@pytest.mark.parametrize("kernel", [(3, 3, 3), (1, 3, 3), (1, 1, 1)], ids=str)
@pytest.mark.parametrize("size, cell", [((4, 6, 8), (1, 1, 1)), ((4, 6, 8), (1, 2, 2)), ((8, 6, 12), (2, 1, 4)),
                                        ((8, 12, 6), (2, 2, 2))], ids=str)
def test_cells_are_convolved_the_same_in_either_memory_order(size, cell, kernel):
    """Values and gradients."""
    torch.manual_seed(0)
    x, found = torch.randn(2, 3, *size), []
    convolve = convolution(3, 3 * torch.Size(cell).numel(), 5, kernel)
    of_output = torch.randn(2, 5, *[n // f for n, f in zip(size, cell)])
    for order in (torch.contiguous_format, torch.channels_last_3d):
        convolve.to(memory_format=order).zero_grad()
        values = convolve_cells(convolve, x, cell)
        (values * of_output).sum().backward()
        found.append((values.detach(), *(p.grad.clone() for p in convolve.parameters())))
    assert torch.allclose(found[0][0], convolve(space_to_depth(x, cell)), atol=1e-5)
    assert all(torch.allclose(one, other, atol=1e-4) for one, other in zip(*found))


@pytest.mark.parametrize("size, factor", FACTORS, ids=str)
def test_the_channels_of_a_position_are_the_voxels_of_its_cell(size, factor):
    x = values(1, 2, *size)
    cells = space_to_depth(x, factor)
    position = tuple(n // f - 1 for n, f in zip(size, factor))
    cell = x[(0, slice(None), *[slice(p * f, (p + 1) * f) for p, f in zip(position, factor)])]
    assert torch.equal(cells[(0, slice(None), *position)], cell.flatten())


@pytest.mark.parametrize("dimension", [2, 3])
def test_a_residual_block_of_equal_width_is_the_identity_at_initialisation(dimension):
    block = FiLMResidualBlock(dimension, 4, 4, (3,) * dimension, 6)
    x = torch.randn(2, 4, *(5, 4, 3)[:dimension])
    assert torch.equal(block(x, torch.randn(2, 6)), x)


@pytest.mark.parametrize("dimension", [2, 3])
def test_a_trained_residual_block_depends_on_the_time_of_its_own_sample_only(dimension):
    block = randomised(FiLMResidualBlock(dimension, 4, 8, (3,) * dimension, 6))
    x, embedding = torch.randn(2, 4, *(5, 4, 3)[:dimension]), torch.randn(2, 6)
    changed = embedding.clone()
    changed[1] += 1
    before, after = block(x, embedding), block(x, changed)
    assert torch.equal(before[0], after[0])
    assert not torch.allclose(before[1], after[1], atol=1e-3)


def test_attention_is_the_identity_at_initialisation_and_blind_to_order_later():
    attention, x = SpatialAttention(8, 2), torch.randn(2, 8, 3, 4)
    assert torch.equal(attention(x), x)
    attention, order = randomised(attention), torch.randperm(12)
    permuted = x.flatten(2)[:, :, order].reshape(x.shape)
    expected = attention(x).flatten(2)[:, :, order].reshape(x.shape)
    assert torch.allclose(attention(permuted), expected, atol=1e-5)
    assert not torch.allclose(attention(x), x, atol=1e-2)


def test_heads_that_do_not_divide_the_channels_are_refused():
    with pytest.raises(ValueError, match="6 channels do not divide into 4"):
        SpatialAttention(6, 4)


@pytest.mark.parametrize("channels, groups", [(32, 8), (12, 6), (7, 7), (11, 1)])
def test_group_norm_takes_the_largest_divisor_up_to_eight(channels, groups):
    assert group_norm(channels).num_groups == groups


@pytest.mark.parametrize("cell", [(4, ), (2, 4), (1, 2, 4)], ids=str)
def test_values_of_cells_lie_linearly_between_their_centres(cell):
    centres = torch.meshgrid(*[torch.arange(5) * size + (size - 1) / 2 for size in cell], indexing="ij")
    voxels = torch.meshgrid(*[torch.arange(5.0 * size) for size in cell], indexing="ij")
    found = between_cells((2 * sum(centres) + 1)[None, None], cell)[0, 0]
    by_rows = torch.cat([along_last(row, cell[-1]) for row in between_cells_but_last(
        (2 * sum(centres) + 1)[None, None], cell).split(1, 2)], 2) if len(cell) > 1 else found[None, None]
    assert torch.allclose(by_rows[0, 0], found, atol=1e-5)
    clamped = sum(place.clamp((size - 1) / 2, 4 * size + (size - 1) / 2) for place, size in zip(voxels, cell))
    assert torch.allclose(found, 2 * clamped + 1, atol=1e-4)  # beyond the outermost centres constant
