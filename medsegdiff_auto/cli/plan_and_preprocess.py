"""``medsegdiff_plan_and_preprocess``: raw datasets to plans and preprocessed cases."""

from __future__ import annotations

import os

from medsegdiff_auto import paths
from medsegdiff_auto.cli.command import CommandParser, run
from medsegdiff_auto.numeric_flags import POSITIVE, WORKERS
from medsegdiff_auto.cores import num_cores
from medsegdiff_auto.planning.presets import available_presets, available_ready_plans, finished_plans, load_preset
from medsegdiff_auto.run_record import command_line, write_run


def main(argv=None) -> int:
    parser = CommandParser(prog="medsegdiff_plan_and_preprocess",
                           description="Checks a raw dataset, extracts its fingerprint, plans nnU-Net's configurations "
                                       "with their diffusion sections, and preprocesses.")
    parser.add_argument("-d", nargs="+", required=True, metavar="DATASET", help="dataset IDs or names")
    parser.add_argument("-c", nargs="+", metavar="CONFIGURATION",
                        help="configurations to preprocess (default: all that are planned)")
    parser.add_argument("--preset", default="auto",
                        help=f"preset of the diffusion: {', '.join(available_presets())} (default: auto)")
    parser.add_argument("--plans", metavar="FILE", help="finished plans, a file or one of "
                                                        f"{', '.join(available_ready_plans())}: nothing is planned")
    parser.add_argument("--encoder", choices=("plain", "resenc_m", "resenc_l", "resenc_xl"), default="plain",
                        help="nnU-Net's planner: its default, or a residual-encoder preset for about 9, 24 or 40 GB "
                             "(default: plain)")
    parser.add_argument("--resources", choices=("gpu", "cpu", "tiny"), default="gpu",
                        help="limits of the training machine: 'gpu' is nnU-Net's own size, 'cpu' halves the width and "
                             "caps the batch, 'tiny' is for demonstrations (default: gpu)")
    parser.add_argument("-gpu_memory_target", type=POSITIVE, metavar="GB",
                        help="nnU-Net's memory target; overrides that of --resources")
    parser.add_argument("-overwrite_plans_name", metavar="NAME",
                        help=f"name of the plans (default: {paths.OUR_PLANS}, or that of the file of --plans)")
    parser.add_argument("-overwrite_target_spacing", nargs="+", type=POSITIVE, metavar="MM",
                        help="target spacing of 3d_fullres, three numbers")
    parser.add_argument("--no_integrity_check", action="store_true", help="skip the check of the raw dataset")
    parser.add_argument("--clean", action="store_true", help="extract the fingerprint anew")
    parser.add_argument("--no_pp", action="store_true", help="plan only, do not preprocess")
    parser.add_argument("-np", type=WORKERS, default=num_cores(), metavar="N", help="worker processes")
    parser.add_argument("-raw", metavar="FOLDER", help="overrides nnUNet_raw")
    parser.add_argument("-preprocessed", metavar="FOLDER", help="overrides nnUNet_preprocessed")
    args = parser.parse_args(argv)
    return run(_plan_and_preprocess, args, command_line("medsegdiff_plan_and_preprocess", argv))


def _plan_and_preprocess(args, command: list[str]) -> None:
    paths.use_folders(raw=args.raw, preprocessed=args.preprocessed)
    raw, preprocessed = paths.require_folder("nnUNet_raw"), paths.require_folder("nnUNet_preprocessed")
    names = [paths.resolve_dataset(dataset) for dataset in args.d]
    os.environ.setdefault("nnUNet_def_n_proc", str(args.np))
    from medsegdiff_auto.planning import prepare
    from medsegdiff_auto.nnunet.dataset_files import is_divisible

    load_preset(args.preset)
    finished = finished_plans(args.plans) if args.plans else None
    for name in names:
        folder = preprocessed / name
        if not args.no_integrity_check:
            prepare.check(raw / name, folder, args.np)
        prepare.folds(raw / name, folder)
        prepare.fingerprint(name, args.np, args.clean)
        if finished:
            plans_name = prepare.adopt_plans(finished, raw / name, folder, args.overwrite_plans_name)
            print(f"Plan: {args.plans}, here {folder / plans_name}.json")
        else:
            plans_name = args.overwrite_plans_name or paths.OUR_PLANS
            _plan(name, plans_name, args)
            print(f"Plan: {folder / plans_name}.md")
        write_run(folder, command, file=f"{plans_name}_run.json")
        if not args.no_pp:
            chosen = prepare.preprocess(raw / name, folder, plans_name, args.c, args.np)
            fold = 0 if is_divisible(folder) else "all"
            named = "" if plans_name == paths.OUR_PLANS else f" -p {plans_name}"
            print(
                f"Preprocessed {', '.join(chosen)}. Next: medsegdiff_train {int(name[7:10])} {chosen[-1]} {fold}{named}"
            )


def _plan(name: str, plans_name: str, args) -> None:
    from medsegdiff_auto.planning import prepare
    from medsegdiff_auto.planning.planner import ENCODER_MEMORY_TARGETS_GB, PLANNERS
    from medsegdiff_auto.planning.resources import RESOURCES

    target_gb = args.gpu_memory_target
    if target_gb is None and args.resources == "gpu":
        target_gb = ENCODER_MEMORY_TARGETS_GB.get(args.encoder)
    prepare.plan(PLANNERS[args.encoder](name, args.preset, RESOURCES[args.resources], target_gb, plans_name,
                                        args.overwrite_target_spacing, args.c or ()))
