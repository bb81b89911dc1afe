"""One holder of a lock at a time."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.locks import alone


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
    busy = UserError("busy", found="", expected="", fix="")
    with pytest.raises(ZeroDivisionError), alone(tmp_path / "lock", busy):
        with pytest.raises(UserError, match="busy"), alone(tmp_path / "lock", busy):
            pass
        raise ZeroDivisionError
    with alone(tmp_path / "lock", busy):
        assert (tmp_path / "lock").exists()
