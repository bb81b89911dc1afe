"""Checkpoints that survive a kill, and the random states in them."""

from __future__ import annotations

import os
import random
from pathlib import Path

import numpy as np
import torch

NUMPY_SCALARS = [np._core.multiarray.scalar, np.dtype, type(np.dtype("float64")), type(np.dtype("float32")),
                 type(np.dtype("int64"))]


def save_atomically(checkpoint: dict, file: str | Path) -> None:
    """Writes beside the target and renames, so that the old checkpoint stays whole until the new one is."""
    unfinished = f"{file}.unfinished"
    torch.save(checkpoint, unfinished)
    os.replace(unfinished, file)


def load_safely(file: str | Path, device: torch.device | str = "cpu") -> dict:
    """Loads tensors and plain values only: a checkpoint from a stranger cannot run code."""
    with torch.serialization.safe_globals(NUMPY_SCALARS):
        return torch.load(file, map_location=device, weights_only=True)


def random_states() -> dict:
    """States of the generators of Python, NumPy and torch, in plain types."""
    name, keys, position, has_gauss, cached = np.random.get_state()
    states = {"python": random.getstate(), "numpy": (name, keys.tolist(), position, has_gauss, cached),
              "torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state_all()
    return states


def restore_random_states(states: dict) -> None:
    """Restores :func:`random_states`."""
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, cached = states["numpy"]
    np.random.set_state((name, np.asarray(keys, dtype=np.uint32), position, has_gauss, cached))
    torch.set_rng_state(states["torch"].cpu())
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([state.cpu() for state in states["cuda"]])
