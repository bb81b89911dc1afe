"""The strongest cheap baseline: low-rank Gaussian logits on the frozen features of a trained network.

    eta ~ N(mu(x), P(x) P(x)^T + diag(d(x))),    loss = -log 1/M sum_m p(y | eta_m)      Monteiro et al. 2020

mu starts as the network's own head; mu, P and d are 1 x 1 convolutions of its last features.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from medsegdiff_auto.diffusion.state import probabilities_from_logits

RANK, NUM_MONTE_CARLO, SMALLEST_VARIANCE = 10, 20, 1e-5
LEARNING_RATE = 1e-3


class LowRankGaussianHead(nn.Module):
    """Mean, factor and diagonal of the logits from features (B, F, *spatial).

    Args:
        head: the network's own 1 x 1 convolution to K logits.
    """

    def __init__(self, head: nn.Module, rank: int = RANK):
        super().__init__()
        convolution, channels, self.num_outputs, self.rank = type(head), head.in_channels, head.out_channels, rank
        self.mean = convolution(channels, self.num_outputs, 1)
        self.mean.load_state_dict(head.state_dict())
        self.factor = convolution(channels, self.num_outputs * rank, 1)
        self.log_variance = convolution(channels, self.num_outputs, 1)

    def sample(self, features: Tensor, factors: Tensor, noise: Tensor) -> Tensor:
        """Logits (M, B, K, *spatial) from the standard normal ``factors`` (M, B, rank) and ``noise`` (M, B, K,
        *spatial).
        """
        mean, deviation = self.mean(features), (self.log_variance(features).exp() + SMALLEST_VARIANCE).sqrt()
        factor = self.factor(features).unflatten(1, (self.rank, self.num_outputs))
        return mean + torch.einsum("mbr,brk...->mbk...", factors, factor) + deviation * noise


def joint_negative_log_likelihood(logits: Tensor, x_start: Tensor, target: str) -> Tensor:
    """-log 1/M sum_m prod_v p(y_v | eta_m,v), a mean over the batch, in nats per voxel.

    Args:
        logits: (M, B, K, *spatial).
        x_start: reference state, (B, K, *spatial) in {-1, 1}.
    """
    y = (x_start + 1) / 2
    if target == "regions":
        log_probability = -nn.functional.binary_cross_entropy_with_logits(logits, y.expand_as(logits), reduction="none")
    else:
        log_probability = logits.log_softmax(2) * y
    of_mask = log_probability.flatten(2).sum(2)
    num_voxels = math.prod(x_start.shape[2:])
    return -(of_mask.logsumexp(0) - math.log(len(logits))).mean() / num_voxels


def train_head(head: LowRankGaussianHead, batches, features_of, num_iterations: int, target: str,
               reference_state) -> list[float]:
    """AdamW with a polynomial decay on the head alone; returns the losses.

    Args:
        batches: of nnU-Net's loader.
        features_of: image (B, C, *spatial) to the frozen features.
        reference_state: target (B, 1 or K, *spatial) to x_start.
    """
    optimizer = torch.optim.AdamW(head.parameters(), LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.PolynomialLR(optimizer, num_iterations, 0.9)
    losses = []
    for _, batch in zip(range(num_iterations), batches):
        with torch.no_grad():
            features = features_of(batch["data"])
        x_start = reference_state(batch["target"][0])
        factors = torch.randn(NUM_MONTE_CARLO, len(features), head.rank)
        noise = torch.randn(NUM_MONTE_CARLO, *x_start.shape)
        loss = joint_negative_log_likelihood(head.sample(features, factors, noise), x_start, target)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(head.parameters(), 12.0)
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
    return losses


@torch.no_grad()
def sampled_probabilities(head: LowRankGaussianHead, features: Tensor, num_samples: int, target: str,
                          seed: int) -> Tensor:
    """Masks of one image as probabilities, (num_samples, K, *spatial); features (1, F, *spatial)."""
    generator = torch.Generator().manual_seed(seed)
    factors = torch.randn(num_samples, 1, head.rank, generator=generator)
    noise = torch.randn(num_samples, 1, head.num_outputs, *features.shape[2:], generator=generator)
    return probabilities_from_logits(head.sample(features, factors, noise)[:, 0], target)
