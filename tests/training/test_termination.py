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


def test_a_process_that_is_ended_as_soon_as_it_is_forked_ends():
    """Its SIGTERM is not forgotten, or whoever joins a pool of such processes waits for ever."""
    with TerminationRequest():
        for _ in range(200):
            pid = os.fork()
            if not pid:
                time.sleep(5)
                os._exit(0)
            os.kill(pid, signal.SIGTERM)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGTERM
