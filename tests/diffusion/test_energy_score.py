"""The energy score against closed forms, an oracle and what it is for: its minimiser is the truth."""

import itertools
import math

import numpy as np
import pytest
import scoringrules
import torch

from medsegdiff_auto.diffusion.energy_score import energy_score, multiscale_distance


def maps(*values, dimension=1):
    """(1, 1, n[, 1...]) float64 of one list of n values."""
    return torch.tensor(values, dtype=torch.float64).reshape(1, 1, -1, *[1] * (dimension - 1))


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_distance_is_the_mean_over_scales_of_halved_block_differences(dimension):
    """|P - Q| = 1, 1, 0, 0 with signs +, -, 0, 0: voxels 1/4, pairs 0, all 0; three scales."""
    found = multiscale_distance(maps(1, 0, 0, 0, dimension=dimension), maps(0, 1, 0, 0, dimension=dimension))
    assert found.item() == pytest.approx((0.5 * 2 / 4 + 0 + 0) / 3)
    same_sign = multiscale_distance(maps(1, 1, 0, 0, dimension=dimension), maps(0, 0, 0, 0, dimension=dimension))
    assert same_sign.item() == pytest.approx(0.5 * (2 / 4 + 1 / 2 + 1 / 2) / 3)


def test_an_odd_size_counts_every_voxel_once():
    """Three voxels, differences 0, 0, 1: voxels 1/3; pairs (0, 0) and (1, beyond the border) 1/3; all 1/3."""
    assert multiscale_distance(maps(0, 0, 1), maps(0, 0, 0)).item() == pytest.approx(0.5 / 3)
    two_axes = torch.zeros(1, 1, 3, 5, dtype=torch.float64)
    two_axes[..., 2, 4] = 1
    assert multiscale_distance(two_axes, torch.zeros_like(two_axes)).item() == pytest.approx(0.5 / 15)


def test_class_weights_scale_their_channels_and_ignored_voxels_are_not_seen():
    first, second = torch.zeros(1, 2, 4, dtype=torch.float64), torch.zeros(1, 2, 4, dtype=torch.float64)
    first[0, 0], first[0, 1, :2] = 1, 1
    assert multiscale_distance(first, second, (0.0, 3.0)).item() == pytest.approx(
        3 * multiscale_distance(first[:, 1:], second[:, 1:]).item())
    valid = torch.tensor([True, False, True, True]).reshape(1, 1, 4)
    changed = first.clone()
    changed[0, :, 1] = 0.3
    assert torch.equal(multiscale_distance(first, second, valid=valid), multiscale_distance(changed, second,
                                                                                            valid=valid))
    nothing = multiscale_distance(first, second, valid=torch.zeros_like(valid))
    assert nothing.item() == 0


@pytest.mark.parametrize("m", [2, 3, 5])
def test_of_single_voxels_it_is_the_fair_crps(m):
    generator = np.random.default_rng(0)
    draws, reference = generator.random((m, 6)), generator.random(6)
    oracle = scoringrules.crps_ensemble(reference, draws.T, estimator="fair").mean() / 2
    found = energy_score(torch.tensor(draws)[:, :, None, None], torch.tensor(reference)[:, None, None])
    assert found.item() == pytest.approx(oracle)


def test_of_single_blocks_it_is_the_fair_crps_of_their_means():
    """Maps that are constant: every scale sees the same number."""
    generator = np.random.default_rng(1)
    draws, reference = generator.random((4, 3)), generator.random(3)
    oracle = scoringrules.crps_ensemble(reference, draws.T, estimator="fair").mean() / 2
    constant = torch.tensor(draws)[:, :, None, None, None].expand(4, 3, 1, 6, 4)
    found = energy_score(constant, torch.tensor(reference)[:, None, None, None].expand(3, 1, 6, 4))
    assert found.item() == pytest.approx(oracle)


def test_the_estimator_is_unbiased_for_any_number_of_draws():
    """Over all draws of m from three masks with probabilities 1/2, 1/4, 1/4, the mean is the score itself."""
    masks = [maps(1, 1, 0, 0), maps(0, 1, 1, 0), maps(0, 0, 0, 1)]
    probability, reference = [0.5, 0.25, 0.25], maps(0, 1, 0, 0)
    d = multiscale_distance
    exact = sum(p * d(x, reference) for p, x in zip(probability, masks)) - 0.5 * sum(
        p * q * d(x, y) for p, x in zip(probability, masks) for q, y in zip(probability, masks))
    for m in (2, 3):
        mean = sum(math.prod(probability[k] for k in drawn) * energy_score(torch.stack([masks[k] for k in drawn]),
                                                                           reference)
                   for drawn in itertools.product(range(3), repeat=m))
        assert mean.item() == pytest.approx(exact.item())


def expected_score(theta, truth, masks):
    """E_Y of the exact score of a mixture of masks with these probabilities."""
    d = multiscale_distance
    to_truth = sum(q * t * d(x, y) for q, x in zip(theta, masks) for t, y in zip(truth, masks))
    return (to_truth - 0.5 * sum(p * q * d(x, y) for p, x in zip(theta, masks) for q, y in zip(theta, masks))).item()


@pytest.mark.parametrize("truth", [(0.7, 0.3), (0.2, 0.8)])
def test_the_truth_is_the_only_minimiser_over_mixtures_of_two_masks(truth):
    masks = [maps(1, 1, 1, 0, 0, 0), maps(0, 1, 1, 1, 1, 0)]
    shares = np.linspace(0, 1, 101)
    scores = [expected_score((share, 1 - share), truth, masks) for share in shares]
    assert shares[int(np.argmin(scores))] == pytest.approx(truth[0])
    assert np.all(np.diff(scores)[shares[:-1] < truth[0] - 1e-9] < 0)
    assert np.all(np.diff(scores)[shares[:-1] > truth[0] + 1e-9] > 0)


def test_sizes_that_go_together_are_told_from_sizes_that_do_not():
    """Voxels that are on together or off together, half of the time: independent voxels of the same marginals score
    worse, which a voxel-wise distance alone does not see.
    """
    corners = [maps(*corner) for corner in itertools.product((0, 1), repeat=2)]
    together, independent = (0.5, 0, 0, 0.5), (0.25,) * 4
    assert expected_score(together, together, corners) < expected_score(independent, together, corners) - 0.01


def test_its_gradient_is_that_of_finite_differences():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 1, 3, 5, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    reference = torch.nn.functional.one_hot(torch.randint(0, 3, (1, 5, 3), generator=generator), 3).movedim(-1, 1)
    valid = torch.rand(1, 1, 5, 3, generator=generator) > 0.3
    assert torch.autograd.gradcheck(
        lambda x: energy_score(x.softmax(2), reference.double(), (0.0, 1.0, 2.0), valid), logits)
