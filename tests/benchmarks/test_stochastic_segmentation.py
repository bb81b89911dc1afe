"""The baseline of low-rank Gaussian logits, against moments and likelihoods known in closed form."""

import math

import torch
from torch import nn

from medsegdiff_auto.benchmarks.uncertainty.stochastic_segmentation import (LowRankGaussianHead,
                                                                            joint_negative_log_likelihood)


def test_logits_have_the_mean_of_the_head_and_the_low_rank_covariance():
    torch.manual_seed(0)
    own = nn.Conv2d(3, 2, 1)
    head = LowRankGaussianHead(own, rank=2)
    features = torch.randn(1, 3, 2, 2)
    count = 200_000
    with torch.no_grad():
        logits = head.sample(features, torch.randn(count, 1, 2), torch.randn(count, 1, 2, 2, 2)).reshape(count, -1)
        factor = head.factor(features).reshape(2, -1)
        expected = factor.T @ factor + torch.diag(head.log_variance(features).exp().reshape(-1))
        torch.testing.assert_close(logits.mean(0), own(features).reshape(-1), atol=0.02, rtol=0)
        torch.testing.assert_close(torch.cov(logits.T), expected, atol=0.03, rtol=0.03)


def test_the_likelihood_of_one_mask_is_averaged_over_the_samples():
    logits = torch.tensor([[2.0, -1.0], [0.5, 1.0]]).reshape(2, 1, 1, 2).repeat(1, 1, 2, 1)
    logits[:, :, 0] = 0  # two classes, the logit of the first is 0
    x_start = torch.tensor([[-1.0, 1.0], [1.0, -1.0]]).reshape(1, 2, 2)

    def sigmoid(x):
        return 1 / (1 + math.exp(-x))

    of_masks = [sigmoid(2.0) * (1 - sigmoid(-1.0)), sigmoid(0.5) * (1 - sigmoid(1.0))]
    expected = -math.log(sum(of_masks) / 2) / 2
    assert math.isclose(float(joint_negative_log_likelihood(logits, x_start, "classes")), expected, rel_tol=1e-6)
