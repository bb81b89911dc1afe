"""The FF-Parser as a filter."""

import pytest
import torch

from medsegdiff_auto.networks.ff_parser import FFParser

SIZES = [(8, 8), (7, 9), (6, 11), (4, 6, 8), (5, 7, 3), (4, 9, 6)]


def features(*size, batch_size=2, channels=3):
    return torch.randn(batch_size, channels, *size, generator=torch.Generator().manual_seed(0))


def randomised_parser(dimension, channels=3, grid_size=5):
    parser, generator = FFParser(dimension, channels, grid_size), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in parser.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return parser


@pytest.mark.parametrize("size", [(9,), *SIZES], ids=str)
def test_the_parser_is_the_identity_at_initialisation(size):
    x = features(*size)
    assert torch.allclose(FFParser(len(size), 3)(x), x, atol=1e-5)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_learned_filter_commutes_with_circular_shifts(size):
    parser, x = randomised_parser(len(size)), features(*size)
    axes, shifts = tuple(range(2, x.ndim)), (2, 3, 1)[:len(size)]
    shifted_after = torch.roll(parser(x), shifts, axes)
    assert torch.allclose(parser(torch.roll(x, shifts, axes)), shifted_after, atol=1e-5)
    assert not torch.allclose(parser(x), x, atol=0.1)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_grid_twice_as_fine_has_the_same_response_at_the_same_frequencies(size):
    parser = randomised_parser(len(size))
    fine = parser.filter_at(tuple(2 * n for n in size))
    at_integer_periods = [torch.arange(n) * 2 for n in size[:-1]] + [torch.arange(size[-1] // 2 + 1) * 2]
    for axis, index in enumerate(at_integer_periods):
        fine = fine.index_select(axis + 1, index)
    assert torch.allclose(fine, parser.filter_at(size), atol=1e-5)


def test_a_periodic_pattern_is_filtered_alike_in_a_patch_twice_as_large():
    parser, x = randomised_parser(2), features(6, 7)
    assert torch.allclose(parser(x.tile(1, 1, 2, 2)), parser(x).tile(1, 1, 2, 2), atol=1e-5)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_filter_that_passes_only_the_lowest_frequency_gives_the_mean(size):
    parser, x = FFParser(len(size), 3, grid_size=33), features(*size)
    with torch.no_grad():
        parser.filter_real.zero_()
        center = (slice(None), *[16] * (len(size) - 1), 0)
        parser.filter_real[center] = 1.0
    mean = x.mean(tuple(range(2, x.ndim)), keepdim=True)
    assert torch.allclose(parser(x), mean.expand_as(x), atol=1e-5)


def test_an_imaginary_filter_shifts_a_wave_by_a_quarter_of_its_period():
    """A = i on the non-negative half of the last axis turns cos into -sin; along one axis, the field being constant."""
    parser = FFParser(2, 1, grid_size=5)
    with torch.no_grad():
        parser.filter_real.zero_()
        parser.filter_imaginary.fill_(1.0)
    angle = 2 * torch.pi * 2 * torch.arange(16) / 16
    wave = torch.cos(angle).expand(1, 1, 4, 16)
    assert torch.allclose(parser(wave), -torch.sin(angle).expand(1, 1, 4, 16), atol=1e-5)


def test_every_channel_has_a_filter_of_its_own():
    parser, x = FFParser(2, 2), features(6, 6, channels=2)
    with torch.no_grad():
        parser.filter_real[1] = 0.0
    found = parser(x)
    assert torch.allclose(found[:, 0], x[:, 0], atol=1e-5)
    assert found[:, 1].abs().max() < 1e-6


@pytest.mark.parametrize("size", [(6, 7), (5, 4, 6)], ids=str)
def test_autocast_does_not_change_what_is_computed(size):
    parser, x = randomised_parser(len(size)), features(*size)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = parser(x)
        from_half = parser(x.bfloat16())
    assert found.dtype == torch.float32 and not found.is_complex()
    assert torch.equal(found, parser(x))
    assert from_half.dtype == torch.bfloat16
    assert torch.equal(from_half, parser(x.bfloat16().float()).bfloat16())


def test_an_even_grid_is_refused():
    with pytest.raises(ValueError, match="grid_size is 8, expected an odd number"):
        FFParser(2, 1, 8)


@pytest.mark.parametrize("changed", ["copied", "loaded", "replaced"])
def test_in_inference_mode_a_kept_filter_follows_every_change(changed):
    """It follows the stored values, changed in place or not, and the size; and it is not computed again where nothing
    changes.
    """
    parser, other, x = randomised_parser(2), FFParser(2, 3, 5), features(6, 9)
    expected = parser(x).detach()
    with torch.inference_mode():
        assert torch.equal(parser(x), expected) and torch.equal(parser(x), expected)
        kept = parser._filter((6, 9))
        assert parser._filter((6, 9)) is kept and parser._filter((9, 6)).shape == (3, 9, 4)
        if changed == "copied":
            parser.filter_real.copy_(other.filter_real)
            parser.filter_imaginary.copy_(other.filter_imaginary)
        else:
            parser.load_state_dict(other.state_dict(), assign=changed == "replaced")
        assert torch.allclose(parser(x), x, atol=1e-5) and not torch.allclose(expected, x, atol=0.1)
    parser.filter_real.grad = None
    parser(x).square().sum().backward()
    assert parser.filter_real.grad.abs().max() > 0
