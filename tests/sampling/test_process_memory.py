"""The process keeps to the peak that was stated, whatever its heap keeps of what is free."""

import subprocess
import sys

import pytest

from medsegdiff_auto.sampling import process_memory
from medsegdiff_auto.sampling.process_memory import ResidentLimit

HOLES = """
import sys
import torch
from medsegdiff_auto.heap import keep_freed_memory
from medsegdiff_auto.sampling.process_memory import ResidentLimit, resident_bytes

if not keep_freed_memory():
    sys.exit()
before, blocks, kept = resident_bytes(), [], []
limit = ResidentLimit(before + 2e8)
for _ in range(40):
    blocks.append(torch.ones(10 * 2 ** 18))  # 10 MB
    kept.append(torch.ones(2 ** 16))  # behind it, for good
blocks.clear()
if sys.argv[1] == "kept":
    limit.keep()
print((resident_bytes() - before) / 1e6)
"""


def grown_mb(argument):
    run = subprocess.run([sys.executable, "-c", HOLES, argument], capture_output=True, text=True, check=True)
    return float(run.stdout) if run.stdout else pytest.skip("the C library has no such setting")


def test_holes_between_what_lives_on_go_back_near_the_limit():
    """10 MB of 430 are in use."""
    assert grown_mb("left alone") > 350
    assert grown_mb("kept") < 100


@pytest.fixture
def process(monkeypatch):
    """A process of which ``used`` bytes are in use and ``free`` kept, and how often it gave them back."""
    class Process:
        used, free, times = 1.0e9, 0.0, 0

        def give_back(self):
            self.free, self.times = 0.0, self.times + 1

    found = Process()
    monkeypatch.setattr(process_memory, "resident_bytes", lambda: found.used + found.free)
    monkeypatch.setattr(process_memory, "give_back_freed_memory", found.give_back)
    return found


def test_freed_memory_goes_back_near_the_limit_and_not_before(process):
    limit = ResidentLimit(1.3e9)
    for free, times in ((0.2e9, 0), (0.24e9, 1), (0.2e9, 1), (0.25e9, 2)):
        process.free = free
        limit.keep()
        assert process.times == times


def test_where_everything_is_in_use_it_is_not_tried_at_every_tile(process):
    limit, process.used = ResidentLimit(1.3e9), 1.29e9
    for _ in range(10):
        limit.keep()
    assert process.times == 1
    process.used *= 1.06
    limit.keep()
    assert process.times == 2
