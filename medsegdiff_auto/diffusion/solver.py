"""A solver: one step of the reverse process, from x_t and the predicted x_0 to x_s.

    code            paper      meaning
    x_t, x_s        x_t, x_s   states, (B, K, *spatial); t > s > 0 are scalars, float64 on the CPU
    x_start         x_theta    predicted x_0, (B, K, *spatial) in [-1, 1]
    eta             eta        0: deterministic DDIM; 1: DDPM's ancestral step (Song et al. 2021)

The weights of a step are computed in float64 on the CPU; only what multiplies a state meets the device.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from medsegdiff_auto.diffusion.schedules import Schedule


class Previous(NamedTuple):
    """The prediction of the step before, and its time."""

    x_start: Tensor
    t: Tensor


class Step(NamedTuple):
    """What a solver may use of one step from t to s.

    Attributes:
        x_t: state, (B, K, *spatial).
        x_start: predicted x_0, as x_t, in [-1, 1].
        t, s: scalars, 1 >= t > s > 0, float64 on the CPU.
        schedule: of the noise.
        noise: standard normal, as x_t; None unless the solver takes noise.
        previous: None at the first step, and unless the solver takes it.
    """

    x_t: Tensor
    x_start: Tensor
    t: Tensor
    s: Tensor
    schedule: Schedule
    noise: Tensor | None = None
    previous: Previous | None = None


@dataclass(frozen=True)
class Solver:
    """A row of the table of solvers.

    Attributes:
        source: where its step is published, for the explanation of a model.
        equation: of its step, as HTML.
        step: gives x_s; at the last step, whose s is 0, every solver returns the predicted x_0 and is not asked.
        remark: what the equation leaves open, as HTML.
        takes_noise: a step takes new noise.
        takes_previous: a step takes the prediction of the step before, one more volume per sample.
    """

    source: str
    equation: str
    step: Callable[[Step], Tensor]
    remark: str = ""
    takes_noise: bool = False
    takes_previous: bool = False

    @property
    def num_volumes(self) -> int:
        """Volumes that a sample holds while it is drawn: its state, and what the solver remembers."""
        return 1 + self.takes_previous
