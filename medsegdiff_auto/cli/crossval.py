"""``medsegdiff_crossval``: five folds of one or several methods, their comparison and its report, in one line that may
be given again until all is done.
"""

from __future__ import annotations

import os
import sys

from medsegdiff_auto import paths
from medsegdiff_auto.cli.command import CommandParser, run
from medsegdiff_auto.cli.model_flags import add_machine_flags, add_training_flags
from medsegdiff_auto.cores import compute_on_cpu, num_cores
from medsegdiff_auto.crossval.methods import COMPETITORS, OURS
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.numeric_flags import COUNT, WORKERS
from medsegdiff_auto.run_record import command_line, write_run

EXIT_FAILED = 1


def main(argv=None) -> int:
    parser = CommandParser(
        prog="medsegdiff_crossval",
        description="Plans and preprocesses what is not there, trains the folds, calibrates on all of them, chooses "
        "configuration and postprocessing, predicts every case by the fold that has not seen it with what is fitted "
        "taken from the other folds, predicts imagesTs, compares and reports. What is done lies in nnU-Net's folders: "
        "the same line again goes on where it was.",
        epilog="Exit codes: 0 all is done (or submitted); 1 a job failed, see its log; 2 what you can repair; 75 ended "
        "by SIGTERM, with all that was done: the same line goes on; 130 Ctrl-C.")
    parser.add_argument("dataset", help="dataset ID or name")
    parser.add_argument("-c", nargs="+", metavar="CONFIGURATION",
                        help="2d, 3d_fullres or 3d_lowres; of several, the comparison takes that in which "
                        "MedSegDiff-Auto does best (default: 3d_fullres of the plans that are there, else 2d)")
    parser.add_argument("-f", type=int, nargs="+", metavar="FOLD", help="default: all of the split, 0 1 2 3 4")
    parser.add_argument(
        "--against", nargs="+", choices=COMPETITORS, default=[], metavar="METHOD",
        help="nnunet: nnU-Net's own trainer; nnunet_adamw: nnU-Net's network as it is trained in MedSegDiff-Auto, by "
        "nnU-Net's predictor, which needs no training of its own; resenc: nnU-Net's ResEnc M; twin: MedSegDiff-Auto "
        "without latent noise and state; paper: MedSegDiff as published; upgrade: nnU-Net upgraded, for a tenth of the "
        "iterations. nnU-Net's and paper stand in the tables with their temperature as well")
    parser.add_argument("-p", default=paths.OUR_PLANS, metavar="PLANS", help="name of the plans (default: %(default)s)")
    parser.add_argument("--resources", choices=("gpu", "cpu", "tiny"), default="gpu",
                        help="limits of the training machine, for plans that are not there (default: gpu)")
    add_training_flags(parser)
    parser.add_argument("-np", type=WORKERS, default=num_cores(), metavar="N",
                        help="processes of preprocessing and evaluation (default: all cores)")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--local", type=COUNT, default=1, metavar="N",
                     help="N jobs side by side, each with its own cores or its own GPU (default: 1)")
    how.add_argument("--slurm", metavar="OPTIONS",
                     help="write batch files with these options of sbatch, one text, and submit them; for cuda where "
                     "-device says nothing else")
    how.add_argument("--status", action="store_true", help="print where every job stands, and do nothing")
    how.add_argument("--dry_run", action="store_true", help="print the jobs, hours and memory, and do nothing")
    how.add_argument("--job", metavar="NAME", help="do this job alone, as batch files do; --dry_run shows the names")
    parser.add_argument("-raw", metavar="FOLDER", help="overrides nnUNet_raw")
    add_machine_flags(parser)
    args = parser.parse_args(_with_options_of_sbatch(sys.argv[1:] if argv is None else argv, parser))
    return run(_cross_validate, args, command_line("medsegdiff_crossval", argv))


def _with_options_of_sbatch(words: list[str], parser: CommandParser) -> list[str]:
    """The words with what stands behind ``--slurm`` tied to it: it begins with dashes, as flags of ours do."""
    found: list[str] = []
    for word in words:
        if found[-1:] == ["--slurm"] and word not in parser._option_string_actions:
            found[-1] = f"--slurm={word}"
        else:
            found.append(word)
    return found


def _cross_validate(args, command: list[str]) -> int | None:
    paths.use_folders(args.raw, args.preprocessed, args.results)
    for variable in paths.FOLDER_CONTENTS:
        paths.require_folder(variable)
    os.environ.setdefault("nnUNet_def_n_proc", str(args.np))
    request = _request(args)
    from medsegdiff_auto.crossval.jobs import jobs_of

    if args.job:
        return _do(args.job, request)
    jobs = jobs_of(request, _words(request))
    if args.status:
        return _print_states(request, jobs)
    if args.dry_run:
        from medsegdiff_auto.crossval.estimates import estimates_of, table_of

        print(table_of(jobs, estimates_of(request, jobs)))
        return None
    request.comparison.mkdir(parents=True, exist_ok=True)
    write_run(request.comparison, command)
    return _submit(request, jobs, args.slurm) if args.slurm is not None else _run_here(request, jobs, args.local)


def _request(args):
    from medsegdiff_auto.crossval.request import Request, folds_of_split, usual_configuration

    name = paths.resolve_dataset(args.dataset)
    raw, preprocessed, results = (paths.require_folder(variable) / name for variable in paths.FOLDER_CONTENTS)
    configurations = args.c or [usual_configuration(preprocessed, args.p)]
    cascades = [one for one in configurations if "cascade" in one]
    if cascades:
        raise UserError("A cascade cannot be cross-validated by this command.", found=", ".join(cascades),
                        expected="2d, 3d_fullres or 3d_lowres", fix="leave it out of -c")
    return Request(name, raw, preprocessed, results, tuple(dict.fromkeys(configurations)),
                   (OURS, *dict.fromkeys(args.against)), folds_of_split(raw, preprocessed, args.f), args.p,
                   args.resources, args.iterations, args.epochs, args.seed, _device(args), args.np)


def _device(args) -> str:
    """As all commands choose it; the nodes of a cluster have GPUs where the one that submits has none."""
    if args.device is None and args.slurm is not None:
        return "cuda"
    from medsegdiff_auto.training.run import require_device

    return args.device or require_device(None).type


def _words(request) -> tuple[str, ...]:
    """The words with which a step of this cross-validation is called."""
    optional = [(f"--{name}", getattr(request, name)) for name in ("iterations", "epochs", "seed")]
    against = ["--against", *request.methods[1:]] if request.methods[1:] else []
    return (request.number, "-c", *request.configurations, "-f", *map(str, request.folds), *against, "-p",
            request.plans, "--resources", request.resources, *(word for flag, value in optional
                                                               if value is not None for word in (flag, str(value))),
            "-device", request.device, "-np", str(request.num_processes))


def _do(name: str, request) -> None:
    from medsegdiff_auto.crossval.steps import do
    from medsegdiff_auto.training.run import require_device
    from medsegdiff_auto.training.termination import TerminationRequest, end_paused

    device = require_device(request.device)
    if request.device == "cpu":
        compute_on_cpu()
    with TerminationRequest(end_paused):  # what is whole stays
        do(name, request, device)


def _print_states(request, jobs) -> None:
    from medsegdiff_auto.crossval.queue import SUBMITTED_FILE, ask, submitted
    from medsegdiff_auto.crossval.slurm import slurm_folder
    from medsegdiff_auto.crossval.states import states_of, table_of

    print(table_of(states_of(request, jobs, ask(submitted(slurm_folder(request) / SUBMITTED_FILE)))))


def _submit(request, jobs, options: str) -> None:
    from medsegdiff_auto.crossval.slurm import slurm_folder, submit

    numbers = submit(request, jobs, options)
    for name, number in numbers.items():
        print(f"{number}  {name}")
    print(f"{len(numbers)} jobs submitted; batch files in {slurm_folder(request)}. --status shows where they stand.")


def _run_here(request, jobs, number: int) -> int:
    from medsegdiff_auto.crossval.local import run_side_by_side, slots_of, usable_cores, visible_gpus
    from medsegdiff_auto.crossval.states import states_of, table_of
    from medsegdiff_auto.training.run import require_device

    require_device(request.device)
    gpus = visible_gpus() if request.device == "cuda" else None
    failed = run_side_by_side(request, jobs, slots_of(number, usable_cores(), gpus))
    if failed:
        print(table_of(states_of(request, jobs)))
        print(f"Failed: {', '.join(failed)}. The same command tries them again.", file=sys.stderr)
        return EXIT_FAILED
    print(f"All is done: {request.comparison / 'report.html'}")
    return 0
