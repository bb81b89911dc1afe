"""What the benchmark of coherence draws: the predictor's samples, on tiles that lie as usual or halfway between."""

import numpy as np
import pytest
import torch

from medsegdiff_auto.benchmarks.uncertainty.coherence import (BETWEEN_TO, COHERENT, INSIDE_FROM, KINDS, MovableTiles,
                                                              TiledSampler)
from medsegdiff_auto.inference.model import load_model
from medsegdiff_auto.inference.prediction import prepare_case
from medsegdiff_auto.inference.predictor import MedSegDiffPredictor, SamplingOptions


def nearest_tiles(tiles):
    """Per voxel the number of the tile in whose window it lies deepest, and how far ahead of the second that is."""
    weights = np.stack([
        np.pad(tiles.window.numpy(), [(place.start, size - place.stop) for place, size in zip(places, tiles.shape)])
        for places in tiles.places
    ])
    first, second = np.sort(weights, 0)[[-1, -2]]
    return weights.argmax(0), first / np.maximum(second, 1e-30)


def test_without_blending_every_voxel_is_its_nearest_tiles(chain_2d, folders):
    folders(chain_2d.root)
    predictor = MovableTiles(load_model(chain_2d.model, [0]), SamplingOptions(2, num_mirrors=1))
    size = 2 * predictor.patch_size[0]
    blended = predictor.tiles_of((1, size, size))
    nearest, lead = nearest_tiles(blended)
    predictor.is_blended = False
    numbers = predictor.tiles_of((1, size, size)).blended(
        (), lambda index: torch.full(predictor.patch_size, float(index))).numpy()
    clear = lead > 4
    assert clear.mean() > 0.5 and np.abs(numbers - nearest)[clear].max() < 1e-3 * len(blended)


@pytest.mark.parametrize("dimension, kind", [*(("2d", kind) for kind in KINDS), ("3d", next(iter(KINDS)))])
def test_tiles_move_by_half_of_their_distance_and_samples_stay_the_predictors(request, folders, dimension, kind):
    chain = request.getfixturevalue(f"chain_{dimension}")
    folders(chain.root)
    model = load_model(chain.model, [0])
    data, _ = prepare_case(model, sorted((chain.raw / "imagesTs").glob(f"{chain.cases[0]}_*")))
    sampler, patch = TiledSampler(model, 2), model.configuration_manager.patch_size
    data = data[(..., *(slice(3 * size // 4) for size in patch))]  # few tiles, one of them inside
    (samples, share), (moved, moved_share) = (sampler.draw(kind, data, "case", are_moved)
                                              for are_moved in (False, True))
    assert samples.shape[-3:] == share.shape == data.shape[1:] and samples.shape == moved.shape
    assert ((0 <= samples) & (samples <= 1)).all() and not torch.allclose(samples, moved, atol=1e-3)
    for inside, between in ((share, moved_share), (moved_share, share)):  # what the benchmark compares is there
        assert ((inside >= INSIDE_FROM) & (between <= BETWEEN_TO)).any()
    margin = [0] * (3 - len(patch)) + [3 * size // 4 for size in patch]
    continued = np.pad(data, [(0, 0), *((one, one) for one in margin)], "symmetric")
    expected = MedSegDiffPredictor(model, SamplingOptions(2, num_mirrors=1)).sample_case(continued,
                                                                                         "case").samples.float()
    own = tuple(slice(first, first + size) for first, size in zip(margin, data.shape[1:]))
    assert torch.equal(samples, expected[(..., *own)]) == (kind == COHERENT)
