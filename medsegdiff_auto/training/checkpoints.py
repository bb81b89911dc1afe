"""Checkpoints that survive a kill, and the random states in them."""

from __future__ import annotations

import pickle
import random
from pathlib import Path

import numpy as np
import torch

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.writing import atomically

NUMPY_SCALARS = [np._core.multiarray.scalar, np.dtype, type(np.dtype("float64")), type(np.dtype("float32")),
                 type(np.dtype("int64"))]


def save_atomically(checkpoint: dict, file: str | Path) -> None:
    """Keeps the old checkpoint whole until the new one is."""
    with atomically(file) as unfinished:
        torch.save(checkpoint, unfinished)


def load_safely(file: str | Path, device: torch.device | str = "cpu") -> dict:
    """Loads tensors and plain values only: a checkpoint from a stranger cannot run code."""
    with torch.serialization.safe_globals(NUMPY_SCALARS):
        return torch.load(file, map_location=device, weights_only=True)


def load_nnunet(file: str | Path) -> dict:
    """A checkpoint of nnU-Net.

    Raises:
        UserError: the file is no such checkpoint, or holds more than tensors and plain values.
    """
    try:
        checkpoint = load_safely(file)
        checkpoint["network_weights"], checkpoint["current_epoch"]
    except (pickle.UnpicklingError, KeyError, RuntimeError, EOFError) as failure:
        raise UserError(f"{file} cannot be read as a checkpoint of nnU-Net.", found=str(failure).splitlines()[0],
                        expected="network_weights and current_epoch, stored as tensors and plain values",
                        fix="give a checkpoint_final.pth or checkpoint_best.pth that nnUNetv2_train wrote") from failure
    return checkpoint


def nnunet_weights(file: str | Path) -> dict:
    """The weights of a checkpoint of nnU-Net, without the prefixes of DDP and torch.compile."""
    weights = load_nnunet(file)["network_weights"]
    return {key.removeprefix("module.").removeprefix("_orig_mod."): value for key, value in weights.items()}


def epochs_of(file: str | Path) -> int:
    """The epochs that a checkpoint of nnU-Net was trained for."""
    return int(load_nnunet(file)["current_epoch"])


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
