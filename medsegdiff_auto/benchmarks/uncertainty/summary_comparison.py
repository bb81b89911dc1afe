"""Two methods by their ``summary.json`` on the same cases: Dice per structure, and the paired difference with its
interval.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from medsegdiff_auto.evaluation.paired import compare_paired


def dice_by_case(summary: Path) -> dict[str, dict[str, float]]:
    """Case -> structure -> Dice, as nnU-Net's evaluation wrote it."""
    cases = json.loads(summary.read_text(encoding="utf-8"))["metric_per_case"]
    return {
        Path(case["prediction_file"]).name: {
            structure: scores["Dice"]
            for structure, scores in case["metrics"].items()
        }
        for case in cases
    }


def rows(first: Path, second: Path) -> list[str]:
    """One table row per structure, and one of the mean over the structures of a case.

    Raises:
        SystemExit: the summaries are of other cases.
    """
    ours, theirs = dice_by_case(first), dice_by_case(second)
    if set(ours) != set(theirs):
        raise SystemExit(f"other cases: {sorted(set(ours) ^ set(theirs))[:5]}")
    cases = sorted(ours)
    table = {
        structure: [[side[case][structure] for case in cases] for side in (ours, theirs)]
        for structure in ours[cases[0]]
    }
    table["mean of the structures"] = [
        np.nanmean([columns[side] for columns in table.values()], axis=0) for side in (0, 1)
    ]
    return [row(structure, *columns) for structure, columns in table.items()]


def row(structure: str, first: list[float], second: list[float]) -> str:
    """Both means and the paired difference with its 95 % bootstrap interval."""
    c = compare_paired(first, second)
    return (f"| {structure} | {np.nanmean(first):.4f} | {np.nanmean(second):.4f} "
            f"| {c.mean_difference:+.4f} ({c.low:+.4f} to {c.high:+.4f}) | {c.num_cases} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("first", type=Path, help="summary.json")
    parser.add_argument("second", type=Path, help="summary.json")
    args = parser.parse_args()
    print("| structure | first | second | first - second (95 %) | cases |\n|---|---|---|---|---|")
    print("\n".join(rows(args.first, args.second)))


if __name__ == "__main__":
    main()
