"""A training that is killed at random moments ends with the weights of one that is not.

Plan and preprocess a dataset first. The killed training saves every second, so that kills also fall into the writing of
checkpoints; it is continued by ``medsegdiff_train --c`` as often as it is killed.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from medsegdiff_auto.cli.train import main as medsegdiff_train
from medsegdiff_auto.training import trainer
from medsegdiff_auto.training.checkpoints import load_safely
from medsegdiff_auto.training.run import CHECKPOINTS_TO_CONTINUE

SECONDS_BETWEEN_CHECKPOINTS = 1.0
COMPARED = ("raw_weights", "network_weights")


def train_once(words: list[str], results: Path) -> int:
    """Starts or continues the training in this process."""
    trainer.SECONDS_BETWEEN_CHECKPOINTS = SECONDS_BETWEEN_CHECKPOINTS
    begun = any(next(results.rglob(name), None) for name in CHECKPOINTS_TO_CONTINUE)
    return medsegdiff_train([*words, "-results", str(results), *(["--c"] if begun else [])])


def started(words: list[str], results: Path) -> subprocess.Popen:
    """:func:`train_once` as a process group of its own, so that its workers die with it."""
    command = [sys.executable, "-m", "medsegdiff_auto.benchmarks.resume", "--child", str(results), *words]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)


def killed_training(words: list[str], results: Path, num_kills: int, longest_s: float, seed: int) -> list[float]:
    """Kills the training ``num_kills`` times, then lets it end; returns the seconds after which it was killed."""
    generator, moments = random.Random(seed), []
    while len(moments) < num_kills:
        process, moment = started(words, results), generator.uniform(0, longest_s)
        try:
            if process.wait(moment) != 0:
                raise SystemExit(f"the training ended with {process.returncode}")
            raise SystemExit(f"the training was over after {len(moments)} kills: give more --iterations")
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            moments.append(moment)
    if started(words, results).wait() != 0:
        raise SystemExit("the last run did not end well")
    return moments


def differences(first: Path, second: Path) -> list[str]:
    """Names of the tensors of two final checkpoints that are not equal to the last bit."""
    checkpoints = [load_safely(next(folder.rglob("checkpoint_final.pth"))) for folder in (first, second)]
    return [f"{part}.{key}" for part in COMPARED for key, value in checkpoints[0][part].items()
            if not torch.equal(value, checkpoints[1][part][key])]


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        raise SystemExit(train_once(sys.argv[3:], Path(sys.argv[2])))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-d", required=True, help="dataset, planned and preprocessed")
    parser.add_argument("-c", required=True, help="configuration")
    parser.add_argument("--iterations", type=int, default=300)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--longest", type=float, default=20.0, help="seconds between start and kill, at most")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    words = [args.d, args.c, "0", "--iterations", str(args.iterations), "-device", "cpu", "--seed", str(args.seed)]
    with TemporaryDirectory() as folder:
        whole, killed = (Path(folder) / name for name in ("whole", "killed"))
        whole.mkdir(), killed.mkdir()
        if started(words, whole).wait() != 0:
            raise SystemExit("the uninterrupted training failed")
        moments = killed_training(words, killed, args.kills, args.longest, args.seed)
        different = differences(whole, killed)
    print(f"killed {len(moments)} times, after {', '.join(f'{moment:.1f}' for moment in moments)} s")
    print("all weights equal to the last bit" if not different else f"different: {', '.join(different)}")
    raise SystemExit(bool(different))


if __name__ == "__main__":
    main()
