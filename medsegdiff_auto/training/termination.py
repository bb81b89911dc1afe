"""SIGTERM as a request that the training answers between two steps, with a checkpoint."""

from __future__ import annotations

import os
import signal
import threading

EXIT_CODE = 128 + signal.SIGTERM


class TerminationRequest:
    """While active, SIGTERM sets ``asked`` instead of ending the process.

    Forked workers inherit the handler; in them SIGTERM ends the process as ever, so that pools can be closed.
    """

    def __init__(self):
        self.asked = False

    def __enter__(self) -> TerminationRequest:
        self._owner = os.getpid()
        self._in_main_thread = threading.current_thread() is threading.main_thread()
        if self._in_main_thread:  # Python lets no other thread set handlers
            self._previous = signal.signal(signal.SIGTERM, self._handle)
        return self

    def __exit__(self, *_) -> None:
        if self._in_main_thread:
            signal.signal(signal.SIGTERM, self._previous)

    def _handle(self, *_) -> None:
        if os.getpid() != self._owner:
            os._exit(EXIT_CODE)
        self.asked = True
