"""Freed memory is used again, and given back when asked for."""

import subprocess
import sys

import pytest

BLOCKS = """
import resource
import sys
import torch
from medsegdiff_auto.heap import give_back_freed_memory, keep_freed_memory
from medsegdiff_auto.inference.process_memory import resident_bytes

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        torch.ones(10, 2 ** 20)  # 40 MB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

fresh = faults()
if not keep_freed_memory():
    sys.exit()
for _ in range(5):  # aligned blocks leave gaps at first, which later ones fit into
    faults()
reused, kept = faults(), resident_bytes()
give_back_freed_memory()
print(fresh, reused, kept - resident_bytes())
"""


def test_blocks_are_reused_until_they_are_given_back():
    run = subprocess.run([sys.executable, "-c", BLOCKS], capture_output=True, text=True, check=True)
    if not run.stdout:
        pytest.skip("the C library has no such setting")
    fresh, reused, given_back = map(int, map(float, run.stdout.split()))
    assert reused < fresh / 20, (reused, fresh)
    assert given_back > 3e7, given_back
