"""The mean of plain networks with samples, or with their expected mask."""

import pytest
import torch

from medsegdiff_auto.decision.fused_mean import EXPECTED, PLAIN, SAMPLE, FusedMean
from medsegdiff_auto.inference.predictor import CaseDistribution
from medsegdiff_auto.sampling.volume_store import InMemory

VOLUMES = torch.rand(5, 2, 3, 4, 4, generator=torch.Generator().manual_seed(0))


def fused(weight, kinds):
    mean = FusedMean(weight)
    for kind, volume in zip(kinds, VOLUMES):
        mean.add(kind, InMemory(volume))
        if weight < 1 and kind != PLAIN:
            assert torch.isfinite(mean.so_far().read()).all()
    return mean.finish().read()


def test_plain_networks_and_samples_are_means_of_their_own():
    found = fused(0.25, [PLAIN, SAMPLE, SAMPLE, PLAIN, SAMPLE])
    assert torch.allclose(found, 0.25 * VOLUMES[[0, 3]].mean(0) + 0.75 * VOLUMES[[1, 2, 4]].mean(0))


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_an_expected_mask_takes_the_place_of_the_samples_of_every_fold(weight):
    found = fused(weight, [PLAIN, EXPECTED, SAMPLE, SAMPLE])
    assert torch.allclose(found, weight * VOLUMES[0] + (1 - weight) * VOLUMES[1])
    of_two = fused(weight, [PLAIN, EXPECTED, SAMPLE, PLAIN, EXPECTED])
    assert torch.allclose(of_two, weight * VOLUMES[[0, 3]].mean(0) + (1 - weight) * VOLUMES[[1, 4]].mean(0))


def test_the_distribution_of_a_case_is_fused_likewise():
    plain, expected, samples = VOLUMES[0], VOLUMES[1], VOLUMES[2:]
    assert torch.allclose(CaseDistribution(plain, samples, 0.25, expected).fused, 0.25 * plain + 0.75 * expected)
    assert torch.allclose(CaseDistribution(plain, samples, 0.25).fused, 0.25 * plain + 0.75 * samples.mean(0))
