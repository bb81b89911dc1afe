"""Several methods on the same cases: one table of scores, statistics, targets and a page."""

from medsegdiff_auto.comparison.folder import compare

__all__ = ["compare"]
