"""One command after the other in this process, each printed as it would be typed; what is done is left out."""

from __future__ import annotations

import importlib
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

from medsegdiff_auto.chain.conclusion import conclusion
from medsegdiff_auto.chain.pace import measure_pace
from medsegdiff_auto.chain.place import begun, require_same_chain
from medsegdiff_auto.chain.statement import is_plan_there, statement, what_is_left, write_commands
from medsegdiff_auto.chain.steps import CONVERT, IMAGES, PREDICT, Chain, steps_of
from medsegdiff_auto.cli import EXIT_INTERRUPTED
from medsegdiff_auto.crossval.jobs import PLAN, TRAIN, Job
from medsegdiff_auto.training.termination import EXIT_CODE, TerminationRequest, end_paused

EXIT_LEFT_OUT = 1
MAY_LEAVE_OUT = (CONVERT, IMAGES, PREDICT)
"""Commands that end with 1 where some of the images are left out, which they name."""


def shown(job: Job) -> str:
    """The command as it would be typed."""
    return shlex.join([f"medsegdiff_{job.command[0]}", *job.command[1:]])


def executed(job: Job) -> int:
    """Calls the command's ``main`` in this process and returns its exit code."""
    return importlib.import_module(f"medsegdiff_auto.cli.{job.command[0]}").main(list(job.command[1:]))


def follow(chain_of: Callable[[], Chain], begun_with: dict, overwrite: bool = False, dry_run: bool = False,
           concludes: Callable[[], int] | None = None) -> int:
    """States what is to be done, and does it, unless it is a rehearsal; returns the exit code.

    Args:
        chain_of: the chain as the files of the moment say.
        begun_with: what tells this chain from another one in the same folder.
        concludes: says the last words in place of the chain's own.

    Raises:
        UserError: the folder is not that of such a chain.
    """
    chain = chain_of()
    if dry_run:
        require_same_chain(chain.place.root, begun_with, overwrite)
        print(statement(chain, steps_of(chain)))
        return 0
    with begun(chain.place.root, begun_with, overwrite):
        chain.place.use()
        if is_plan_there(chain):
            measure_pace(chain)
        chain = chain_of()
        jobs = steps_of(chain)
        write_commands(chain, jobs)
        print(statement(chain, jobs), flush=True)
        code = _all_steps(chain_of)
        if code in (0, EXIT_LEFT_OUT):
            code = (concludes() if concludes is not None else _conclude(chain_of())) or code
    return code


def _all_steps(chain_of: Callable[[], Chain]) -> int:
    """Gives every command that is not done, once."""
    start_s, given, code = time.monotonic(), set(), 0
    while True:
        jobs = steps_of(chain_of())
        names = list(jobs)
        name = next((name for name in names if name not in given and not jobs[name].is_done()), None)
        if name is None:
            write_commands(chain_of(), jobs)
            return code
        given.add(name)
        minutes = (time.monotonic() - start_s) / 60
        print(f"\n[{names.index(name) + 1}/{len(names)}, {minutes:.1f} min] $ {shown(jobs[name])}", flush=True)
        of_step = _code_of(jobs[name])
        kind = name.split("/")[0]
        if of_step == EXIT_LEFT_OUT and kind in MAY_LEAVE_OUT:
            code = EXIT_LEFT_OUT
        elif of_step != 0:
            if of_step not in (EXIT_INTERRUPTED, EXIT_CODE):
                print(f"error: this ends here, because medsegdiff_{jobs[name].command[0]} returned {of_step}. The same "
                      "line goes on.", file=sys.stderr)
            return of_step
        if kind == PLAN:
            measure_pace(chain_of())
            print(f"\nPlanned. What is left:\n{what_is_left(chain_of(), steps_of(chain_of()))}", flush=True)


def _code_of(job: Job) -> int:
    interrupted: list[int] = []
    is_training = job.name.startswith(f"{TRAIN}/")
    with _ended_with_a_checkpoint(interrupted) if is_training else nullcontext():
        try:
            code = executed(job)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
    if interrupted and code == EXIT_CODE:
        raise KeyboardInterrupt
    return code


@contextmanager
def _ended_with_a_checkpoint(interrupted: list[int]) -> Iterator[None]:
    """While active, Ctrl-C ends a training as SIGTERM does: after the step, with a checkpoint."""

    def interrupt(number: int, _) -> None:
        interrupted.append(number)
        os.kill(os.getpid(), signal.SIGTERM)

    with TerminationRequest(end_paused):
        previous = signal.signal(signal.SIGINT, interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, previous)


def _conclude(chain: Chain) -> int:
    print(conclusion(chain))
    return 0
