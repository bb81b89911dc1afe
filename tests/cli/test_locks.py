"""One holder of a lock at a time."""

import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.locks import alone, alone_in


def test_additions_to_a_number_under_a_lock_are_all_counted_and_the_lock_vanishes(tmp_path):
    number, lock = tmp_path / "number", tmp_path / "number.lock"
    number.write_text("0")

    def add(_) -> None:
        with alone(lock):
            before = int(number.read_text())
            time.sleep(0.001)  # another thread's turn
            number.write_text(str(before + 1))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(40)))
    assert number.read_text() == "40" and not lock.exists()


def test_a_lock_that_is_held_is_refused_where_nobody_wants_to_wait_and_free_after_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), alone(tmp_path / "lock", "busy"):
        with pytest.raises(UserError, match="busy"), alone(tmp_path / "lock", "busy"):
            pass
        raise ZeroDivisionError
    with alone(tmp_path / "lock", "busy"):
        assert (tmp_path / "lock").exists()


@pytest.fixture
def sleeping(tmp_path):
    """Starts processes that hold a lock until they are ended, and have forked a process that outlives them."""
    program = ("import os, sys, time\nfrom pathlib import Path\nfrom medsegdiff_auto.locks import alone_in\n"
               "with alone_in(Path(sys.argv[1]), 'busy', *map(int, sys.argv[2:])):\n"
               # the worker says it: it has begun
               "    None if os.fork() else print('held', flush=True)\n    time.sleep(60)")
    started = []

    def start(part: int = 0, num_parts: int = 1) -> subprocess.Popen:
        process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path), str(part), str(num_parts)],
                                   stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True)
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_the_second_command_is_told_the_first_ones_host_and_process(tmp_path, sleeping):
    holder = sleeping()
    with pytest.raises(UserError) as refused, alone_in(tmp_path, "Fold 0 is being trained"):
        pass
    assert refused.value.what == "Fold 0 is being trained."
    assert refused.value.found.startswith(f"process {holder.pid} on {socket.gethostname()}, which holds {tmp_path}")


def test_the_lock_of_a_killed_command_is_taken_over_though_a_worker_of_it_lives_on(tmp_path, sleeping):
    holder = sleeping()
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with alone_in(tmp_path, "busy"):
        pass
    assert not list(tmp_path.iterdir())


def test_parts_work_side_by_side_and_neither_the_same_part_nor_another_division_joins_them(tmp_path, sleeping):
    sleeping(0, 2)
    with alone_in(tmp_path, "busy", 1, 2):
        for part, num_parts in ((0, 2), (0, 1), (2, 3)):
            with pytest.raises(UserError, match="busy"), alone_in(tmp_path, "busy", part, num_parts):
                pass


def test_a_killed_part_does_not_keep_a_whole_command_away(tmp_path, sleeping):
    holder = sleeping(1, 3)
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with alone_in(tmp_path, "busy"):
        assert sorted(path.name for path in tmp_path.iterdir()) == [".part_0_of_1.lock"]
