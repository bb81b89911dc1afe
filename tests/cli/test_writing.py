"""A file is there completely or not at all."""

import csv
import errno
import os
import resource
import socket
import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from medsegdiff_auto.writing import atomically, read_table, staged_output, write_json, write_table, write_text

PIXELS = np.random.default_rng(0).integers(0, 2**15, (64, 64)).astype(np.int16)
WRITERS = {
    "text.txt": lambda file: file.write_text("x" * 8192),
    "weights.pth": lambda file: torch.save(torch.zeros(4096), file),
    "samples.npz": lambda file: np.savez(file, samples=PIXELS),
    "mask.nii.gz": lambda file: sitk.WriteImage(sitk.GetImageFromArray(PIXELS), str(file)),
    "mask.mha": lambda file: sitk.WriteImage(sitk.GetImageFromArray(PIXELS), str(file)),
    "mask.nrrd": lambda file: sitk.WriteImage(sitk.GetImageFromArray(PIXELS), str(file)),
    "mask.png": lambda file: sitk.WriteImage(sitk.GetImageFromArray(PIXELS.astype(np.uint16)), str(file)),
    "mask.tif": lambda file: sitk.WriteImage(sitk.GetImageFromArray(PIXELS.astype(np.uint16)), str(file)),
}


@pytest.fixture
def short_files():
    """No file grows beyond 4 kB, as if its disk were full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("name", WRITERS)
def test_where_the_disk_refuses_more_the_earlier_file_stays_and_the_error_names_it_and_the_cause(
        tmp_path, short_files, name):
    file = tmp_path / name
    file.write_text("earlier")
    with pytest.raises(OSError) as failure, atomically(file) as unfinished:
        WRITERS[name](unfinished)
    assert (failure.value.errno, failure.value.filename) == (errno.EFBIG, str(file))
    assert file.read_text() == "earlier" and list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("name", WRITERS)
def test_several_files_come_all_or_none_and_the_error_names_their_place(tmp_path, short_files, name):
    with pytest.raises(OSError) as failure, staged_output(tmp_path) as stage:
        (stage / "first.txt").write_text("whole")
        WRITERS[name](stage / name)
    assert failure.value.errno == errno.EFBIG and failure.value.filename in (str(tmp_path), str(tmp_path / name))
    assert not list(tmp_path.iterdir())


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
