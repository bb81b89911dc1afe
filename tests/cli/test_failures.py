"""What the machine refuses comes in four lines; our own mistakes keep their traceback."""

import errno
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
import torch

from medsegdiff_auto.cli.command import run
from medsegdiff_auto.errors import UserError

SLEEPER = r"""
import multiprocessing, os, signal, sys, time
from medsegdiff_auto.cli.command import run

def wait(_):
    os.write(1, b"deaf\n" if signal.getsignal(signal.SIGINT) is signal.SIG_IGN else b"interruptible\n")
    time.sleep(60)

def work(method):
    with multiprocessing.get_context(method).Pool(2) as pool:
        pool.map(wait, range(2))

if __name__ == "__main__":
    sys.exit(run(work, sys.argv[1]))
"""


def lines_of(capsys, function) -> list[str]:
    assert run(function) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line[:11] for line in lines[1:]] == ["  found:   ", "  expected:", "  fix:     "]
    return lines


def failing(failure):
    def fail():
        raise failure
    return fail


@pytest.mark.parametrize("number, expected", [
    (errno.ENOSPC, "free space"), (errno.EDQUOT, "free space"), (errno.EROFS, "permission"),
    (errno.EACCES, "permission"), (errno.EMFILE, "open files"), (errno.EFBIG, "as large as"),
    (errno.EIO, "that answer"), (errno.EAGAIN, "processes")])
def test_what_the_system_refuses_names_file_cause_and_a_way_out(capsys, number, expected):
    lines = lines_of(capsys, failing(OSError(number, os.strerror(number), "/data/case_7.nii.gz")))
    assert lines[0] == "error: The command cannot read or write /data/case_7.nii.gz."
    assert lines[1].startswith(f"  found:    {os.strerror(number)}") and expected in lines[2]


def test_a_folder_without_permission_and_a_lost_file_are_named_by_real_calls(capsys, tmp_path):
    assert str(tmp_path / "gone") in lines_of(capsys, lambda: open(tmp_path / "gone"))[0]
    (tmp_path / "file").write_text("")
    assert str(tmp_path / "file" / "x") in lines_of(capsys, lambda: os.listdir(tmp_path / "file" / "x"))[0]


@pytest.mark.parametrize("fail", [
    failing(MemoryError()), lambda: np.zeros(2**50), lambda: torch.zeros(2**50),
    failing(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")),
    failing(RuntimeError("can't start new thread"))])
def test_want_of_memory_is_said_whichever_library_meets_it(capsys, fail):
    assert lines_of(capsys, fail)[0] == "error: The command found too little memory."


def test_a_worker_that_is_killed_is_named(capsys):
    def lose_a_worker():
        with ProcessPoolExecutor(1) as pool:
            pool.submit(os.kill, 0, signal.SIG_DFL).cancel()
            pool.submit(os._exit, 9).result()

    assert lines_of(capsys, lose_a_worker)[0] == "error: The command lost a worker process."
    gone = "One or more background workers are no longer alive. Exiting."  # batchgenerators' words
    assert lines_of(capsys, failing(RuntimeError(gone)))[1].startswith(f"  found:    {gone}")
    gone = "DataLoader worker (pid 7) is killed by signal: Killed."
    assert lines_of(capsys, failing(RuntimeError(gone)))[1].startswith(f"  found:    {gone}")


def test_too_little_shared_memory_is_not_taken_for_a_lost_worker(capsys):
    words = "unable to write to file </torch_1_2>: No space left on device (28)"
    assert "shared memory" in lines_of(capsys, failing(RuntimeError(words)))[0]


@pytest.mark.parametrize("mistake", [
    ZeroDivisionError(), KeyError("x"), RuntimeError("shapes differ"), ValueError("out of memory"),
    OSError("no number"), AssertionError()])
def test_a_mistake_of_ours_keeps_its_traceback(mistake):
    with pytest.raises(type(mistake)):
        run(failing(mistake))


def test_an_error_of_a_user_stays_as_it_is(capsys):
    assert lines_of(capsys, failing(UserError("A.", found="b", expected="c", fix="d")))[0] == "error: A."


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_ctrl_c_gives_one_line_and_130_and_ends_the_workers(tmp_path, method):
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    process = subprocess.Popen([sys.executable, str(tmp_path / "sleeper.py"), method], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, start_new_session=True)
    for _ in range(2):
        assert process.stdout.readline() == "deaf\n"  # each worker leaves Ctrl-C to the command
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers too
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (130, "Interrupted: what is complete stays.\n")
    deadline = time.time() + 60
    while time.time() < deadline:  # the killed workers are reaped by whoever inherits them
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    raise AssertionError("workers outlived the command")


FORKER = r"""
import os, signal, sys, time
from medsegdiff_auto.cli.command import run

os.register_at_fork(after_in_parent=lambda: os.kill(os.getpid(), signal.SIGINT))  # Ctrl-C in the midst of a fork

def work():
    if not os.fork():
        os._exit(0)
    time.sleep(60)

sys.exit(run(work))
"""


def test_ctrl_c_in_the_midst_of_a_fork_is_not_lost():
    done = subprocess.run([sys.executable, "-c", FORKER], capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stderr) == (130, "Interrupted: what is complete stays.\n")
