"""The weight average against sums written out."""

import pytest
import torch
from torch import nn

from medsegdiff_auto.training.ema import EMA, ema_decay


def scalar(value: float) -> nn.Module:
    module = nn.Linear(1, 1, bias=False)
    nn.init.constant_(module.weight, value)
    return module


def test_decay_is_one_minus_one_over_the_length_after_a_warm_up():
    assert ema_decay(10_000, 1000, 0.05) == pytest.approx(1 - 1 / 50)
    assert ema_decay(0, 1000, 0.05) == pytest.approx(1 / 10)
    assert ema_decay(8, 1000, 0.05) == pytest.approx(9 / 18)


def test_a_training_shorter_than_its_length_predicts_with_the_last_weights():
    assert ema_decay(5, 10, 0.05) == 0


def test_the_average_is_the_weighted_sum_of_the_weights_seen():
    network = scalar(1.0)
    ema = EMA(network, num_steps=1000, relative_length=0.05)
    expected = None
    for step, value in enumerate([1.0, 3.0, 2.0, -1.0]):
        nn.init.constant_(network.weight, value)
        ema.update(network)
        decay = ema_decay(step, 1000, 0.05)
        expected = value if step == 0 else decay * expected + (1 - decay) * value
    assert ema.network.weight.item() == pytest.approx(expected, abs=1e-6)


def test_the_average_is_restored_with_its_count():
    network = scalar(2.0)
    ema, restored = EMA(network, 100, 0.1), EMA(scalar(0.0), 100, 0.1)
    for value in (2.0, 5.0):
        nn.init.constant_(network.weight, value)
        ema.update(network)
    restored.load_state_dict(ema.state_dict())
    nn.init.constant_(network.weight, -1.0)
    ema.update(network)
    restored.update(network)
    assert torch.equal(ema.network.weight, restored.network.weight)
