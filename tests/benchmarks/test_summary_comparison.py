"""Two summaries are compared case by case, by name."""

import json

import pytest

from medsegdiff_auto.benchmarks.uncertainty.summary_comparison import rows

DICE = {"a": (0.9, 0.5), "b": (0.8, 0.6), "c": (0.7, 0.7)}


def summary(path, gain: float, cases: list[str]):
    """A summary of two structures whose Dice is ``gain`` better than the table's."""
    entries = [{"prediction_file": f"somewhere/{case}.nii.gz",
                "metrics": {str(i + 1): {"Dice": dice + gain} for i, dice in enumerate(DICE[case])}} for case in cases]
    path.write_text(json.dumps({"metric_per_case": entries}))
    return path


def test_cases_are_paired_by_name_whatever_their_order(tmp_path):
    first, second = summary(tmp_path / "1.json", 0.02, ["a", "b", "c"]), summary(tmp_path / "2.json", 0.0,
                                                                                 ["c", "a", "b"])
    assert rows(first, second) == ["| 1 | 0.8200 | 0.8000 | +0.0200 (+0.0200 to +0.0200) | 3 |",
                                   "| 2 | 0.6200 | 0.6000 | +0.0200 (+0.0200 to +0.0200) | 3 |",
                                   "| mean of the structures | 0.7200 | 0.7000 | +0.0200 (+0.0200 to +0.0200) | 3 |"]


def test_summaries_of_other_cases_are_refused(tmp_path):
    with pytest.raises(SystemExit, match="c.nii.gz"):
        rows(summary(tmp_path / "1.json", 0, ["a", "b"]), summary(tmp_path / "2.json", 0, ["a", "b", "c"]))
