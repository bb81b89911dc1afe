"""Blending over a volume, swept along its first axis."""

import numpy as np
import pytest
import torch
from nnunetv2.inference.sliding_window_prediction import compute_gaussian, compute_steps_for_sliding_window

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.nnunet.windows import require_few_tiles
from medsegdiff_auto.sampling.tiling import Tiles

CASES = [((11, 9, 7), (4, 5, 3)), ((4, 5, 3), (4, 5, 3)), ((3, 12, 10), (6, 5)), ((25, 5, 3), (4, 5, 3))]


def slicers(shape, patch):
    steps = compute_steps_for_sliding_window(shape[-len(patch):], patch, 0.5)
    places = [()]
    for along, size in zip(steps, patch):
        places = [(*place, slice(a, a + size)) for place in places for a in along]
    first = [(d,) for d in range(shape[0])] if len(patch) < len(shape) else [()]
    return [(slice(None), *d, *place) for d in first for place in places]


@pytest.mark.parametrize("shape, patch", CASES, ids=str)
def test_a_volume_cut_into_tiles_and_blended_is_itself(shape, patch):
    volume = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    tiles = Tiles(shape, patch, slicers(shape, patch))
    assert torch.allclose(tiles.blended((2,), lambda index: tiles.cut(volume, index)), volume, atol=1e-5)


@pytest.mark.parametrize("shape, patch", CASES, ids=str)
def test_tiles_are_weighted_with_nnunets_window(shape, patch):
    window = compute_gaussian(patch, sigma_scale=1 / 8, value_scaling_factor=10, dtype=torch.float32,
                              device=torch.device("cpu"))
    tiles, places = Tiles(shape, patch, slicers(shape, patch)), slicers(shape, patch)
    total, weight = torch.zeros(shape), torch.zeros(shape)
    values = {}
    for number, at in enumerate(places):
        key = tuple(one.start if isinstance(one, slice) else one for one in at[1:])
        values[key] = float(number + 1)
        total[at[1:]] += values[key] * window
        weight[at[1:]] += window

    def of_tile(index):
        return torch.full((1, *patch), values[tuple(one.start for one in tiles.places[index])])

    assert torch.allclose(tiles.blended((1,), of_tile)[0], total / weight, atol=1e-4)


@pytest.mark.parametrize("shape, patch", CASES, ids=str)
def test_the_sweep_hands_out_every_slice_once_in_order_and_only_when_it_is_final(shape, patch):
    tiles, seen, covered = Tiles(shape, patch, slicers(shape, patch)), [], []

    def of_tile(index):
        covered.append(tiles.places[index][0])
        return torch.zeros((1, *patch))

    for at, values in tiles.sweep((1,), of_tile):
        assert values.shape == (1, at.stop - at.start, *shape[1:])
        later = [place[0].start for place in tiles.places][len(covered):]
        assert all(start >= at.stop for start in later)
        seen += range(at.start, at.stop)
    assert seen == list(range(shape[0])) and len(covered) == len(tiles)


def test_the_order_of_the_tiles_does_not_change_a_bit():
    shape, patch = CASES[0]
    places = slicers(shape, patch)
    volume = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
    results = []
    for seed in (0, 1, 2):
        tiles = Tiles(shape, patch, [places[i] for i in np.random.default_rng(seed).permutation(len(places))])
        results.append(tiles.blended((1,), lambda index, tiles=tiles: tiles.cut(volume, index).exp()))
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


@pytest.mark.parametrize("shape, patch, step, num_tiles", [
    ((107, 100, 100), (8, 8, 8), 1 / 8, 100 * 93 * 93), ((108, 107, 107), (8, 8, 8), 1 / 8, 101 * 100 * 100),
    ((1000, 1031, 40), (32, 32), 1 / 32, 1000 * 1000 * 9), ((100, 107, 107), (8, 8), 1 / 8, 100 * 100 * 100)])
def test_tiles_are_counted_before_they_are_listed_and_more_than_a_million_are_refused(shape, patch, step, num_tiles):
    if num_tiles <= 1_000_000:
        require_few_tiles(shape, patch, step)
    else:
        with pytest.raises(UserError, match="never end") as refused:
            require_few_tiles(shape, patch, step)
        assert refused.value.found.startswith(f"{num_tiles} tiles of {list(patch)} voxels")
