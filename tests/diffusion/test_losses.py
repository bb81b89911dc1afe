"""Losses against numbers worked out by hand."""

import math

import pytest
import torch
from torch.nn import functional as F

from medsegdiff_auto.diffusion.losses import (anchor_loss, cross_entropy, masked_mean, mse, multiscale_mse,
                                              soft_dice_loss)


def voxels(*channels, dimension=2):
    """(1, K, n, 1[, 1]) from one list of n values per channel."""
    values = torch.tensor(channels, dtype=torch.float64)
    return values.reshape(1, *values.shape, *[1] * (dimension - 1))


@pytest.mark.parametrize("dimension", [2, 3])
def test_cross_entropy_of_classes_is_minus_the_log_probability_of_the_reference(dimension):
    """p = (1/4, 3/4) and (1/2, 1/2); the references are class 1 and class 0."""
    logits = voxels([0.0, 2.0], [math.log(3), 2.0], dimension=dimension)
    x_start = voxels([-1.0, 1.0], [1.0, -1.0], dimension=dimension)
    first, second = math.log(4 / 3), math.log(2)
    assert cross_entropy(logits, x_start, "classes").item() == pytest.approx((first + second) / 2)
    valid = voxels([1.0, 0.0], dimension=dimension).bool()
    assert cross_entropy(logits, x_start, "classes", valid).item() == pytest.approx(first)


@pytest.mark.parametrize("dimension", [2, 3])
def test_cross_entropy_of_regions_is_binary_and_averaged_over_regions(dimension):
    """Region probabilities 3/4, 1/2 (inside, outside) in voxel 0; 1/4, 1/2 (inside, inside) in voxel 1."""
    logits = voxels([math.log(3), -math.log(3)], [0.0, 0.0], dimension=dimension)
    x_start = voxels([1.0, 1.0], [-1.0, 1.0], dimension=dimension)
    first, second = math.log(4 / 3) + math.log(2), math.log(4) + math.log(2)
    assert cross_entropy(logits, x_start, "regions").item() == pytest.approx((first + second) / 4)
    valid = voxels([0.0, 1.0], dimension=dimension).bool()
    assert cross_entropy(logits, x_start, "regions", valid).item() == pytest.approx(second / 2)


def test_cross_entropy_of_classes_is_that_of_torch():
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(2, 4, 5, 6, generator=generator), torch.randint(0, 4, (2, 5, 6), generator=generator)
    x_start = F.one_hot(labels, 4).movedim(-1, 1) * 2.0 - 1
    assert cross_entropy(logits, x_start, "classes").item() == pytest.approx(F.cross_entropy(logits, labels).item())


@pytest.mark.parametrize("dimension", [2, 3])
def test_dice_loss_of_classes_leaves_the_background_out(dimension):
    """Foreground p = 3/4, 1/4 and y = 1, 0: Dice 2 (3/4) / (1 + 1); with the second voxel masked 2 (3/4) / (3/4 + 1).
    """
    logits = voxels([0.0, math.log(3)], [math.log(3), 0.0], dimension=dimension)
    x_start = voxels([-1.0, 1.0], [1.0, -1.0], dimension=dimension)
    assert soft_dice_loss(logits, x_start, "classes").item() == pytest.approx(1 - 0.75, abs=1e-4)
    valid = voxels([1.0, 0.0], dimension=dimension).bool()
    assert soft_dice_loss(logits, x_start, "classes", valid).item() == pytest.approx(1 - 6 / 7, abs=1e-4)


def test_dice_loss_of_regions_averages_over_all_regions():
    logits = voxels([math.log(3), -math.log(3)], [0.0, 0.0])
    x_start = voxels([1.0, -1.0], [1.0, 1.0])
    assert soft_dice_loss(logits, x_start, "regions").item() == pytest.approx(1 - (3 / 4 + 2 / 3) / 2, abs=1e-4)


def test_mse_is_the_mean_square_over_valid_voxels():
    predicted, noise = voxels([1.0, 0.0], [3.0, 5.0]), voxels([0.0, 2.0], [1.0, 4.0])
    assert mse(predicted, noise).item() == pytest.approx((1 + 4 + 4 + 1) / 4)
    assert mse(predicted, noise, valid=voxels([0.0, 1.0]).bool()).item() == pytest.approx((4 + 1) / 2)


def test_the_mean_over_no_valid_voxel_is_zero():
    assert masked_mean(voxels([1.0, 2.0], [3.0, 4.0]), voxels([0.0, 0.0]).bool()).item() == 0


def test_ignored_voxels_give_no_gradient():
    logits = torch.zeros(1, 2, 3, 1, requires_grad=True)
    x_start = torch.tensor([[-1.0, 0.0, 1.0], [1.0, 0.0, -1.0]]).reshape(1, 2, 3, 1)
    valid = torch.tensor([True, False, True]).reshape(1, 1, 3, 1)
    (cross_entropy(logits, x_start, "classes", valid) + soft_dice_loss(logits, x_start, "classes", valid)).backward()
    assert (logits.grad[:, :, 1] == 0).all()
    assert (logits.grad[:, :, [0, 2]] != 0).all()


def test_multiscale_adds_the_errors_of_the_averages_with_the_weight_one_over_side():
    """Side 4: errors (4, 0, 0, 0) square to a mean of 4; side 2: cell means (2, 0), mean square 2; side 1: mean 1,
    square 1.
    """
    error = torch.tensor([4.0, 0.0, 0.0, 0.0]).reshape(1, 1, 4)
    expected = (4 / 4 + 2 / 2 + 1 / 1) / (1 / 4 + 1 / 2 + 1)
    assert multiscale_mse(error, torch.zeros(1, 1, 4), 1).item() == pytest.approx(expected)
    assert multiscale_mse(error, torch.zeros(1, 1, 4), 2).item() == pytest.approx((1 + 1) / (1 / 4 + 1 / 2))
    assert multiscale_mse(error, torch.zeros(1, 1, 4), 4).item() == pytest.approx(4)


def test_multiscale_ends_at_an_odd_longest_side_and_leaves_odd_short_sides_alone():
    error = torch.randn(2, 1, 6, 3, generator=torch.Generator().manual_seed(0))
    halved = error.reshape(2, 1, 3, 2, 3).mean(3)
    expected = ((error ** 2).mean() / 6 + (halved ** 2).mean() / 3) / (1 / 6 + 1 / 3)
    assert multiscale_mse(error, torch.zeros_like(error), 1).item() == pytest.approx(expected.item())


def test_voxel_noise_weighs_less_and_a_shift_weighs_the_same_at_coarse_scales():
    generator = torch.Generator().manual_seed(0)
    noise, shift = torch.randn(4, 1, 32, 32, generator=generator), torch.ones(4, 1, 32, 32)
    zero = torch.zeros_like(noise)
    assert multiscale_mse(shift, zero, 4).item() == pytest.approx(mse(shift, zero).item())
    assert multiscale_mse(noise, zero, 4).item() < 0.3 * mse(noise, zero).item()


def test_the_anchor_loss_is_dice_plus_weighted_cross_entropy():
    logits, x_start = voxels([0.0, 2.0], [math.log(3), 2.0]), voxels([-1.0, 1.0], [1.0, -1.0])
    dice, entropy = soft_dice_loss(logits, x_start, "classes"), cross_entropy(logits, x_start, "classes")
    assert anchor_loss(logits, x_start, "classes", 0.5).item() == pytest.approx((dice + 0.5 * entropy).item())
