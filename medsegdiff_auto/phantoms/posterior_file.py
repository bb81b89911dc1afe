"""``posterior/CASE.npz``: the exact posterior of a phantom, as voxel probabilities and as parameters to redraw from."""

import json
from pathlib import Path

import numpy as np

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.files.arrays import read_arrays
from medsegdiff_auto.phantoms.posterior import Posterior


def save_posterior(posterior: Posterior, path: str | Path) -> None:
    """Writes ``probabilities (K + 1, *shape)`` as float16 in [0, 1] (index = label) and ``parameters`` as JSON text."""
    np.savez_compressed(path, probabilities=posterior.probabilities().astype(np.float16),
                        parameters=np.array(json.dumps(posterior.to_dict())))


def load_posterior(path: str | Path) -> Posterior:
    """The posterior that ``save_posterior`` wrote: equal to the original, so the same generator draws the same samples.

    Raises:
        UserError: no such file, or not a posterior.
    """
    try:
        return Posterior.from_dict(json.loads(str(read_arrays(Path(path), "parameters")[0])))
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(f"{path} is not the posterior of a phantom.", found=f"{type(error).__name__}: {error}",
                        expected="an npz file with probabilities and parameters, written by medsegdiff_phantoms",
                        fix="check the path, or write the phantoms anew") from error
