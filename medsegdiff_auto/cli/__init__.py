"""One file per command.

Ctrl-C while a command still imports what it needs ends it as it does later, with one line and 130.
"""

import os
import sys

EXIT_INTERRUPTED = 130  # as of processes that SIGINT ends
INTERRUPTED = "Interrupted: what is complete stays."

_report = sys.excepthook


def _say_in_one_line(kind, value, traceback) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        _report(kind, value, traceback)
        return
    print(INTERRUPTED, file=sys.stderr)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(EXIT_INTERRUPTED)


sys.excepthook = _say_in_one_line
