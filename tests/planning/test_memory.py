"""The memory of a training step, counted without memory, against sums done by hand."""

import gc

import torch

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
