"""What the processes of one training decide together."""

from __future__ import annotations

from typing import TypeVar
from collections.abc import Sequence

import torch
import torch.distributed as dist

Value = TypeVar("Value")


class Agreement:
    """Gives every process of a training the same answer; in a single process, its own.

    Clocks, files and signals differ from process to process, and one that acts by itself leaves the others waiting. All
    processes call a method at the same point of the training. Their messages go from CPU to CPU (gloo), in a group of
    their own: over NCCL every answer would wait for all that the device has yet to compute.
    """

    def __init__(self):
        several = dist.is_available() and dist.is_initialized()
        self.group = dist.new_group(backend="gloo") if several else None
        self.num_processes = dist.get_world_size() if several else 1

    def of_first(self, value: Value) -> Value:
        """The value that the first process has."""
        values = [value]
        if self.group is not None:
            dist.broadcast_object_list(values, src=0, group=self.group)
        return values[0]

    def any(self, *claims: bool) -> list[bool]:
        """Whether a process makes the claim, for each of the claims."""
        return [value > 0 for value in self._reduced(claims, "MAX")]

    def mean(self, values: Sequence[float]) -> list[float]:
        """The mean over the processes, for each of the values."""
        return [total / self.num_processes for total in self._reduced(values, "SUM")]

    def wait(self) -> None:
        """Returns when all processes have come here."""
        if self.group is not None:
            dist.barrier(group=self.group)

    def _reduced(self, values: Sequence[float], operation: str) -> list[float]:
        numbers = torch.tensor(values, dtype=torch.float64)
        if self.group is not None:
            dist.all_reduce(numbers, getattr(dist.ReduceOp, operation), self.group)
        return numbers.tolist()
