"""``medsegdiff_train``: one fold of one configuration.

Exit codes beside those of every command: 75 paused by SIGTERM or ``--pause_after``, start me again; 0 all is done.
"""

from __future__ import annotations

import json
import os
from argparse import ArgumentTypeError
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medsegdiff_auto import paths
from medsegdiff_auto.cli.command import CommandParser, run
from medsegdiff_auto.cli.model_flags import add_machine_flags, add_training_flags
from medsegdiff_auto.locks import alone
from medsegdiff_auto.numeric_flags import POSITIVE, WORKERS
from medsegdiff_auto.cores import num_cores
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.run_record import command_line, write_run


def main(argv=None) -> int:
    parser = CommandParser(prog="medsegdiff_train",
                           description="Trains and validates one fold of a planned configuration.",
                           epilog="Exit codes: 0 trained and validated; 75 paused, by SIGTERM or --pause_after, with a "
                                  "checkpoint: the same command with --c auto goes on; 2 what you can repair; 130 "
                                  "Ctrl-C. A batch file asks its scheduler for another start on 75.")
    parser.add_argument("dataset", help="dataset ID or name")
    parser.add_argument("configuration", help="2d, 3d_fullres, 3d_lowres or 3d_cascade_fullres")
    parser.add_argument("fold", help="0 to 4, or all")
    parser.add_argument("-p", default="MedSegDiffPlans", metavar="PLANS",
                        help="name of the plans (default: MedSegDiffPlans)")
    parser.add_argument(
        "-tr", default="nnUNetTrainerMedSegDiff",
        choices=("nnUNetTrainerMedSegDiff", "nnUNetTrainerMedSegDiffTwin", "nnUNetTrainer"),
        help="for comparison on the same plan: nnUNetTrainer trains plain nnU-Net, nnUNetTrainerMedSegDiffTwin "
        "the same network without diffusion")
    add_training_flags(parser)
    parser.add_argument("--max_hours", type=POSITIVE, metavar="H",
                        help="end after this time; the learning rate decays towards it")
    parser.add_argument("--pause_after", type=POSITIVE, metavar="H",
                        help="after this time of this start write a checkpoint and end with code 75; unlike "
                        "--max_hours the learning rate stays as it is, and --c goes on as if nothing had happened")
    parser.add_argument(
        "--c", nargs="?", const=True, type=_auto, metavar="auto",
        help="continue from the latest checkpoint; with --epochs or --iterations to a new end. --c auto: whatever is "
        "left to do; it begins, continues, or validates, and ends with a line and code 0 where all is done")
    parser.add_argument("--val", action="store_true", help="only validate a finished training")
    parser.add_argument("--val_best", action="store_true", help="validate checkpoint_best instead of checkpoint_final")
    parser.add_argument("--npz", action="store_true", help="save the validation's probabilities, for ensembling")
    parser.add_argument(
        "--upgrade", metavar="CHECKPOINT",
        help="checkpoint of a trained nnU-Net of this fold: it stays as it is, and only a denoiser on its "
        "features is trained, by default for a tenth of its epochs")
    parser.add_argument("--overwrite", action="store_true", help="train anew although the fold is finished")
    parser.add_argument(
        "-num_gpus", type=WORKERS, default=1, metavar="N",
        help="processes that share the batch: GPUs, or with -device cpu processes on the CPU (default: 1); on several "
        "machines torchrun starts them: torchrun ... -m medsegdiff_auto.cli train ...")
    add_machine_flags(parser)
    args = parser.parse_args(argv)
    return run(_train, args, command_line("medsegdiff_train", argv))


def _train(args, command: list[str]) -> None:
    if args.c and (args.val or (args.c == "auto" and args.overwrite)):
        other = "--val" if args.val else "--overwrite"
        raise UserError(f"--c and {other} exclude each other.", found=f"--c {other}", expected="one of them",
                        fix="--c continues a training and validates it at its end; --val only validates, and "
                            "--overwrite trains anew")
    paths.use_folders(preprocessed=args.preprocessed, results=args.results)
    preprocessed, results = paths.require_folder("nnUNet_preprocessed"), paths.require_folder("nnUNet_results")
    name = paths.resolve_dataset(args.dataset)
    fold = _fold(args.fold)
    os.environ.setdefault("nnUNet_def_n_proc", str(num_cores()))
    from medsegdiff_auto.training.run import TrainingRequest, require_device, train
    from medsegdiff_auto.training.schedule import TrainingLength

    device = require_device(args.device).type
    if device == "cpu":  # augmentation workers beyond half of the cores take them from the network
        os.environ.setdefault("nnUNet_n_proc_DA", str(max(1, num_cores() // 2)))
    length, plans_identifier, checkpoint = None, args.p, Path(args.upgrade) if args.upgrade else None
    if args.iterations is not None:
        length = TrainingLength.of_iterations(args.iterations)
    elif args.epochs is not None:
        length = TrainingLength(num_epochs=args.epochs)
    if checkpoint is not None:
        plans_identifier, usual_length = _prepare_upgrade(checkpoint, args, preprocessed / name, fold)
        length = length or usual_length
    request = TrainingRequest(
        dataset_name=name, configuration=args.configuration, fold=fold, plans_identifier=plans_identifier,
        trainer=args.tr, device=device, length=length, max_hours=args.max_hours,
        pause_after_hours=args.pause_after, seed=args.seed, continue_training=args.c is not None,
        is_automatic=args.c == "auto", only_validate=args.val, validate_best=args.val_best,
        save_probabilities=args.npz, overwrite=args.overwrite, conditioner_checkpoint=checkpoint)
    folder = request.fold_folder(results)
    results.mkdir(parents=True, exist_ok=True)
    lock = results / f".{name}_{folder.parent.name}_{folder.name}.lock"
    from medsegdiff_auto.training.distributed import launched, train_distributed, train_launched

    member = launched()
    if member is not None and args.num_gpus > 1:
        raise UserError("torchrun says by how many processes to train.", found=f"-num_gpus {args.num_gpus}",
                        expected="no -num_gpus under torchrun", fix="leave it out, or start the command by itself")
    if member is not None and member.rank:  # the first process holds the fold, and reports
        train_launched(request, preprocessed / name, results, member)
        return
    with alone(lock, f"{folder} is being trained or validated by another command"), _said_when_paused():
        if member is not None:
            train_launched(request, preprocessed / name, results, member)
        elif args.num_gpus > 1:
            train_distributed(request, preprocessed / name, results, args.num_gpus)
        else:
            train(request, preprocessed / name, results)
        _report(folder, command)


@contextmanager
def _said_when_paused() -> Iterator[None]:
    from medsegdiff_auto.training.termination import EXIT_CODE

    try:
        yield
    except SystemExit as end:
        if end.code == EXIT_CODE:
            print("Paused: the same command with --c auto goes on.", flush=True)
        raise


def _prepare_upgrade(checkpoint: Path, args, preprocessed_folder: Path, fold: int | str):
    """Name of the plans of an upgrade, and its length where none is given."""
    if args.tr == "nnUNetTrainer" or args.c is True or args.val:
        raise UserError("--upgrade begins a training of a denoiser.",
                        found="--upgrade with -tr nnUNetTrainer, --c or --val",
                        expected="--upgrade without them, or with --c auto",
                        fix="continue or validate an upgrade with -p and the name of its plans")
    from medsegdiff_auto.planning.upgrade import read_nnunet_model, require_fitting_model, write_upgrade_plans
    from medsegdiff_auto.training.checkpoints import epochs_of
    from medsegdiff_auto.training.schedule import TrainingLength

    model = read_nnunet_model(checkpoint)
    require_fitting_model(model, preprocessed_folder.name, args.configuration, fold)
    usual_length = TrainingLength(num_epochs=max(1, epochs_of(checkpoint) // 10))
    return write_upgrade_plans(model, preprocessed_folder, args.configuration), usual_length


def _auto(text: str) -> str:
    if text != "auto":
        raise ArgumentTypeError("must be auto, or stand without a word behind it")
    return text


def _fold(text: str) -> int | str:
    if text == "all":
        return text
    if not text.isdigit():
        raise UserError("The fold is not a number.", found=text, expected="0 to 4, or all",
                        fix="give the fold as a number")
    return int(text)


def _report(folder: Path, command: list[str]) -> None:
    write_run(folder, command)
    summary = json.loads((folder / "validation" / "summary.json").read_text(encoding="utf-8"))
    print(f"Mean validation Dice: {summary['foreground_mean']['Dice']:.4f}")
    print(f"Model: {folder}")
