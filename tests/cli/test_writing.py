"""A file is there completely or not at all."""

import csv
import errno
import json
import os
import socket
import subprocess
import sys

import pytest

from medsegdiff_auto.writing import atomically, read_table, write_json, write_table, write_text

WRITERS = ("text.txt", "weights.pth", "samples.npz", "mask.nii.gz", "mask.mha", "mask.nrrd", "mask.png", "mask.tif")
# a process of its own, since the limit holds for its standard output too: here that may be a file
ON_A_FULL_DISK = """
import json, resource, sys
from pathlib import Path
import numpy as np, SimpleITK as sitk, torch
from medsegdiff_auto.writing import atomically, staged_output

pixels = np.random.default_rng(0).integers(0, 2**15, (64, 64))

def image(kind):
    return lambda file: sitk.WriteImage(sitk.GetImageFromArray(pixels.astype(kind)), str(file))

writers = {"text.txt": lambda file: file.write_text("x" * 8192),
           "weights.pth": lambda file: torch.save(torch.zeros(4096), file),
           "samples.npz": lambda file: np.savez(file, samples=pixels),
           "mask.nii.gz": image(np.int16), "mask.mha": image(np.int16), "mask.nrrd": image(np.int16),
           "mask.png": image(np.uint16), "mask.tif": image(np.uint16)}

def one(folder, name):
    file = folder / name
    file.write_text("earlier")
    with atomically(file) as unfinished:
        writers[name](unfinished)

def several(folder, name):
    with staged_output(folder) as stage:
        (stage / "first.txt").write_text("whole")
        writers[name](stage / name)

found = {}
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
for write in (one, several):
    for name in writers:
        folder = Path(sys.argv[1]) / write.__name__ / name
        folder.mkdir(parents=True)
        try:
            write(folder, name)
            failure = None
        except OSError as error:
            failure = (error.errno, error.filename)
        left = {path.name: path.read_text(errors="replace") for path in folder.iterdir()}
        found[str(folder)] = [failure, left]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def on_a_full_disk(tmp_path_factory):
    """No file grows beyond 4 kB, as if its disk were full: by folder, the failure's number and file, and what is left.
    """
    folder = tmp_path_factory.mktemp("full_disk")
    done = subprocess.run([sys.executable, "-c", ON_A_FULL_DISK, str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)


@pytest.mark.parametrize("name", WRITERS)
def test_where_the_disk_refuses_more_the_earlier_file_stays_and_the_error_names_it_and_the_cause(on_a_full_disk, name):
    folder, found = on_a_full_disk
    place = folder / "one" / name
    assert found[str(place)] == [[errno.EFBIG, str(place / name)], {name: "earlier"}]


@pytest.mark.parametrize("name", WRITERS)
def test_several_files_come_all_or_none_and_the_error_names_their_place(on_a_full_disk, name):
    folder, found = on_a_full_disk
    place = folder / "several" / name
    (number, file), left = found[str(place)]
    assert number == errno.EFBIG and file in (str(place), str(place / name)) and not left


def test_a_mistake_of_ours_in_the_block_is_not_taken_for_one_of_the_disk(tmp_path):
    with pytest.raises(RuntimeError, match="ours"), atomically(tmp_path / "file"):
        raise RuntimeError("ours")
    with pytest.raises(FileNotFoundError) as failure, atomically(tmp_path / "file"):
        open(tmp_path / "source")
    assert failure.value.filename == str(tmp_path / "source") and not list(tmp_path.iterdir())


def test_what_a_killed_process_left_goes_with_the_next_write_and_that_of_a_running_one_stays(tmp_path):
    program = ("import os, sys\nfrom medsegdiff_auto.writing import atomically, staged_output\n"
               "with atomically(sys.argv[1] + '/a.txt') as a, staged_output(sys.argv[1]) as b:\n"
               "    a.write_text('half'); (b / 'c').write_text('half'); os.kill(os.getpid(), 9)")
    assert subprocess.run([sys.executable, "-c", program, str(tmp_path)]).returncode == -9
    running = [tmp_path / f".unfinished_{os.getppid()}@{socket.gethostname()}_0_x",
               tmp_path / ".unfinished_1@another-host_0_x"]
    for file in running:
        file.write_text("half")
    assert len(list(tmp_path.iterdir())) == 4
    write_text("whole", tmp_path / "b.txt")
    assert sorted(tmp_path.iterdir()) == sorted([*running, tmp_path / "b.txt"])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks /proc")
def test_a_killed_process_that_nobody_has_asked_for_is_no_running_one(tmp_path):
    killed = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    litter = tmp_path / f".unfinished_{killed.pid}@{socket.gethostname()}_0_x"
    litter.write_text("half")
    killed.kill()
    os.waitid(os.P_PID, killed.pid, os.WEXITED | os.WNOWAIT)  # a zombie until wait()
    write_text("whole", tmp_path / "b.txt")
    killed.wait()
    assert [file.name for file in tmp_path.iterdir()] == ["b.txt"]


@pytest.mark.parametrize("name", ["n" * 248 + ".nii.gz", "ü" * 124 + ".json", "a b.txt", "x"])
def test_every_name_that_a_file_may_have_can_be_written(tmp_path, name):
    write_json({"a": "ü"}, tmp_path / name)
    assert (tmp_path / name).read_text(encoding="utf-8") == '{\n    "a": "ü"\n}\n'


def test_a_file_lies_on_the_disk_before_it_takes_its_name(tmp_path, monkeypatch):
    events, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda number: (events.append("fsync"), fsync(number))[1])
    monkeypatch.setattr(os, "replace", lambda a, b: (events.append("replace"), replace(a, b))[1])
    write_text("x", tmp_path / "file")
    assert events == ["fsync", "replace", "fsync"]


@pytest.mark.parametrize("text, cell", [
    ("=1+1", "'=1+1"), ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"), ("-x", "'-x"), ("@SUM(A1)", "'@SUM(A1)"),
    ("\t=1", "'\t=1"), ("'=1", "''=1"), ("-0.5", "-0.5"), ("+1e-3", "+1e-3"), ("-1", "-1"), ("a=b", "a=b"),
    ("case 1", "case 1"), ("", "")])
def test_no_cell_is_a_formula_numbers_stay_numbers_and_text_is_read_as_it_was(tmp_path, text, cell):
    write_table([{"case": text, "dice": -0.25}, {"case": "b", "=more": 1}], tmp_path / "table.csv")
    with (tmp_path / "table.csv").open(newline="") as table:
        assert list(csv.reader(table))[:2] == [["case", "dice", "'=more"], [cell, "-0.25", ""]]
    assert read_table(tmp_path / "table.csv") == [{"case": text, "dice": "-0.25", "=more": ""},
                                                  {"case": "b", "dice": "", "=more": "1"}]
