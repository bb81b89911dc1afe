"""The embedding of the diffusion time."""

import math

import pytest
import torch

from medsegdiff_auto.networks.time_embedding import TimeEmbedding, sinusoids


def test_sinusoids_are_cos_and_sin_of_a_thousand_t_at_geometric_frequencies():
    """Size 8: frequencies 1, 0.1, 0.01, 0.001."""
    t = [0.002, 0.37, 1.0]
    angles = [[1000 * v * f for f in (1.0, 0.1, 0.01, 0.001)] for v in t]
    expected = [[math.cos(a) for a in row] + [math.sin(a) for a in row] for row in angles]
    assert torch.allclose(sinusoids(torch.tensor(t), 8), torch.tensor(expected), atol=1e-4)


def test_the_embedding_is_not_linear_in_t():
    ends = sinusoids(torch.tensor([0.2, 0.6]), 16)
    assert not torch.allclose(sinusoids(torch.tensor([0.4]), 16)[0], ends.mean(0), atol=0.1)


def test_no_two_of_a_thousand_steps_share_their_sinusoids():
    table = sinusoids(torch.arange(1, 1001) / 1000, 32)
    assert (torch.cdist(table, table) + torch.eye(1000)).min() > 0.1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_times_of_any_precision_embed_alike(dtype):
    torch.manual_seed(0)
    embedding, t = TimeEmbedding(16), torch.tensor([0.25, 0.5])
    assert torch.equal(embedding(t.to(dtype)), embedding(t))
