"""The flags of the commands that work on a trained model and the validation cases of its folds, and what they lead to.
"""

from __future__ import annotations

import argparse
import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from medsegdiff_auto import paths
from medsegdiff_auto.numeric_flags import COUNT, ITERATIONS, Numbers
from medsegdiff_auto.locks import alone
from medsegdiff_auto.cores import compute_on_cpu, num_cores

if TYPE_CHECKING:
    import torch

CHECKPOINT = "checkpoint_final.pth"


class ModelPlace(NamedTuple):
    """Where a model and its cases lie, and the device that computes.

    Attributes:
        folder: of the model; it need not exist.
        preprocessed: folder of the dataset's preprocessed cases; it need not exist.
    """

    folder: Path
    preprocessed: Path
    device: torch.device

    def held_for(self, work: str) -> AbstractContextManager:
        """No second command does the same work with the model meanwhile; a model that is missing cannot be held.

        Args:
            work: a participle, ``calibrated``.

        Raises:
            UserError: another process does.
        """
        if not self.folder.is_dir():
            return nullcontext()
        return alone(self.folder / f".{work}.lock", f"{self.folder} is being {work} by another command")


def add_model_flags(parser: argparse.ArgumentParser, folds: int | list[int], fold_help: str) -> None:
    """Adds what names a model, a fold or several, and the device."""
    parser.add_argument("-d", required=True, metavar="DATASET", help="dataset ID or name")
    parser.add_argument("-c", required=True, metavar="CONFIGURATION",
                        help="2d, 3d_fullres, 3d_lowres or 3d_cascade_fullres")
    parser.add_argument("-f", type=int, nargs="+" if isinstance(folds, list) else None, default=folds, metavar="FOLD",
                        help=fold_help)
    parser.add_argument("-p", default=paths.OUR_PLANS, metavar="PLANS", help="name of the plans (default: %(default)s)")
    parser.add_argument("-tr", default=paths.OUR_TRAINER, metavar="TRAINER", help="default: %(default)s")
    parser.add_argument("-chk", default=CHECKPOINT, metavar="NAME", help="default: %(default)s")
    add_machine_flags(parser)


def add_machine_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the device and what overrides nnU-Net's folders."""
    add_device_flag(parser)
    parser.add_argument("-preprocessed", metavar="FOLDER", help="overrides nnUNet_preprocessed")
    parser.add_argument("-results", metavar="FOLDER", help="overrides nnUNet_results")


def add_device_flag(parser: argparse.ArgumentParser) -> None:
    """Adds the device; without it :func:`~medsegdiff_auto.training.run.require_device` decides."""
    parser.add_argument("-device", choices=("cuda", "cpu", "mps"), help="default: cuda where there is one, else cpu")


def add_training_flags(parser: argparse.ArgumentParser) -> None:
    """Adds how long every fold is trained, by epochs or iterations, and the seed."""
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--epochs", type=ITERATIONS, metavar="N", help="epochs of 250 iterations (default: 1000)")
    length.add_argument("--iterations", type=ITERATIONS, metavar="N", help="training iterations of a fold in all")
    parser.add_argument("--seed", type=int, metavar="N", help="seed of initialisation and noise")


def add_sampling_flags(parser: argparse.ArgumentParser, samples: int | None = None, counts: Numbers = COUNT) -> None:
    """Adds how samples are drawn; ``counts`` is the range of their numbers and of the steps."""
    parser.add_argument("--samples", type=counts, default=samples, metavar="K",
                        help=f"samples per case (default: {samples or 'that of the plan'})")
    parser.add_argument("--steps", type=counts, metavar="S",
                        help="network evaluations per sample (default: the plan's)")
    parser.add_argument("--seed", type=int, default=0, help="of the noise (default: 0)")


def place_of(args: argparse.Namespace) -> ModelPlace:
    """Sets nnU-Net's folders and the threads from the flags, and says where the model lies.

    Raises:
        UserError: a folder is not set, the dataset is unknown, or the machine does not have the device.
    """
    paths.use_folders(preprocessed=args.preprocessed, results=args.results)
    preprocessed, folder = paths.preprocessed_folder(args.d), paths.model_folder(args.d, args.c, args.p, args.tr)
    os.environ.setdefault("nnUNet_def_n_proc", str(num_cores()))
    from medsegdiff_auto.training.run import require_device

    device = require_device(args.device)
    if device.type == "cpu":
        compute_on_cpu()
    return ModelPlace(folder, preprocessed, device)
