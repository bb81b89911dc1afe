"""The mean of the masks that a denoiser without a state draws, voxel by voxel, without drawing any.

    code        symbol    meaning
    logits      l         at latent noise 0, (B, K, *spatial)
    gains       g_c       what field c of the latent noise adds to the logits, for each c (B, K, *spatial)

    l(xi) = l + sum_c xi_c g_c,   xi_c standard normal in every voxel
    E p_k(xi)  ~  sigma(a_k / sqrt(1 + pi / 8 s_k^2)),   a_k = logit p_k(0),   s_k^2 = sum_c (d a_k / d xi_c)^2

The sigmoid of a normal variable has no closed mean; the approximation is MacKay's (1992), and of several classes each
class against all others is linear in the noise to first order: d a_k / d xi_c = (g_ck - sum_j p_j g_cj) / (1 - p_k).
Eight hard masks make a poor mean, and put probability 0 on what none of them shows.

Off by 0.005 for regions and two classes, whatever the noise; for three classes that move independently of each other by
a standard deviation of 2 logits by 0.02, of 6 logits by 0.04 (probabilities; the tests say how it was found).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor


def expected_probabilities(logits: Tensor, gains: Iterable[Tensor], target: str) -> Tensor:
    """The approximate mean (B, K, *spatial) float32 of softmax (``classes``) or sigmoid (``regions``) over the noise
    (MacKay 1992, for several classes linearised).

    Args:
        gains: one (B, K, *spatial) per field; read one after the other.
    """
    logits = logits.float()
    variance = torch.zeros_like(logits)
    if target == "regions":
        for gain in gains:
            variance += gain.float().square()
        return torch.sigmoid(logits / (1 + math.pi / 8 * variance).sqrt())
    if logits.shape[1] == 2:  # of two classes the second is a region
        of_two = (gain[:, 1:] - gain[:, :1] for gain in gains)
        second = expected_probabilities(logits[:, 1:] - logits[:, :1], of_two, "regions")
        return torch.cat([1 - second, second], 1)
    p, is_likeliest = logits.softmax(1), likeliest(logits)
    others = logits.masked_fill(is_likeliest, -torch.inf)  # 1 - p of the likeliest class loses its digits near p = 1
    p_of_others = others.softmax(1)
    against_others = torch.where(is_likeliest, logits - others.logsumexp(1, keepdim=True),
                                 logits.log_softmax(1) - (1 - p).log())
    of_likeliest = torch.zeros_like(logits[:, :1])
    for gain in gains:
        gain = gain.float()
        of_likeliest += ((is_likeliest * gain).sum(1, keepdim=True)
                         - (p_of_others * gain).sum(1, keepdim=True)).square()
        slope = gain - (p * gain).sum(1, keepdim=True)
        variance.addcmul_(slope, slope)
    variance = torch.where(is_likeliest, of_likeliest, variance / (1 - p).square())
    expected = torch.sigmoid(against_others / (1 + math.pi / 8 * variance).sqrt())
    return expected / expected.sum(1, keepdim=True)


def likeliest(logits: Tensor) -> Tensor:
    """True for the class (the first of several) with the largest logit, (B, K, *spatial); torch's argmax over an axis
    that is not the last takes ten times as long.
    """
    is_largest, is_taken = logits == logits.amax(1, keepdim=True), torch.zeros_like(logits[:, 0], dtype=torch.bool)
    for of_class in is_largest.unbind(1):
        of_class &= ~is_taken
        is_taken |= of_class
    return is_largest
