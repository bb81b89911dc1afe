"""The transformer at the lowest resolution."""

import pytest
import torch
from tiny_networks import randomised

from medsegdiff_auto.networks.transformer import Transformer, feature_map_of, position_embedding, tokens_of

SIZES = [(5,), (4, 3), (2, 3, 5)]


def random_map(size, channels=12):
    return torch.randn(2, channels, *size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_tokens_are_the_positions_in_reading_order(size):
    x = random_map(size)
    assert torch.equal(tokens_of(x)[1, 3], x[1].flatten(1)[:, 3])
    assert torch.equal(feature_map_of(tokens_of(x), size), x)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_no_two_positions_share_their_embedding_and_a_larger_map_continues_it(size):
    embedding = position_embedding(size, 12)
    assert len(embedding.unique(dim=0)) == len(embedding)
    larger = position_embedding([n + 2 for n in size], 12).reshape(*[n + 2 for n in size], 12)
    assert torch.equal(larger[tuple(slice(n) for n in size)].reshape(-1, 12), embedding)


def test_the_first_wave_of_an_axis_is_cos_and_sin_of_its_position():
    embedding = position_embedding((4, 3), 8).reshape(4, 3, 8)
    assert embedding[2, :, 0].tolist() == pytest.approx([torch.tensor(2.0).cos().item()] * 3)
    assert embedding[:, 1, 6].tolist() == pytest.approx([torch.tensor(1.0).sin().item()] * 4)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_transformer_is_the_identity_at_initialisation_and_later_depends_on_time_and_place(size):
    transformer, x = Transformer(12, 2, 3, embedding_size=6, dropout=0.0).eval(), random_map(size)
    early, late = torch.zeros(2, 6), torch.ones(2, 6)
    assert torch.equal(transformer(x, early), x)
    found = randomised(transformer)(x, early)
    assert not torch.allclose(transformer(x, late), found, atol=1e-3)
    axes = tuple(range(2, x.ndim))
    assert not torch.allclose(transformer(x.flip(axes), early).flip(axes), found, atol=1e-3)


def test_every_position_sees_every_other():
    transformer, x = randomised(Transformer(12, 1, 3, embedding_size=6, dropout=0.0)).eval(), random_map((4, 3))
    changed = x.clone()
    changed[:, 0, 0, 0] += 1
    difference = (transformer(changed, torch.zeros(2, 6)) - transformer(x, torch.zeros(2, 6))).abs().amax(1)
    assert (difference > 1e-6).all()


def test_heads_that_do_not_divide_the_channels_are_refused():
    with pytest.raises(ValueError, match="12 channels do not divide into 5"):
        Transformer(12, 1, 5, 6, 0.0)
