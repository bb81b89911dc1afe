"""How to sample, as a user may ask for it. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass


SPEEDS = ("fast", "default", "best")
"""What ``--speed`` may be; see :mod:`~medsegdiff_auto.inference.speed`."""


@dataclass(frozen=True)
class SamplingOptions:
    """How to sample; None takes the plan's value.

    Attributes:
        num_samples: per fold.
        num_steps: network evaluations per sample.
        num_mirrors: mirrored views.
        solver: a row of :data:`~medsegdiff_auto.tables.SOLVERS`.
        fusion: a row of :data:`~medsegdiff_auto.tables.DECODERS`.
        seed: of the noise.
        samples_per_call: samples in one call of the network, on which the masks do not depend; None for eight, or more
            of small tiles.
        max_memory_gb: that the whole process may take (on a GPU: what lies on the GPU); None for most of what is free.
        temperature: of the fused probabilities; the labels do not depend on it. None takes the fitted value.
    """

    num_samples: int | None = None
    num_steps: int | None = None
    num_mirrors: int | None = None
    solver: str | None = None
    fusion: str | None = None
    seed: int = 0
    samples_per_call: int | None = None
    max_memory_gb: float | None = None
    temperature: float | None = None
