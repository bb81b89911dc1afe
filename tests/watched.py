"""What Python reports of code that runs: processes that are started, and names that a pickle asks for."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

EVENTS = ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "pickle.find_class", "os.mkdir")
_seen: list[str] = []
_watched: list[tuple[str, ...]] = []


def _watch(event: str, arguments: tuple) -> None:
    if _watched and event in EVENTS and f"{arguments[0]}.{arguments[1:2]}" and not _is_expected(event, arguments):
        _seen.append(f"{event} {arguments}")


def _is_expected(event: str, arguments: tuple) -> bool:
    if event == "os.mkdir":
        return "made_by" not in str(arguments[0])
    return event == "pickle.find_class" and f"{arguments[0]}.{arguments[1]}" in _watched[-1]


sys.addaudithook(_watch)


@contextmanager
def nothing_runs(*expected: str) -> Iterator[None]:
    """No process is started, and no pickle asks for a name but the expected ones."""
    _seen.clear()
    _watched.append(expected)
    try:
        yield
    finally:
        _watched.clear()
    assert _seen == []


class MakesFolder:
    """A pickle of it makes a folder where it is loaded."""

    def __reduce__(self):
        return os.mkdir, ("made_by_a_pickle", )
