"""Images one after the other: the next one is prepared in a thread while one is in use, where the memory holds both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Event
from typing import Any

from medsegdiff_auto.sampling.memory_plan import MemoryPlan, fit_beside


@dataclass
class Turn:
    """An image in use.

    Attributes:
        plan: of its memory; None where there is none in use.
        is_over: set when its memory is free again.
    """

    plan: MemoryPlan | None = None
    is_over: Event = field(default_factory=Event)

    def wait_for_memory(self, following: MemoryPlan) -> None:
        """Returns when the memory holds the preparation of the following image: at once, or after the turn."""
        if self.plan is not None and not fit_beside(self.plan, following):
            self.is_over.wait()


def in_turn(images: Iterator, prepare: Callable[[Any, Callable[[MemoryPlan], None]], Any],
            plan_of: Callable[[Any], MemoryPlan], use: Callable[[list, MemoryPlan], Any]) -> Iterator[tuple[Any, Any]]:
    """Every image with what came of it, or with the exception that ended it.

    Args:
        prepare: called in a thread with an image and with what it calls when it knows the memory that it needs.
        plan_of: the memory that a prepared image needs.
        use: called with a list of one prepared image, to be taken out of it, and with its memory.
    """
    with ThreadPoolExecutor(max_workers=1) as pool:

        def begin(turn: Turn) -> list[tuple[Any, Future]]:
            """The next image, if there is one."""
            return [(image, pool.submit(prepare, image, turn.wait_for_memory)) for image in _first(images)]

        waiting = begin(Turn())
        while waiting:
            image, future = waiting.pop()
            turn = Turn()
            try:
                prepared = [future.result()]
                del future  # nothing here holds the image while it is in use
                turn.plan = plan_of(prepared[0])
            except Exception as failure:
                prepared, result = [], failure
            waiting = begin(turn)
            try:
                if prepared:
                    result = use(prepared, turn.plan)
            except Exception as failure:
                result = failure
            finally:
                turn.is_over.set()
            yield image, result
            del image, result


def _first(images: Iterator) -> Iterator:
    """The next one of an iterator, or nothing."""
    for image in images:
        yield image
        return
