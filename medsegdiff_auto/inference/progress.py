"""Progress bars over the cases and over the network calls of a case, on a terminal only."""

from __future__ import annotations

import logging
import sys
from contextlib import contextmanager
from collections.abc import Iterator

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from medsegdiff_auto.inference.expected_cost import CallCost, CaseCost
from medsegdiff_auto.inference.predictor import EVALUATION, FORWARD, LEFT_OUT, MedSegDiffPredictor

CASE_FORMAT = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"


class Progress:
    """The bar over cases, or nothing where standard error is no terminal."""

    def __init__(self, cases: tqdm | None = None):
        self.cases = cases

    @contextmanager
    def of_case(self, case: str, predictor: MedSegDiffPredictor, cost: CaseCost, calls: CallCost) -> Iterator[None]:
        """A bar in expected seconds that follows the predictor's calls; evaluations that are left out shorten it."""
        if self.cases is None:
            yield
            return
        weights = {FORWARD: calls.forward_s, EVALUATION: calls.evaluation_s}
        with tqdm(total=cost.seconds(calls), desc=case, leave=False, bar_format=CASE_FORMAT) as bar:

            def follow(kind: str, count: int) -> None:
                if kind == LEFT_OUT:
                    bar.total = max(bar.n, bar.total - count * calls.evaluation_s)
                else:
                    bar.update(min(count * weights[kind], bar.total - bar.n))

            before, predictor.on_call = predictor.on_call, follow
            try:
                yield
            finally:
                predictor.on_call = before
        self.cases.update()


@contextmanager
def progress_over(num_cases: int) -> Iterator[Progress]:
    """Bars for so many cases; the package's log goes above them."""
    if not sys.stderr.isatty():
        yield Progress()
        return
    with logging_redirect_tqdm([logging.getLogger("medsegdiff_auto")]), tqdm(total=num_cases, unit="case") as cases:
        yield Progress(cases)
