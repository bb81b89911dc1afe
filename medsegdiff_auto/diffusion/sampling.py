"""The one sampling loop: from pure noise to masks, state by state, block by block.

Where states lie and who predicts is injected. A single tile is one block; a volume that does not fit into memory is
many.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from torch import Tensor

from medsegdiff_auto.diffusion.schedules import Schedule, trailing_times
from medsegdiff_auto.diffusion.solver import Previous, Solver, Step
import itertools

WHOLE = slice(None)


class States(Protocol):
    """States (S, K, *spatial) that are read and written in blocks of rows of the first spatial axis."""

    def read(self, rows: slice) -> Tensor:
        """(S, K, rows, *rest)."""

    def write(self, rows: slice, values: Tensor) -> None:
        """Stores (S, K, rows, *rest)."""


class OneBlock:
    """States that are read and written as a whole."""

    def __init__(self, values: Tensor | None = None):
        self.values = values

    def read(self, _rows: slice = WHOLE) -> Tensor:
        assert self.values is not None, "nothing was written before it is read"
        return self.values

    def write(self, _rows: slice, values: Tensor) -> None:
        self.values = values


Predict = Callable[[int, Tensor], Iterator[tuple[slice, Tensor]]]  # step, t -> blocks and their predicted x_0
DrawNoise = Callable[[int, slice], Tensor]  # step, block -> standard normal; step 0 is the start


def sample(x_t: States, predict: Predict, num_steps: int, solver: Solver, schedule: Schedule, draw_noise: DrawNoise,
           finish: Callable[[Tensor], Tensor], empty: Callable[[], States]) -> None:
    """Moves states from pure noise to what the last prediction says, in place: a solver over evenly spaced times.

    Args:
        x_t: pure noise, (S, K, *spatial).
        predict: every block of the volume once, in an order in which a block may be moved on as soon as it is handed
            out.
        draw_noise: asked where the solver takes noise.
        finish: what becomes of the last predicted x_0, such as its probabilities.
        empty: makes the volume in which the solver's memory is kept, asked at most once.
    """
    times = trailing_times(num_steps)
    remembered = empty() if solver.takes_previous and num_steps > 1 else None
    for number, (t, s) in enumerate(itertools.pairwise(times)):
        for block, predicted in predict(number, t):
            state = x_t.read(block)
            x_start = predicted.to(state)
            if s == 0:
                x_t.write(block, finish(x_start))
                continue
            noise = draw_noise(number + 1, block) if solver.takes_noise else None
            previous = Previous(remembered.read(block), times[number -
                                                              1]) if remembered is not None and number else None
            x_t.write(block, solver.step(Step(state, x_start, t, s, schedule, noise, previous)))
            if remembered is not None:
                remembered.write(block, x_start)
