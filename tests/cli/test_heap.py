"""Freed memory is used again, and given back when asked for."""

import subprocess
import sys

import pytest

BLOCKS = """
import resource
import sys
import torch
from medsegdiff_auto.heap import give_back_freed_memory, keep_freed_memory
from medsegdiff_auto.sampling.process_memory import resident_bytes

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

THREADS = """
import ctypes
import sys
import threading
from medsegdiff_auto.heap import keep_freed_memory

if not keep_freed_memory():
    sys.exit()
libc = ctypes.CDLL(None)
libc.malloc.argtypes, libc.malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
barrier = threading.Barrier(4)

def allocate():
    for _ in range(100):
        libc.malloc(2 ** 16)
    barrier.wait()

threads = [threading.Thread(target=allocate) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc.fdopen.argtypes, libc.fdopen.restype = [ctypes.c_int, ctypes.c_char_p], ctypes.c_void_p
libc.malloc_info.argtypes = [ctypes.c_int, ctypes.c_void_p]
libc.fflush.argtypes = [ctypes.c_void_p]
file = libc.fdopen(1, b"w")
libc.malloc_info(0, file)
libc.fflush(file)
"""


def test_blocks_are_reused_until_they_are_given_back():
    run = subprocess.run([sys.executable, "-c", BLOCKS], capture_output=True, text=True, check=True)
    if not run.stdout:
        pytest.skip("the C library has no such setting")
    fresh, reused, given_back = map(int, map(float, run.stdout.split()))
    assert reused < fresh / 20, (reused, fresh)
    assert given_back > 3e7, given_back


def test_threads_allocate_from_one_heap():
    run = subprocess.run([sys.executable, "-c", THREADS], capture_output=True, text=True, check=True)
    if not run.stdout:
        pytest.skip("the C library has no such setting")
    assert run.stdout.count("<heap nr=") == 1, run.stdout
