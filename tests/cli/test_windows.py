"""Everything imports where what only POSIX has is absent, as on Windows, and what uses it falls back."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from medsegdiff_auto.inference.case_table import read_case_table

NUM_WRITERS, NUM_CASES = 2, 15
PROGRAM = """
import importlib, json, logging, os, pathlib, signal, sys, time, traceback, warnings
folder, fork, end = pathlib.Path(sys.argv[1]), os.fork, os._exit
sys.modules["fcntl"] = sys.modules["resource"] = None  # importing them raises ModuleNotFoundError
for name in ("preadv", "pwrite", "pread", "sched_getaffinity", "killpg"):
    delattr(os, name)
for name in ("SIGKILL", "SIGALRM", "alarm"):
    delattr(signal, name)
is_file = pathlib.Path.is_file
pathlib.Path.is_file = lambda path: not str(path).startswith("/proc/") and is_file(path)
warned = []
warnings.showwarning = lambda message, *_: warned.append(str(message))
warnings.simplefilter("always")

failed, imported = {}, []
for module in sys.stdin.read().split():
    try:
        imported.append(importlib.import_module(module).__name__)
    except Exception:
        failed[module] = traceback.format_exc(limit=-2)
facts = {"failed": failed, "imported": imported}
if not failed:
    import torch
    from medsegdiff_auto.dataset_conversion.core.workplace import workplace
    from medsegdiff_auto.errors import UserError
    from medsegdiff_auto.inference import case_table
    from medsegdiff_auto.sampling import process_memory
    from medsegdiff_auto.sampling.volume_store import Storage

    read, writers = case_table.read_case_table, []
    case_table.read_case_table = lambda folder: (read(folder), time.sleep(0.005))[0]  # the other writer's turn
    for writer in range(int(sys.argv[2])):
        writers.append(fork())
        if not writers[-1]:
            code = 1
            try:
                for case in range(int(sys.argv[3])):
                    case_table.add_to_case_table([{"case": f"{writer}_{case:02d}", "expected_dice": "0.5"}], folder)
                code = 0
            finally:
                end(code)
    facts["writers"] = [os.waitpid(writer, 0)[1] for writer in writers]

    numbers = torch.randn(2, 5, 4, 6, generator=torch.Generator().manual_seed(0))
    volume = Storage(folder).empty(numbers.shape)
    volume.write(slice(2, 5), numbers[:, 2:])
    volume.write(slice(0, 2), numbers[:, :2])
    facts["volume"] = torch.equal(volume.read(), numbers) and torch.equal(volume[1].read(slice(1, 4)), numbers[1, 1:4])

    with workplace(folder, "Dataset007_Tiny", {}):
        try:
            with workplace(folder, "Dataset007_Tiny", {}):
                pass
        except UserError as error:
            facts["second_conversion"] = error.what
    with workplace(folder, "Dataset007_Tiny", {}):
        facts["third_conversion"] = "begun"

    logging.getLogger("medsegdiff_auto").addHandler(logging.StreamHandler(sys.stderr))
    facts["resident"] = [process_memory.resident_bytes(), process_memory.peak_resident_bytes()]
facts["warned"] = warned
print(json.dumps(facts))
"""


def modules() -> list[str]:
    """Names of all modules of the package and of dataset_conversion, which is installed in it."""
    root = Path(__file__).parents[2]
    names = [[*file.relative_to(root).parent.parts, *([] if file.stem == "__init__" else [file.stem])]
             for room in ("medsegdiff_auto", "dataset_conversion") for file in sorted((root / room).rglob("*.py"))]
    return [".".join(name if name[0] == "medsegdiff_auto" else ["medsegdiff_auto", *name]) for name in names]


@pytest.fixture(scope="module")
def tables(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("predictions")


@pytest.fixture(scope="module")
def without_posix(tables) -> dict:
    """What a process found in which all of that is absent."""
    if not hasattr(os, "fork"):
        pytest.skip("this system has none of it; the other tests show that the fallbacks work")
    asked = modules()
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(tables), str(NUM_WRITERS), str(NUM_CASES)],
                          input="\n".join(asked), capture_output=True, text=True,
                          env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]) | {"log": done.stderr, "asked": asked}


def test_every_module_imports(without_posix):
    assert without_posix["failed"] == {}
    assert without_posix["imported"] == without_posix["asked"]


def test_two_writers_of_one_table_lose_no_row_and_leave_no_lock(without_posix, tables):
    assert without_posix["writers"] == [0] * NUM_WRITERS
    assert [row["case"] for row in read_case_table(tables)] == [
        f"{writer}_{case:02d}" for writer in range(NUM_WRITERS) for case in range(NUM_CASES)]
    assert sorted(path.name for path in tables.iterdir()) == [".Dataset007_Tiny.partial", "cases.csv"]


def test_a_volume_on_disk_reads_back_what_was_written(without_posix):
    assert without_posix["volume"]


def test_a_second_conversion_is_refused_as_long_as_the_first_goes_on(without_posix):
    assert without_posix["second_conversion"] == "Dataset007_Tiny is being converted by another process."
    assert without_posix["third_conversion"] == "begun"


def test_unknown_memory_counts_as_none_and_the_log_says_so_once(without_posix):
    assert without_posix["resident"] == [0, 0]
    assert without_posix["log"].count("does not say how much memory the process takes") == 1


def test_the_weaker_lock_is_warned_of(without_posix):
    assert "only soft file lock is available" in without_posix["warned"]
