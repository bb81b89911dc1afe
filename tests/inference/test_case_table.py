"""The table of cases: which of them a person should look at."""

from medsegdiff_auto.inference.case_table import add_to_case_table, flag_cases, read_case_table


def row(case: str, structure: str, expected_dice: float) -> dict:
    return {"case": case, "structure": structure, "expected_dice": f"{expected_dice:.4f}"}


def test_rows_below_the_limit_are_marked_and_returned_worst_first(tmp_path):
    add_to_case_table([row("b", "organ", 0.79), row("b", "lesion", 0.8)], tmp_path)
    add_to_case_table([row("a", "organ", 0.95), row("a", "lesion", 0.1)], tmp_path)
    assert [(r["case"], r["structure"]) for r in flag_cases(tmp_path, 0.8)] == [("a", "lesion"), ("b", "organ")]
    assert [(r["case"], r["flagged"]) for r in read_case_table(tmp_path)] == [
        ("a", "no"), ("a", "yes"), ("b", "yes"), ("b", "no")]


def test_another_limit_marks_all_rows_anew_those_of_earlier_runs_included(tmp_path):
    add_to_case_table([row("a", "organ", 0.5)], tmp_path)
    flag_cases(tmp_path, 0.8)
    add_to_case_table([row("b", "organ", 0.3)], tmp_path)
    assert [r["flagged"] for r in read_case_table(tmp_path)] == ["yes", ""]
    assert [r["case"] for r in flag_cases(tmp_path, 0.4)] == ["b"]
    assert [r["flagged"] for r in read_case_table(tmp_path)] == ["no", "yes"]


def test_a_folder_without_a_table_has_nothing_to_flag(tmp_path):
    assert flag_cases(tmp_path, 0.8) == []
