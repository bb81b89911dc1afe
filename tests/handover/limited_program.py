"""Runs the program of a challenge's folder within the limits of a platform."""

import os
import subprocess
import sys
from pathlib import Path

BASE = f"python:3.11-slim@sha256:{64 * 'a'}"

LIMITED = """
import os, resource, runpy, sys
allowed = [os.path.realpath(folder) for folder in sys.argv[1:3]]
said = []
def watch(event, arguments):
    if event in ("socket.connect", "subprocess.Popen", "os.fork", "os.posix_spawn") and arguments[:1] != ("fc-list",):
        said.append(f"{event} {arguments[:2]}")
    if event == "open" and isinstance(arguments[0], (str, bytes)) and arguments[2] & (os.O_WRONLY | os.O_RDWR):
        path = os.path.realpath(os.fsdecode(arguments[0]))
        if not any(path.startswith(folder + os.sep) for folder in allowed) and not path.startswith("/dev/null"):
            said.append(f"open {path}")
import torch
resource.setrlimit(resource.RLIMIT_DATA, (3 * 2 ** 30, 3 * 2 ** 30))
sys.addaudithook(watch)
sys.argv = ["inference.py", *sys.argv[3:]]
try:
    runpy.run_path("inference.py", run_name="__main__")
except SystemExit as end:
    print("said:", said, file=sys.stderr)
    pages = int(open("/proc/self/statm").read().split()[1])
    print("resident:", pages * resource.getpagesize() / 1e9, "GB at the end", file=sys.stderr)
    sys.exit(end.code)
"""


def run_limited(folder: Path, case: Path, output: Path, home: Path, settings: str) -> subprocess.CompletedProcess:
    """The program as in the container: little memory, no network, no process beside it, files in two places alone."""
    temporary = output.parent / "temporary"
    temporary.mkdir(exist_ok=True)
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": str(temporary), "OMP_NUM_THREADS": "1",
                   "PYTHONPATH": os.environ.get("PYTHONPATH", str(Path(__file__).parents[2])),
                   "MPLCONFIGDIR": str(temporary), "PYTHONDONTWRITEBYTECODE": "1", "nnUNet_compile": "f"}
    words = ["--input", case, "--output", output, "--model", folder / "model", f"--{Path(settings).stem}",
             folder / settings]
    return subprocess.run([sys.executable, "-c", LIMITED, str(output), str(temporary), *map(str, words)], cwd=folder,
                          env=environment, capture_output=True, text=True)
