"""All that has to be seen once on a GPU, in one call: two plans trained, predicted, timed and weighed.

Every step is guarded: of one that fails the error and its traceback are written down, and the others go on.
No step begins after its time is over; one that has begun is finished. ``first_light.json`` and ``first_light.md`` are
written anew after each.

Neither the network nor raw data is needed. Of each dataset its folder in ``nnUNet_preprocessed`` is carried along:

    dataset.json, dataset_fingerprint.json, MedSegDiffPlans.json
    splits_final.json           may name fewer cases than the dataset has
    gt_segmentations/           of these cases
    DATA_IDENTIFIER/            of these cases: CASE.b2nd, CASE_seg.b2nd, CASE.pkl

Twenty cases of one small plan in 3-D and of one in 2-D are enough. Checkpoints of up to 16 MiB stay beside the tables.
On a CPU the same steps are done in a reduced form: a few iterations in float32, nothing compiled.
"""

from __future__ import annotations

import argparse
import gc
import os
import subprocess
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from unittest import mock

import torch

from medsegdiff_auto import paths
from medsegdiff_auto.benchmarks.first_light_steps import STEPS, Amount, Measurement, Settings, Subject, results_folder
from medsegdiff_auto.cli.command import run
from medsegdiff_auto.cli.info import collect
from medsegdiff_auto.cores import compute_on_cpu, num_cores
from medsegdiff_auto.run_record import command_line, write_run
from medsegdiff_auto.training.batches import WORKERS_VARIABLE
from medsegdiff_auto.training.run import load_plans, require_device

PROGRAM = "python -m medsegdiff_auto.benchmarks.first_light"
JSON_FILE, TABLE_FILE = "first_light.json", "first_light.md"
FULL, QUICK = Amount(60, 20, 2, 3, (8, 16), 4), Amount(4, 2, 1, 1, (2, 4), 0)
DONE, FAILED, LEFT_OUT = "done", "failed", "left out"
COMPILE_VARIABLE = "nnUNet_compile"
ON_OFF = {"on": True, "off": False}


def driver() -> str | None:
    """The version of NVIDIA's driver; None where its command is missing or fails."""
    with suppress(OSError, subprocess.CalledProcessError):
        return subprocess.run(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"], check=True,
                              capture_output=True, text=True).stdout.strip()
    return None


def facts_of(device: torch.device) -> dict:
    """Device, driver and versions."""
    is_gpu = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if is_gpu else f"CPU, {num_cores()} cores"
    libraries = {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()} if is_gpu else {}
    return {"device": device.type, "device_name": name, "driver": driver() if is_gpu else None,
            "versions": collect()["versions"] | libraries}


def order(subjects: Sequence[Subject], compilations: Sequence[bool]) -> list[tuple[Subject, bool, str]]:
    """Steps, each with every subject before the next one; those of the first compilation before those of the second."""
    return [(subject, is_compiled, name) for number, is_compiled in enumerate(compilations)
            for name, step in STEPS.items() if step.compiles or number == 0 for subject in subjects]


def attempt(subject: Subject, is_compiled: bool, name: str, settings: Settings) -> dict:
    """One step in its environment: what it gives, or how it failed."""
    environment = {COMPILE_VARIABLE: str(is_compiled), WORKERS_VARIABLE: str(settings.amount.workers),
                   "nnUNet_preprocessed": str(subject.preprocessed.parent),
                   "nnUNet_results": str(results_folder(settings, is_compiled))}
    begin = perf_counter()
    try:
        with mock.patch.dict(os.environ, environment):
            measured = STEPS[name].measure(subject, settings, is_compiled)
        found = {"outcome": DONE, "measurements": [one._asdict() for one in measured.measurements], **measured.recorded}
    except Exception as failure:
        found = {"outcome": FAILED, "failure": traceback.format_exception_only(failure)[-1].splitlines()[0],
                 "traceback": traceback.format_exc().splitlines()}
    release(settings.device, is_compiled)
    return found | {"seconds_of_step": perf_counter() - begin}


def release(device: torch.device, is_compiled: bool) -> None:
    """Frees what a step leaves behind.

    The next step's peak is its own, and torch compiles a function for a few networks only before it gives up.
    """
    if is_compiled:
        torch.compiler.reset()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def shown(one: Measurement) -> str:
    """A value with unit and interval."""
    interval = f" ({one.low:.4g} to {one.high:.4g})" if one.low is not None else ""
    return f"{one.value:.4g}{interval} {one.unit}".rstrip()


def table(facts: dict, records: Sequence[dict]) -> str:
    """One row per measurement; below it what failed and what was left out."""
    columns = "| dataset | configuration | compiled | step |"
    rows = {outcome: [] for outcome in (DONE, FAILED, LEFT_OUT)}
    for record in records:
        is_compiled, outcome = "yes" if record["compiled"] else "no", record["outcome"]
        place = f"| {record['dataset']} | {record['configuration']} | {is_compiled} | {record['step']} |"
        if outcome == DONE:
            found = [Measurement(**one) for one in record["measurements"]]
            rows[outcome] += [f"{place} {one.what} | {shown(one)} |" for one in found]
        else:
            rows[outcome].append(f"{place} {outcome} | {record.get('failure', '').replace('|', '/')} |")
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    machine = facts["device_name"] + (f", driver {facts['driver']}" if facts["driver"] else "")
    lines = [f"{machine}; {versions}; seed {facts['seed']}; {facts['seconds']:.0f} s.", "",
             f"    {' '.join(facts['command'])}", "",
             f"{columns} measured | value |", "|---|---|---|---|---|---|", *rows[DONE]]
    undone = rows[FAILED] + rows[LEFT_OUT]
    if undone:
        lines += ["", f"{columns} outcome | error |", "|---|---|---|---|---|---|", *undone]
    return "\n".join(lines) + "\n"


def first_light(subjects: Sequence[Subject], compilations: Sequence[bool], settings: Settings, minutes: float,
                command: Sequence[str]) -> int:
    """Every step in its order while there is time; the exit code, 1 where one has failed."""
    begin, records = perf_counter(), []
    facts = {**facts_of(settings.device), "seed": settings.seed, "minutes": minutes, "amount": vars(settings.amount)}
    for subject, is_compiled, name in order(subjects, compilations):
        is_over = perf_counter() - begin >= 60 * minutes
        found = {"outcome": LEFT_OUT} if is_over else attempt(subject, is_compiled, name, settings)
        records.append({"dataset": subject.name, "configuration": subject.configuration, "compiled": is_compiled,
                        "step": name, **found})
        facts["seconds"] = perf_counter() - begin
        write_run(settings.output, command, file=JSON_FILE, **facts, steps=records)
        (settings.output / TABLE_FILE).write_text(table({**facts, "command": command}, records), encoding="utf-8")
        print(f"{facts['seconds']:6.1f} s  {subject.name} {subject.configuration}, {'compiled, ' * is_compiled}{name}: "
              f"{found['outcome']} {found.get('failure', '')}".rstrip(), flush=True)
    return int(any(record["outcome"] == FAILED for record in records))


def subject_of(dataset: str, configuration: str, plans: str) -> Subject:
    """A dataset by its preprocessed folder, name or ID.

    Raises:
        UserError: it is unknown, or has no such plan or no preprocessed cases for it.
    """
    folder = Path(dataset).absolute() if Path(dataset).is_dir() else paths.preprocessed_folder(dataset)
    load_plans(folder, plans, configuration)
    return Subject(folder, configuration, plans)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-d", nargs="+", required=True, metavar="DATASET", help="preprocessed folders, names or IDs")
    parser.add_argument("-c", nargs="+", required=True, metavar="CONFIGURATION", help="one per dataset")
    parser.add_argument("-p", default=paths.OUR_PLANS, metavar="PLANS")
    parser.add_argument("-o", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("-device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--minutes", type=float, default=8, help="after which no step begins (default: 8)")
    parser.add_argument("--compile", nargs="+", choices=tuple(ON_OFF),
                        help="in this order (default: off, then on; on a CPU off: nnU-Net never compiles there)")
    parser.add_argument("--quick", action=argparse.BooleanOptionalAction, help="a few iterations (default: on a CPU)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    if len(args.d) != len(args.c):
        parser.error(f"-d names {len(args.d)} datasets, -c {len(args.c)} configurations")
    return run(_first_light, args, command_line(PROGRAM, argv))


def _first_light(args: argparse.Namespace, command: Sequence[str]) -> int:
    device = require_device(args.device)
    on_cpu = device.type == "cpu"
    subjects = [subject_of(*pair, args.p) for pair in zip(args.d, args.c)]
    compute_on_cpu()
    torch.backends.cudnn.benchmark = True  # as training sets it
    args.o.mkdir(parents=True, exist_ok=True)
    compilations = [ON_OFF[word] for word in args.compile or (["off"] if on_cpu else ["off", "on"])]
    amount = QUICK if (on_cpu if args.quick is None else args.quick) else FULL
    with TemporaryDirectory(prefix="first_light_") as work:
        settings = Settings(device, args.seed, amount, Path(work), args.o)
        return first_light(subjects, compilations, settings, args.minutes, command)


if __name__ == "__main__":
    sys.exit(main())
