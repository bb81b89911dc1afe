"""SIGTERM during training: a request in the process that trains, the end of its workers."""

import multiprocessing
import os
import signal
import time

from medsegdiff_auto.training.termination import TerminationRequest


def test_sigterm_is_a_request_while_active():
    before = signal.getsignal(signal.SIGTERM)
    with TerminationRequest() as request:
        assert not request.asked
        os.kill(os.getpid(), signal.SIGTERM)
        assert request.asked
    assert signal.getsignal(signal.SIGTERM) is before


def sleep_after(running):
    running.set()
    time.sleep(60)


def test_forked_workers_still_end_at_sigterm():
    with TerminationRequest() as request:
        context = multiprocessing.get_context("fork")
        running = context.Event()
        worker = context.Process(target=sleep_after, args=(running,))
        worker.start()
        assert running.wait(30)
        worker.terminate()
        worker.join(10)
        ended = not worker.is_alive()
        worker.kill()
        assert ended and not request.asked
