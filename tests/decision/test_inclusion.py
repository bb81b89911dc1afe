"""Maps of inclusion by counting by hand."""

import numpy as np
import pytest

from medsegdiff_auto.decision.inclusion import inclusion_map
from medsegdiff_auto.sampling.volume_store import in_memory


@pytest.mark.parametrize("num_samples, expected", [
    (1, {0: 0, 1: 95}), (3, {0: 0, 1: 5, 2: 50, 3: 95}), (4, {0: 0, 1: 5, 2: 50, 3: 50, 4: 95}),
    (20, {0: 0, 1: 5, 9: 5, 10: 50, 18: 50, 19: 95, 20: 95}), (40, {1: 0, 2: 5, 19: 5, 20: 50, 37: 50, 38: 95})])
def test_a_voxel_bears_the_highest_share_that_the_samples_reach(num_samples, expected):
    """Voxel n is held by n samples: by label 2 in the even ones, by label 3 in the odd ones."""
    held = np.arange(num_samples + 1)[None, None]
    samples = [in_memory(np.where(held > number, 2 + number % 2, 1).astype(np.uint8)) for number in range(num_samples)]
    found = inclusion_map(samples, (2, 3))
    assert {number: int(found[0, 0, number]) for number in expected} == expected
    assert not inclusion_map(samples, (4, )).any()
