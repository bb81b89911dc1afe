"""What the benchmark of coherence draws: the predictor's samples, on tiles that lie as usual or halfway between."""

import numpy as np
import pytest
import torch

from medsegdiff_auto.benchmarks.coherence import BETWEEN_TO, COHERENT, INDEPENDENT, INSIDE_FROM, TiledSampler
from medsegdiff_auto.inference.model import load_model
from medsegdiff_auto.inference.prediction import prepare_case
from medsegdiff_auto.inference.predictor import MedSegDiffPredictor, SamplingOptions


@pytest.mark.parametrize("kind", [COHERENT, INDEPENDENT])
def test_tiles_move_by_half_of_their_distance_and_samples_stay_the_predictors(chain, folders, kind):
    folders(chain.root)
    model = load_model(chain.model, [0])
    data, _ = prepare_case(model, sorted((chain.raw / "imagesTs").glob(f"{chain.cases[0]}_*")))
    sampler, patch = TiledSampler(model, 2), model.configuration_manager.patch_size
    data = data[(..., *(slice(3 * size // 4) for size in patch))]  # few tiles, one of them inside
    (samples, share), (moved, moved_share) = (sampler.draw(kind, data, "case", are_moved) for are_moved in (False, True))
    assert samples.shape[-3:] == share.shape == data.shape[1:] and samples.shape == moved.shape
    assert ((0 <= samples) & (samples <= 1)).all() and not torch.allclose(samples, moved, atol=1e-3)
    for inside, between in ((share, moved_share), (moved_share, share)):  # what the benchmark compares is there
        assert ((inside >= INSIDE_FROM) & (between <= BETWEEN_TO)).any()
    margin = [0] * (3 - len(patch)) + [3 * size // 4 for size in patch]
    continued = np.pad(data, [(0, 0), *((one, one) for one in margin)], "symmetric")
    expected = MedSegDiffPredictor(model, SamplingOptions(2, num_mirrors=1)).sample_case(continued, "case").samples.float()
    own = tuple(slice(first, first + size) for first, size in zip(margin, data.shape[1:]))
    assert torch.equal(samples, expected[(..., *own)]) == (kind == COHERENT)
