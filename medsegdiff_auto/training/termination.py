"""What ends a training early: a STOP file and the clock, for good; SIGTERM, which a checkpoint after the step answers,
and the limit of a pause, until it is started again.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

EXIT_CODE = 75
"""EX_TEMPFAIL of sysexits.h: paused, and the same command goes on. What is done ends with 0."""
ENDED_EARLY = (EXIT_CODE, -signal.SIGTERM, 128 + signal.SIGTERM)
"""Codes of processes that SIGTERM ended, of those that answer it and of those that do not, as Python and shells say."""
STOP_FILE = "STOP"


class TrainingEnded(Exception):
    """Raised at the end of an epoch when the time is up or a STOP file lies in the output folder."""


def reason_to_end(output_folder: str | Path, hours: float, max_hours: float | None) -> str | None:
    """A STOP file, which is used up, or the clock; None where there is neither."""
    stop_file = Path(output_folder) / STOP_FILE
    if stop_file.is_file():
        stop_file.unlink()
        return "STOP file found"
    return f"{max_hours:g} hours are over" if max_hours and hours >= max_hours else None


def end_paused() -> None:
    """Ends the process, which begins again where its files say."""
    raise SystemExit(EXIT_CODE)


class TerminationRequest:
    """While active, SIGTERM sets ``asked`` instead of ending the process, and calls ``pass_on``.

    In forked processes SIGTERM ends the process as ever, so that pools can be closed.
    """

    def __init__(self, pass_on: Callable[[], None] = lambda: None):
        self.asked, self.pass_on = False, pass_on

    def __enter__(self) -> TerminationRequest:
        self._owner = os.getpid()
        self._in_main_thread = threading.current_thread() is threading.main_thread()
        if self._in_main_thread:  # Python lets no other thread set handlers
            _ACTIVE.append(self)
            self._previous = signal.signal(signal.SIGTERM, self._handle)
        return self

    def __exit__(self, *_) -> None:
        if self._in_main_thread:
            signal.signal(signal.SIGTERM, self._previous)
            _ACTIVE.remove(self)

    def _handle(self, *_) -> None:
        if os.getpid() != self._owner:
            os._exit(EXIT_CODE)
        self.asked = True
        self.pass_on()


_ACTIVE: list[TerminationRequest] = []
_MASKS: list[set] = []


def _hold_back() -> None:
    if _ACTIVE:
        _MASKS.append(signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM}))


def _let_through() -> None:
    if _MASKS:
        signal.pthread_sigmask(signal.SIG_SETMASK, _MASKS.pop())


def _end_as_ever() -> None:
    if _ACTIVE:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        _ACTIVE.clear()
    _let_through()


if hasattr(os, "register_at_fork"):
    # Python forgets a signal that comes to a forked process before it is ready: who joins its pool then waits for ever
    os.register_at_fork(before=_hold_back, after_in_parent=_let_through, after_in_child=_end_as_ever)
