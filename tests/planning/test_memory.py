"""The memory of a training step, counted without memory, against sums done by hand and against torch's own record."""

import gc

import pytest
import torch

from medsegdiff_auto.benchmarks.training_memory import allocated_peak_gb
from medsegdiff_auto.planning.memory import LiveMemory


def test_live_memory_is_the_sum_of_what_lives_at_the_same_time():
    with torch.device("meta"), LiveMemory() as memory:
        first = torch.empty(1000)
        second = first + 1
        del first
        third = torch.cat([second, second])
        view = third.view(2, 1000).t()
        del second, third
        gc.collect()
    assert memory.peak_bytes == 4 * (1000 + 2000)  # second and third; first is gone by then
    assert memory.live_bytes == 4 * view.numel()


@pytest.mark.parametrize("dimension", [2, 3])
def test_counted_and_allocated_peak_of_a_step_agree(dimension):
    convolution = {2: torch.nn.Conv2d, 3: torch.nn.Conv3d}[dimension]
    size = {2: (64, 80), 3: (16, 20, 24)}[dimension]

    def step():
        network = torch.nn.Sequential(convolution(2, 8, 3, padding=1), torch.nn.LeakyReLU(), convolution(8, 3, 3, padding=1))
        optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
        for _ in range(2):
            loss = network(torch.ones(2, 2, *size)).square().mean()
            loss.backward()
            optimizer.step()

    with torch.device("meta"), LiveMemory() as memory:
        step()
    assert memory.peak_bytes / 1e9 == pytest.approx(allocated_peak_gb(step), rel=0.1)
