"""The mean of a denoiser's masks in closed form, against means of many."""

import pytest
import torch

from medsegdiff_auto.diffusion.expected_mask import expected_probabilities, likeliest


def problem(num_outputs: int, scale: float, num_fields: int = 4, num_voxels: int = 200):
    generator = torch.Generator().manual_seed(num_outputs)
    logits = 3 * torch.randn(1, num_outputs, num_voxels, generator=generator)
    return logits, scale * torch.randn(num_fields, 1, num_outputs, num_voxels, generator=generator)


def mean_of_many(logits, gains, target, count=4000):
    noise = torch.randn(count, len(gains), generator=torch.Generator().manual_seed(7))
    drawn = logits + torch.einsum("nc,cbkv->nkv", noise, gains)
    return (drawn.softmax(1) if target == "classes" else drawn.sigmoid()).mean(0, keepdim=True)


@pytest.mark.parametrize("target", ["classes", "regions"])
@pytest.mark.parametrize("num_outputs", [2, 3, 30])
@pytest.mark.parametrize("scale", [0.3, 1.0, 3.0])
def test_it_is_near_the_mean_of_many_draws_and_nearer_than_the_draw_without_noise(num_outputs, scale, target):
    logits, gains = problem(num_outputs, scale)
    expected, truth = expected_probabilities(logits, gains, target), mean_of_many(logits, gains, target)
    without = expected_probabilities(logits, [], target)
    error, error_without = ((found - truth).abs().mean() for found in (expected, without))
    exact = target == "regions" or num_outputs == 2
    assert error < (0.006 if exact else 0.045) and error < (0.9 if num_outputs == 30 else 0.3) * error_without
    if target == "classes":
        assert torch.allclose(expected.sum(1), torch.ones(1, logits.shape[2]), atol=1e-5)


@pytest.mark.parametrize("target", ["classes", "regions"])
def test_without_noise_it_is_softmax_or_sigmoid(target):
    logits, gains = problem(3, 0.0)
    plain = logits.softmax(1) if target == "classes" else logits.sigmoid()
    assert torch.allclose(expected_probabilities(logits, gains, target), plain, atol=1e-5)


def test_noise_that_moves_all_classes_alike_changes_nothing():
    logits, _ = problem(3, 1.0)
    alike = 5 * torch.ones_like(logits)
    assert torch.allclose(expected_probabilities(logits, [alike], "classes"), logits.softmax(1), atol=1e-5)


def test_two_classes_are_a_region_of_their_difference():
    logits, gains = problem(2, 2.0)
    of_region = expected_probabilities(logits[:, 1:] - logits[:, :1], gains[:, :, 1:] - gains[:, :, :1], "regions")
    assert torch.allclose(expected_probabilities(logits, gains, "classes")[:, 1:], of_region, atol=1e-4)


@pytest.mark.parametrize("target", ["classes", "regions"])
def test_logits_of_any_size_stay_probabilities_and_broken_ones_are_seen(target):
    logits = torch.tensor([[[60.0, -60.0, 0.0], [0.0, 60.0, torch.nan]]])
    found = expected_probabilities(logits, [torch.ones_like(logits) * torch.tensor([[[1.0], [-1.0]]])], target)
    assert found[..., :2].isfinite().all() and found[..., :2].min() >= 0 and found[..., :2].max() <= 1
    assert found[..., 2].isnan().any()
    assert expected_probabilities(logits.half(), [logits.half()], target).dtype == torch.float32


@pytest.mark.parametrize("num_classes", [2, 3, 4])
def test_of_classes_that_are_equally_likely_the_first_counts_as_the_likeliest(num_classes):
    """Were several classes the likeliest, none would be left to hold the others against."""
    logits = torch.zeros(1, num_classes, 2, 2)
    assert likeliest(logits).sum(1).eq(1).all() and likeliest(logits)[:, 0].all()
    expected = expected_probabilities(logits, [torch.zeros_like(logits)], "classes")
    assert torch.allclose(expected, torch.full_like(logits, 1 / num_classes))


@pytest.mark.parametrize("num_outputs", [3, 9])
def test_of_several_classes_it_is_mackays_mean_with_the_variance_that_gradients_give(num_outputs):
    """a_k = logit p_k moves by d a_k / d xi_c, which autograd tells from a softmax in double precision."""
    logits, gains = problem(num_outputs, 2.0, num_voxels=20)

    def log_odds(noise):
        p = (logits.double() + torch.einsum("c,cbkv->bkv", noise, gains.double())).softmax(1)
        return torch.logit(p)

    slopes = torch.autograd.functional.jacobian(log_odds, torch.zeros(len(gains), dtype=torch.float64))
    at_rest, variance = log_odds(torch.zeros(len(gains), dtype=torch.float64)), slopes.square().sum(-1)
    expected = torch.sigmoid(at_rest / (1 + torch.pi / 8 * variance).sqrt())
    found = expected_probabilities(logits, gains, "classes")
    assert torch.allclose(found.double(), expected / expected.sum(1, keepdim=True), atol=1e-5)
