"""Checkpoints that survive a kill, and the random states in them."""

from __future__ import annotations

import pickle
import random
import re
import zipfile
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
    """Loads tensors and plain values only: a checkpoint from a stranger cannot run code.

    torch writes every checkpoint as a zip file with a checksum of each part, which is compared here; very old ones,
    which are no zip files, have none.

    Raises:
        UserError: the file is missing or damaged, or holds anything else.
    """
    try:
        _require_checksums(file)
        with torch.serialization.safe_globals(NUMPY_SCALARS):
            checkpoint = torch.load(file, map_location=device, weights_only=True)
        if not isinstance(checkpoint, dict):
            raise TypeError(f"a {type(checkpoint).__name__} in the place of a dictionary")
    except FileNotFoundError as failure:
        raise _unreadable(file, "no such file") from failure
    except (OSError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as failure:  # the bytes of a damaged file fail in any way
        raise _unreadable(file, _cause(failure)) from failure
    return checkpoint


def _require_checksums(file: str | Path) -> None:
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as parts:
            damaged = parts.testzip()
        if damaged is not None:
            raise ValueError(f"another checksum of {damaged} than when it was written")


def _unreadable(file: str | Path, found: str) -> UserError:
    return UserError(f"{file} cannot be read as a checkpoint.", found=found,
                     expected="a whole checkpoint of tensors and plain values",
                     fix="copy the file again from where it was trained, or train the fold anew")


def _cause(failure: Exception) -> str:
    """What is wrong in one line, without torch's advice to load the file with its code."""
    reference = re.search(r"GLOBAL (\S+)", str(failure))
    if reference:
        return f"a reference to {reference.group(1)}, which would run as code; it did not"
    if isinstance(failure, (pickle.UnpicklingError, KeyError, EOFError)) or not str(failure):
        return "bytes that are no checkpoint, or a part of one"
    return str(failure).splitlines()[0].partition(". This is an internal")[0][:200]


def load_nnunet(file: str | Path) -> dict:
    """A checkpoint of nnU-Net.

    Raises:
        UserError: the file is no such checkpoint, or holds more than tensors and plain values.
    """
    checkpoint = load_safely(file)
    require_keys(checkpoint, file, {"network_weights": dict, "current_epoch": int})
    return checkpoint


def require_keys(checkpoint: dict, file: str | Path, types: dict[str, type]) -> None:
    """Checks that a checkpoint holds values of these types.

    Raises:
        UserError: it does not.
    """
    wrong = [f"{key}: {type(checkpoint[key]).__name__}" if key in checkpoint else f"no {key}"
             for key, expected in types.items() if not isinstance(checkpoint.get(key), expected)]
    if wrong:
        raise UserError(f"{file} is not a checkpoint of a training.", found=", ".join(wrong),
                        expected=", ".join(f"{key}: {one.__name__}" for key, one in types.items()),
                        fix="give a checkpoint_final.pth or checkpoint_best.pth that a training wrote")


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
