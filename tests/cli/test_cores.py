"""Threads of a computation: OMP_NUM_THREADS where it says something, never more than the cores that are granted."""

import pytest

from medsegdiff_auto import cores


@pytest.mark.parametrize("wanted, found", [("1", 1), ("3", 3), ("64", 4), ("", 4), ("0", 4), ("2,1", 4)])
def test_threads(monkeypatch, wanted, found):
    monkeypatch.setattr(cores, "num_cores", lambda: 4)
    monkeypatch.setenv("OMP_NUM_THREADS", wanted)
    assert cores.num_threads() == found


def test_threads_of_all_cores(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert cores.num_threads() == cores.num_cores()
