"""Batches follow from a seed and their number."""

import os
import random
import signal
import time
from itertools import islice

import numpy as np
import pytest
import torch

from medsegdiff_auto.training.batches import BATCHES_AHEAD_PER_WORKER, batches, outlive_first_sigterm, seed_everything


class RandomLoader:
    """Draws from all three global generators, as nnU-Net's loader and its augmentation do."""

    def generate_train_batch(self):
        return {"data": torch.rand(2), "numbers": np.random.rand(2), "choice": random.random()}


class BrokenLoader:
    def generate_train_batch(self):
        raise ValueError("case_017 is broken")


def drawn(seed=(7, 0), first=0, num=4, num_workers=0):
    return [(*batch["data"].tolist(), *np.asarray(batch["numbers"]).tolist(), batch["choice"])
            for batch in islice(batches(RandomLoader(), seed, first, num_workers, pin_memory=False), num)]


def test_no_two_batches_seeds_or_streams_are_alike():
    every = drawn() + drawn(seed=(8, 0)) + drawn(seed=(7, 1))
    assert len(set(every)) == 12 and len({value for batch in every for value in batch}) == 60


@pytest.mark.parametrize("num_workers", [0, 1, 2])
def test_a_batch_is_the_same_whoever_draws_it_and_wherever_one_begins(num_workers):
    assert drawn(num_workers=num_workers) == drawn()
    assert drawn(first=2, num=2, num_workers=num_workers) == drawn()[2:]


def test_drawing_in_the_same_process_leaves_the_generators_of_the_training_alone():
    seed_everything(5)
    expected = random.random(), np.random.rand(), torch.rand(1).item()
    seed_everything(5)
    stream = batches(RandomLoader(), (7, 0), 0, 0, pin_memory=False)
    next(stream), next(stream)
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == expected


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_error_in_a_worker_says_what_happened(num_workers):
    with pytest.raises(ValueError, match="case_017 is broken"):
        next(batches(BrokenLoader(), (7, 0), 0, num_workers, pin_memory=False))


def test_a_worker_outlives_the_first_sigterm_and_no_second():
    iterator = batches(RandomLoader(), (7, 0), 0, 1, pin_memory=False)
    next(iterator)
    worker = iterator._workers[0]
    os.kill(worker.pid, signal.SIGTERM)
    time.sleep(0.2)
    for _ in range(2 * BATCHES_AHEAD_PER_WORKER):
        next(iterator)
    assert worker.is_alive()
    with pytest.raises(RuntimeError, match="DataLoader worker"):
        os.kill(worker.pid, signal.SIGTERM)
        worker.join(10)
        for _ in range(2 * BATCHES_AHEAD_PER_WORKER):
            next(iterator)
    assert not worker.is_alive()


def test_a_worker_without_alarms_draws_its_batches_and_leaves_sigterm_alone(monkeypatch):
    monkeypatch.delattr(signal, "alarm")
    before = signal.getsignal(signal.SIGTERM)
    outlive_first_sigterm()
    assert signal.getsignal(signal.SIGTERM) is before
    assert drawn(num_workers=1) == drawn()
