"""Commands that are killed at random moments end with the files of commands that are not, and leave no litter.

One command after the other, from conversion to report, on a small dataset of phantoms. Each runs once undisturbed. Then
it begins again from the same state, is killed (SIGKILL to the command and all of its workers), given again as a user
would, killed again, and so on until it is over; what it leaves is compared with what the first run left, byte by byte,
checkpoints tensor by tensor. Commands are forked from a process that has imported everything, so that kills fall into
their work. For Linux.
"""

from __future__ import annotations

import argparse
import gzip
import importlib
import json
import os
import random
import re
import shlex
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from types import ModuleType
from typing import NoReturn

import torch

from medsegdiff_auto import paths
from medsegdiff_auto.phantoms.nnunet_dataset import write_phantom_dataset
from medsegdiff_auto.phantoms.phantom import PhantomKind
from medsegdiff_auto.run_record import RUN_FILE
from medsegdiff_auto.training import interruptible
from medsegdiff_auto.training.checkpoints import load_safely
from medsegdiff_auto.training.run import CHECKPOINTS_TO_CONTINUE
from medsegdiff_auto.writing import UNFINISHED

SECONDS_BETWEEN_CHECKPOINTS = 0.3
LONGEST_S = 600.0
CONTINUED = "--c"
CASES, SHAPE = (8, 2), (48, 48)
MODEL = "results/Dataset005_Killed/nnUNetTrainerMedSegDiff__MedSegDiffPlans__2d"
MODULES = ("calibrate", "convert", "evaluate", "plan_and_preprocess", "predict", "report", "store_samples", "train")
IMPORTED_IN_COMMANDS = (
    "medsegdiff_auto.dataset_conversion.core.conversion", "medsegdiff_auto.dataset_conversion.folder",
    "medsegdiff_auto.evaluation.folder", "medsegdiff_auto.inference.folder", "medsegdiff_auto.planning.prepare",
    "medsegdiff_auto.reporting.report", "medsegdiff_auto.selection.dispersion",
    "medsegdiff_auto.selection.stored_samples")
# what holds times, or the history of a work that was begun several times; every step seeds the generators anew, so that
# their states depend on how often workers were started, and no weight on them
PASSING = re.compile(r"training_log_.*\.txt|progress\.png|debug\.json")
TIMES = re.compile(r"time|seconds|date|hours|converted$|random_states", re.IGNORECASE)
WRITTEN = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d")  # when a report was


@dataclass(frozen=True)
class Work:
    """A command.

    Attributes:
        line: its words, with ``{0}`` for the folder of everything.
        again: the further words of one that was begun.
        refusal: what it says where it was over before the kill.
    """

    line: str
    again: Callable[[Path], str] = lambda root: ""
    refusal: str | None = None

    @property
    def name(self) -> str:
        return self.line.split()[0]


def _continued(root: Path) -> str:
    return CONTINUED if any(next((root / MODEL).rglob(name), None) for name in CHECKPOINTS_TO_CONTINUE) else ""


WORKS = (
    Work("convert folder -i {0}/source -d 5 --name Killed -np 1", refusal="exists already"),
    Work("plan_and_preprocess -d 5 -c 2d --resources tiny -np 1"),
    Work("train 5 2d 0 --iterations 30 -device cpu --seed 0", _continued),
    Work("calibrate -d 5 -c 2d -f 0 -device cpu --samples 2"),
    Work("store_samples -d 5 -c 2d -f 0 -device cpu --samples 3 --steps 1 2"),
    Work("predict -i {0}/raw/Dataset005_Killed/imagesTr -o {0}/predicted -d 5 -c 2d -f 0 -device cpu --samples 2 "
         "--save_uncertainty --save_samples --continue_prediction"),
    Work("evaluate {0}/raw/Dataset005_Killed/labelsTr {0}/predicted -djfile {0}/predicted/dataset.json "
         "-pfile {0}/predicted/plans.json -np 1"),
    Work(f"report -m {{0}}/{MODEL} -p {{0}}/predicted --references {{0}}/raw/Dataset005_Killed/labelsTr "
         "--images {0}/raw/Dataset005_Killed/imagesTr -o {0}/report.html"),
)


@dataclass
class Found:
    """What kills did to one command, which takes so many seconds undisturbed."""

    takes_s: float
    kills: int = 0
    rounds: int = 0
    wrong: list[str] = field(default_factory=list)


def write_source(root: Path) -> None:
    """A user's folder of images and masks, and nnU-Net's three folders."""
    for folder in ("raw", "preprocessed", "results", "source/images", "source/masks"):
        (root / folder).mkdir(parents=True)
    dataset = write_phantom_dataset(root / "phantoms", 6, "Phantoms", CASES, PhantomKind(2, "CT", shape=SHAPE))
    for image in (dataset / "imagesTr").iterdir():
        shutil.copy(image, root / "source" / "images" / image.name.replace("_0000", ""))
        shutil.copy(dataset / "labelsTr" / image.name.replace("_0000", ""), root / "source" / "masks")
    shutil.rmtree(root / "phantoms")


def started(work: Work, root: Path) -> int:
    """The command in a forked process group of its own; returns its number."""
    words = shlex.split(f"{work.line.format(root)} {work.again(root)}")
    child = os.fork()
    if child:
        with suppress(PermissionError):  # it has done so itself and gone on
            os.setpgid(child, child)
        return child
    os.setpgid(0, 0)
    interruptible.SECONDS_BETWEEN_CHECKPOINTS = SECONDS_BETWEEN_CHECKPOINTS
    become(words, os.open(root.parent / "output.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC))


def become(words: Sequence[str], output: int) -> NoReturn:
    """Runs ``medsegdiff_<words>`` in this forked process, which ends with its exit code.

    Args:
        output: descriptor of what it prints.
    """
    sys.modules["__main__"] = ModuleType("__main__")  # else every worker imports all that this module does
    code = 1
    try:
        os.dup2(output, 1), os.dup2(output, 2)
        sys.stdout, sys.stderr = (open(number, "w", buffering=1, closefd=False) for number in (1, 2))
        code = importlib.import_module(f"medsegdiff_auto.cli.{words[0]}").main(list(words[1:]))
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


def ended(child: int, after_s: float) -> int | None:
    """The exit code of a process that is over after some seconds; None where it had to be killed."""
    deadline = monotonic() + after_s
    while monotonic() < deadline:
        number, status = os.waitpid(child, os.WNOHANG)
        if number:
            return os.waitstatus_to_exitcode(status)
        sleep(0.002)
    os.killpg(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) if _is_over(child) else None


def _is_over(child: int) -> bool:
    """Waits for a killed process; whether it had ended by itself."""
    info = os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    return info is not None and info.si_code == os.CLD_EXITED


def contents(root: Path) -> dict[str, object]:
    """What lies in a folder, by relative path, without times: bytes, or what a JSON file, table or checkpoint says."""
    return {str(file.relative_to(root)): _content(file) for file in sorted(root.rglob("*"))
            if file.is_file() and not PASSING.fullmatch(file.name)}


def _content(file: Path) -> object:
    if file.suffix == ".json":
        content = _without_times(json.loads(file.read_text(encoding="utf-8")))
        if file.name == RUN_FILE:
            content["command"] = [word for word in content["command"] if word != CONTINUED]
        return content
    if file.suffix == ".html":
        return WRITTEN.sub("", file.read_text(encoding="utf-8"))
    if file.suffix == ".gz":
        return gzip.decompress(file.read_bytes())
    if file.name == "cases.csv":
        rows = [line.split(",") for line in file.read_text(encoding="utf-8").splitlines()]
        kept = [column for column, name in enumerate(rows[0]) if not TIMES.search(name)]
        return sorted(tuple(row[column] for column in kept) for row in rows)
    if file.suffix == ".pth":
        return _without_times(load_safely(file))
    return file.read_bytes()


def _without_times(content):
    if isinstance(content, dict):
        return {key: _without_times(value) for key, value in content.items() if not TIMES.search(str(key))}
    if isinstance(content, (list, tuple)):
        return [_without_times(value) for value in content]
    if isinstance(content, torch.Tensor):
        return content.dtype, content.shape, content.contiguous().view(-1).view(torch.uint8).numpy().tobytes()
    return content if content == content else "nan"


def differences(whole: dict[str, object], killed: dict[str, object]) -> list[str]:
    """Files that only one of two folders has, that differ, or that a killed command left unfinished."""
    litter = [f"{name} is litter" for name in killed if UNFINISHED in name or name.endswith(".lock")]
    only = [f"{name} is there only {where}" for where, one, other in (("undisturbed", whole, killed),
                                                                       ("after kills", killed, whole))
            for name in one if name not in other and f"{name} is litter" not in litter]
    return litter + only + [f"{name} differs" for name in whole if name in killed and whole[name] != killed[name]]


def torment(work: Work, folder: Path, num_kills: int, generator: random.Random) -> Found:
    """Kills a command at random moments until it was killed ``num_kills`` times, and leaves what it does undisturbed.
    """
    root, before, after = folder / "work", folder / "before", folder / "after"
    shutil.copytree(root, before)
    begun = monotonic()
    if code := ended(started(work, root), LONGEST_S):
        raise SystemExit(f"{work.line} ended with {code}: {_last_words(folder)}")
    takes_s = monotonic() - begun
    whole, found = contents(root), Found(takes_s)
    shutil.copytree(root, after)
    while found.kills < num_kills:
        shutil.rmtree(root), shutil.copytree(before, root)
        code, killed_here = None, 0
        while code is None:
            is_last = found.kills + 1 > num_kills
            code = ended(started(work, root), LONGEST_S if is_last else generator.uniform(0, 1.1 * takes_s))
            killed_here += code is None
            found.kills += code is None
        found.rounds += 1
        words = _last_words(folder)
        failed = code and not (work.refusal and work.refusal in words)
        wrong = [f"exit code {code}: {words}"] if failed else differences(whole, contents(root))
        found.wrong += [f"{work.name}, round {found.rounds} of {killed_here} kills: {what}" for what in wrong]
    shutil.rmtree(root), shutil.rmtree(before), shutil.move(after, root)
    return found


def _last_words(folder: Path) -> str:
    return " | ".join((folder / "output.log").read_text(encoding="utf-8", errors="replace").splitlines()[-6:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=1000, help="of all commands together (default: %(default)s)")
    parser.add_argument("--only", nargs="*", metavar="COMMAND", help="kill only these; the others run undisturbed")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    for module in (*(f"medsegdiff_auto.cli.{name}" for name in MODULES), *IMPORTED_IN_COMMANDS):
        importlib.import_module(module)
    for variable in ("nnUNet_n_proc_DA", "nnUNet_def_n_proc"):
        os.environ.setdefault(variable, "1")
    generator, wrong = random.Random(args.seed), []
    tormented = [work for work in WORKS if not args.only or work.name in args.only]
    with TemporaryDirectory() as name:
        folder = Path(name)
        root = folder / "work"
        write_source(root)
        paths.use_folders(root / "raw", root / "preprocessed", root / "results")
        print("| command | seconds undisturbed | kills | begun anew | wrong |\n|---|---|---|---|---|", flush=True)
        for work in WORKS:
            found = torment(work, folder, -(-args.kills // len(tormented)) * (work in tormented), generator)
            print("\n".join(found.wrong), file=sys.stderr, flush=True)
            print(f"| {work.name} | {found.takes_s:.1f} | {found.kills} | {found.rounds} | {len(found.wrong)} |",
                  flush=True)
            wrong += found.wrong
    print(f"\n{len(wrong)} wrong, see above." if wrong else "\nEverything equal, and no litter.")
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
