"""States from folders, from processes of this machine, and from a queue."""

import json
import os
import subprocess
import sys

import pytest
from test_jobs import WORDS, request_of, trained

from medsegdiff_auto.crossval.estimates import Estimate, estimates_of, table_of
from medsegdiff_auto.crossval.jobs import jobs_of
from medsegdiff_auto.crossval.processes import held, is_held, resident_gb
from medsegdiff_auto.crossval.queue import Queued, of_accounting, of_queue
from medsegdiff_auto.crossval.states import Said, State, lock_file, log_file, record_end, state_of, states_of

NAME = "train/auto/2d/fold_0"


@pytest.fixture
def place(tmp_path):
    """A request, its jobs, and the job that is looked at."""
    request = request_of(tmp_path)
    jobs = jobs_of(request, WORDS)
    log = log_file(request, jobs[NAME])
    log.parent.mkdir(parents=True)
    return request, jobs, jobs[NAME], log


def test_a_job_waits_fails_pauses_and_is_done(place):
    request, jobs, job, log = place
    assert state_of(request, job, jobs) == State(NAME, "waiting", message="for plan/MedSegDiffPlans")
    log.write_text("epoch 3/10 | loss 0.5 | 31 s | 0:03:37 left\nerror: The disk is full.\n  found:    0 bytes\n",
                   encoding="utf-8")
    record_end(request, job, 2, 60, 1.5)
    assert state_of(request, job, jobs) == State(NAME, "failed", "3/10", "", 1.5, "exit code 2: The disk is full.")
    log.write_text("epoch 3/10 | loss 0.5 | 31 s | 0:03:37 left\nPaused.\n", encoding="utf-8")
    for code in (75, -15, 143):
        record_end(request, job, code, 60, 1.5)
        assert state_of(request, job, jobs) == State(NAME, "paused", "3/10", "0:03:37", 1.5, "Paused.")
    trained(request, "auto", 0)
    assert state_of(request, job, jobs).state == "done"


def test_a_training_that_was_killed_is_paused_where_it_has_a_checkpoint(place):
    request, jobs, job, _ = place
    folder = request.checkpoint("auto", "2d", 0).parent
    folder.mkdir(parents=True)
    (folder / "checkpoint_latest.pth").touch()
    assert state_of(request, job, jobs).state == "paused"


def test_a_job_runs_as_long_as_its_process_lives_whatever_became_of_who_started_it(place):
    request, jobs, job, _ = place
    lock = held(lock_file(request, job))
    process = subprocess.Popen([sys.executable, "-c", "print(flush=True), input()"], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, pass_fds=(lock,))
    os.pwrite(lock, str(process.pid).encode(), 0)
    os.close(lock)
    try:
        process.stdout.readline()
        found = state_of(request, job, jobs)
        assert found.state == "running" and 0.001 < found.memory_gb < 1
        assert held(lock_file(request, job)) is None
    finally:
        process.kill(), process.wait()
    assert not is_held(lock_file(request, job)) and state_of(request, job, jobs).state == "waiting"
    assert resident_gb(os.getpid()) > 0.01 and resident_gb(2**22 + 1) is None


@pytest.mark.parametrize("queued, begun, expected", [
    (Queued("1_0", "RUNNING", "None"), False, ("running", "epoch 1/9")),
    (Queued("1_0", "PENDING", "Resources"), False, ("waiting", "Resources")),
    (Queued("1_0", "PENDING", "BeginTime"), True, ("paused", "BeginTime")),
    (Queued("1_0", "PENDING", "DependencyNeverSatisfied"), False, ("failed", "DependencyNeverSatisfied: epoch 1/9")),
    (Queued("1_0", "OUT_OF_MEMORY", "out_of_memory", 3.0), True, ("failed", "out_of_memory: epoch 1/9")),
    (Queued("1_0", "GONE", "left the queue"), False, ("failed", "left the queue: epoch 1/9"))])
def test_the_queue_decides_where_no_process_of_this_machine_does(place, queued, begun, expected):
    request, jobs, job, log = place
    log.write_text("epoch 1/9", encoding="utf-8")
    if begun:
        record_end(request, job, 75, 1, None)
    found = states_of(request, jobs, {NAME: queued})[NAME]
    assert (found.state, found.message) == expected


def test_what_squeue_and_sacct_print_is_understood():
    assert of_queue("12_3|PENDING|Dependency\n12_4|RUNNING|None\n") == {
        "12_3": Queued("12_3", "PENDING", "Dependency"), "12_4": Queued("12_4", "RUNNING", "None")}
    assert of_accounting("12_3|CANCELLED by 0|\n12_4|TIMEOUT|2500000K\n12_5|FAILED|1.5G\n") == {
        "12_3": Queued("12_3", "CANCELLED", "cancelled by 0", None),
        "12_4": Queued("12_4", "TIMEOUT", "timeout", 2.56), "12_5": Queued("12_5", "FAILED", "failed", 1.610612736)}


def test_the_last_words_of_a_long_log_are_found(tmp_path):
    log = tmp_path / "log"
    log.write_text("epoch 1/9 | 1 s | 0:00:08 left\n" + "x" * 30_000 + "\ncase 2/7 a | 3.0 s | 0:00:15 left\n\n",
                   encoding="utf-8")
    assert Said.of(log) == Said("2/7", "0:00:15", "case 2/7 a | 3.0 s | 0:00:15 left", "case 2/7 a | 3.0 s | "
                                "0:00:15 left")
    assert Said.of(tmp_path / "absent") == Said()


def test_hours_are_those_of_cases_that_are_over_and_unknown_before(place):
    request, jobs, *_ = place
    (request.preprocessed / "splits_final.json").write_text(
        json.dumps([{"train": [], "val": list("abc")}, {"train": [], "val": list("de")}]), encoding="utf-8")
    assert set(estimates_of(request, jobs).values()) == {Estimate()}
    file = request.fit("auto", 0).with_name("fold_0_seconds.json")
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"a": 1800, "b": 5400}), encoding="utf-8")
    found = estimates_of(request, jobs)
    assert found["predict/auto/fold_0"] == Estimate(3.0) and found["predict/auto/fold_1"] == Estimate(2.0)
    lines = table_of(jobs, found).splitlines()
    assert "predict/auto/fold_1: 2.00 h, unknown GB" in lines
    assert lines[-1] == f"{len(jobs)} of {len(jobs)} jobs are to do: 5.0 h one after the other, and " \
                        f"{len(jobs) - 2} jobs of unknown length."
