"""Batches that depend on a seed and their number only, drawn by worker processes in order.

nnU-Net's loaders draw from generators that every worker seeds by chance. Here the generators are seeded before each
batch, so that a training that was killed and resumed sees the batches that an uninterrupted one would have seen.
"""

from __future__ import annotations

import os
import random
import signal
from contextlib import contextmanager
from itertools import count
from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

BATCHES_AHEAD_PER_WORKER = 3
SECONDS_OF_GRACE = 120
WORKERS_VARIABLE = "nnUNet_n_proc_DA"


def seed_everything(*numbers: int) -> None:
    """Seeds Python, NumPy and torch from any numbers >= 0: other numbers, other and unrelated streams."""
    python, numpy, torch_seed = np.random.SeedSequence(numbers).generate_state(3)
    random.seed(int(python))
    np.random.seed(int(numpy))
    torch.manual_seed(int(torch_seed))


class NumberedBatches(Dataset):
    """Batch i of a loader of nnU-Net, whoever asks and whenever.

    Args:
        loader: has ``generate_train_batch``, which draws from the global generators.
        seed: several numbers >= 0; that of the training, and what tells its streams apart.
    """

    def __init__(self, loader, seed: tuple[int, ...]):
        self.loader, self.seed = loader, seed

    def __getitem__(self, index: int) -> dict:
        seed_everything(*self.seed, index)
        return self.loader.generate_train_batch()


class NumbersFrom:
    """first, first + 1, ... without end, as a sampler."""

    def __init__(self, first: int):
        self.first = first

    def __iter__(self) -> Iterator[int]:
        return count(self.first)


@contextmanager
def nnunet_loaders() -> Iterator[None]:
    """While active, nnU-Net hands out its loaders instead of starting workers that draw from them."""
    before = os.environ.get(WORKERS_VARIABLE)
    os.environ[WORKERS_VARIABLE] = "0"
    try:
        yield
    finally:
        del os.environ[WORKERS_VARIABLE]
        if before is not None:
            os.environ[WORKERS_VARIABLE] = before


def outlive_first_sigterm(_worker: int = 0) -> None:
    """In a worker: the first SIGTERM leaves it a while to live, the second ends it.

    Schedulers send SIGTERM to the whole process group. The training answers with a checkpoint after its step, which a
    worker that dies at once would interrupt with an error. Windows has no alarm, and no SIGTERM that could be handled.
    """
    if not hasattr(signal, "alarm"):
        return

    def handle(*_) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.alarm(SECONDS_OF_GRACE)

    signal.signal(signal.SIGTERM, handle)


def batches(loader, seed: tuple[int, ...], first: int, num_workers: int, pin_memory: bool) -> Iterator[dict]:
    """Batches ``first``, ``first + 1``, ... of a loader of nnU-Net; an error in a worker comes with its traceback.

    With no workers the batches are drawn here, and the caller's generators are left as they were.
    """
    numbered = NumberedBatches(loader, seed)
    if num_workers == 0:
        return undisturbed(numbered, first)
    return iter(DataLoader(numbered, batch_size=None, sampler=NumbersFrom(first), num_workers=num_workers,
                           pin_memory=pin_memory, prefetch_factor=BATCHES_AHEAD_PER_WORKER,
                           worker_init_fn=outlive_first_sigterm))


def undisturbed(numbered: NumberedBatches, first: int) -> Iterator[dict]:
    """Batches drawn in this process, between which the global generators belong to the caller."""
    for index in count(first):
        states = random.getstate(), np.random.get_state(), torch.get_rng_state()
        batch = numbered[index]
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        yield batch
