"""Steps whose loss or gradient is not finite: they leave the weights as they are, and too many in a row end a training.

Losses stay on the device until the end of an epoch. Then all processes learn which steps were skipped by any of them.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

from torch import nn

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.training.agreement import Agreement

logger = logging.getLogger(__name__)

MOST_IN_A_ROW = 5
NUM_NAMED = 10


class SkippedSteps:
    """Counts them from epoch to epoch.

    Attributes:
        in_a_row: up to now, those of earlier epochs included.
    """

    def __init__(self):
        self.in_a_row = 0

    def of_epoch(self, losses: Sequence[dict[str, float]], cases: Sequence[Sequence[str]],
                 agreement: Agreement) -> list[bool]:
        """Which steps of an epoch were skipped; warns with the names of this process's cases.

        Args:
            losses: of every step; one that was skipped has a loss that is not finite.
            cases: of every step's batch, as far as they are known.

        Raises:
            UserError: in every process, after :data:`MOST_IN_A_ROW` in a row.
        """
        here = [not all(map(math.isfinite, step.values())) for step in losses]
        skipped = agreement.any(*here)
        names = sorted({case for is_here, of_step in zip(here, cases) if is_here for case in of_step})
        shown = ", ".join(names[:NUM_NAMED]) + (f", ... ({len(names)})" if len(names) > NUM_NAMED else "")
        if any(here):
            logger.warning("%d of %d steps had a loss or gradient that is not finite and were skipped; their batches: "
                           "%s.", sum(here), len(here), shown)
        for is_skipped in skipped:
            self.in_a_row = self.in_a_row + 1 if is_skipped else 0
            if self.in_a_row >= MOST_IN_A_ROW:
                raise UserError("The training no longer learns: its loss is not finite.",
                                found=f"{MOST_IN_A_ROW} steps in a row whose loss or gradient is not finite, with "
                                f"{shown or 'cases of another process'}", expected="finite numbers",
                                fix="look for extreme intensities in these cases; if they are sound, continue with --c "
                                "from the last checkpoint, whose weights are finite")
        return skipped


def require_finite_weights(network: nn.Module, complaint: str) -> None:
    """Checks weights before they replace a checkpoint, or when they come from one.

    Raises:
        UserError: one is not finite; the complaint is its first line.
    """
    broken = [name for name, value in network.state_dict().items()
              if value.is_floating_point() and not value.isfinite().all()]
    if broken:
        raise UserError(complaint, found=f"NaN or infinite values in {len(broken)} tensors, such as {broken[0]}",
                        expected="finite numbers", fix="continue with --c from another checkpoint, or train anew")
