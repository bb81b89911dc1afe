"""Converts cases in several processes, or in this one; a progress bar where there is a terminal."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

from tqdm import tqdm

from medsegdiff_auto.dataset_conversion.core.case_files import CaseRecord, Target, convert_case
from medsegdiff_auto.dataset_conversion.core.source import Case, Omission
from medsegdiff_auto.errors import UserError


def convert_cases(converter_name: str, cases: Sequence[Case], target: Target,
                  num_processes: int) -> Iterator[CaseRecord | Omission]:
    """Yields the outcome of each case as it comes.

    Raises:
        UserError: a worker process ended without a word, as the system ends it when memory is short.
        OSError: a file cannot be written.
    """
    progress = tqdm(total=len(cases), unit="case", disable=not sys.stderr.isatty())
    outcomes = (_in_this_process if min(num_processes, len(cases)) <= 1 else _in_workers)(converter_name, cases, target,
                                                                                          num_processes)
    with progress:
        for outcome in outcomes:
            progress.update()
            yield outcome


def _in_this_process(converter_name, cases, target, _) -> Iterator[CaseRecord | Omission]:
    return (convert_case(converter_name, case, target) for case in cases)


def _in_workers(converter_name, cases, target, num_processes) -> Iterator[CaseRecord | Omission]:
    pool = ProcessPoolExecutor(min(num_processes, len(cases)), multiprocessing.get_context("spawn"), _prepare_worker)
    try:
        for done in as_completed([pool.submit(convert_case, converter_name, case, target) for case in cases]):
            yield done.result()
    except BrokenProcessPool as failure:
        raise UserError("A worker process ended before its case was done.",
                        found=f"{num_processes} workers, too little memory perhaps",
                        expected="enough memory for one case in each worker",
                        fix="give the same command with a smaller -np; it continues where it stopped") from failure
    finally:
        pool.shutdown(cancel_futures=True)


def _prepare_worker() -> None:
    """Leaves Ctrl-C to the parent, and ends with the parent even where that was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def end_with_parent() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
