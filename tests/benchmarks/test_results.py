"""Tables of the pages of results: what stands between the markers is what the CSV says, and nothing else changes."""

import json
from pathlib import Path

import numpy as np
import pytest

from medsegdiff_auto.benchmarks.results import main, with_tables
from medsegdiff_auto.comparison.measured import read_long
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.evaluation.paired import compare_paired
from medsegdiff_auto.evaluation.statistics import mean_with_interval
from medsegdiff_auto.writing import write_table

RESULTS = Path(__file__).parents[2] / "results"
AUTO, NNUNET = np.random.default_rng(0).random((2, 12)).round(3)
HEAD, END = "<!-- table: toy.csv view={} -->", "<!-- end of table -->"


def write_toy(folder, twice=False):
    """Twelve cases of six patients by two methods; one case has no NSD."""
    rows = [{"task": "T", "method": name, "case": f"p{number // 2}_{number}", "structure": "organ", "metric": metric,
             "value": "" if metric == "nsd" and (name, number) == ("auto", 3) else value}
            for name, values in (("auto", AUTO), ("nnunet", NNUNET)) for number, value in enumerate(values)
            for metric in ("dice", "nsd")]
    write_table(rows + rows[:1] * twice, folder / "toy.csv")


def page(view: str) -> str:
    return f"# A page\n\n{HEAD.format(view)}\nold\n{END}\n\nText | with a bar.\n"


def body(text: str) -> list[list[str]]:
    """The cells of the table of a page."""
    table = text.split(" -->\n", 1)[1].split(END)[0].strip().splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table if not line.startswith("|---")]


def test_the_pages_of_this_repository_are_up_to_date_with_their_csv_files(capsys):
    assert main(["--folder", str(RESULTS), "--check"]) == 0, capsys.readouterr().out


def test_a_table_of_means_holds_the_means_and_intervals_of_the_cases(tmp_path):
    write_toy(tmp_path)
    text = with_tables(page("means metrics=dice,nsd"), tmp_path / "a.md")
    head, auto, nnunet = body(text)
    assert head == ["12 cases", "Dice ↑", "NSD ↑"] and text.endswith(f"{END}\n\nText | with a bar.\n")
    found = mean_with_interval(AUTO)
    assert auto[:2] == ["auto", f"{found.mean:.4f} ({found.low:.4f} to {found.high:.4f})"]
    assert auto[2].startswith(f"{np.delete(AUTO, 3).mean():.4f}") and nnunet[0] == "nnunet"


def test_a_table_of_differences_is_paired_by_patient_and_bold_where_resolved(tmp_path):
    write_toy(tmp_path)
    marker = "differences metrics=dice,nsd reference=nnunet patient_parts=1"
    head, auto = body(with_tables(page(marker), tmp_path / "a.md"))
    found = compare_paired(*(values.reshape(6, 2).mean(1) for values in (AUTO, NNUNET)))
    assert head[0] == "less nnunet" and not found.is_resolved
    assert auto[1] == f"{found.mean_difference:+.4f} ({found.low:+.4f} to {found.high:+.4f})"
    rows = [{"task": "T", "method": name, "case": f"c{number}", "structure": "organ", "metric": "dice",
             "value": shift + number / 100} for name, shift in (("auto", 0.5), ("nnunet", 0.25)) for number in range(9)]
    write_table(rows, tmp_path / "toy.csv")
    assert body(with_tables(page("differences metrics=dice reference=nnunet"), tmp_path / "a.md"))[1][1] == \
        "**+0.2500** (+0.2500 to +0.2500)"


def test_any_csv_is_shown_as_it_is(tmp_path):
    write_table([{"a": "x", "b": 1.5}, {"a": "-1", "b": "y"}], tmp_path / "toy.csv")
    assert body(with_tables(page("rows"), tmp_path / "a.md")) == [["a", "b"], ["x", "1.5"], ["-1", "y"]]
    assert body(with_tables(page("rows columns=b"), tmp_path / "a.md")) == [["b"], ["1.5"], ["y"]]


def test_pages_are_rewritten_once_and_check_only_tells(tmp_path, capsys):
    write_toy(tmp_path)
    (tmp_path / "a.md").write_text(page("means metrics=dice"), encoding="utf-8")
    (tmp_path / "b.md").write_text("No table.\n", encoding="utf-8")
    before = (tmp_path / "a.md").read_bytes()
    assert main(["--folder", str(tmp_path), "--check"]) == 1 and (tmp_path / "a.md").read_bytes() == before
    assert main(["--folder", str(tmp_path)]) == 0 and "Rewritten: a.md" in capsys.readouterr().out
    assert main(["--folder", str(tmp_path), "--check"]) == 0
    assert main(["--folder", str(tmp_path)]) == 0 and "Rewritten: no page" in capsys.readouterr().out


def test_keeping_a_comparison_takes_the_metrics_that_pages_show(tmp_path):
    (tmp_path / "run").mkdir()
    write_toy(tmp_path)
    (tmp_path / "toy.csv").rename(tmp_path / "run" / "comparison.csv")
    write_answers(tmp_path / "run", "Toys", "yes")
    (tmp_path / "a.md").write_text(page("means metrics=dice"), encoding="utf-8")
    assert main(["--folder", str(tmp_path), "--keep", f"toy={tmp_path / 'run'}"]) == 0
    kept = read_long(tmp_path / "toy.csv", "nnunet")
    assert kept.metrics == ["dice"] and len(kept.rows) == 24 and body((tmp_path / "a.md").read_text())[1][0] == "auto"


def write_answers(folder, task, answer):
    targets = [{"target": "Dice not below by 0.3 points", "against": "nnunet", "answer": answer, "value": -0.001,
                "low": -0.004, "high": 0.002, "num": 60},
               {"target": "AURC better", "against": "the best plain method", "answer": "not measured", "value": None,
                "low": None, "high": None, "num": 0}]
    (folder / "summary.json").write_text(json.dumps({"task": task, "targets": targets}), encoding="utf-8")


def test_answers_of_several_comparisons_stand_side_by_side_and_those_of_one_are_replaced(tmp_path):
    for name, task, answer in (("b", "Brains", "no"), ("h", "Hearts", "yes"), ("b", "Brains", "not resolved")):
        (tmp_path / name).mkdir(exist_ok=True)
        write_toy(tmp_path / name)
        (tmp_path / name / "toy.csv").rename(tmp_path / name / "comparison.csv")
        write_answers(tmp_path / name, task, answer)
        (tmp_path / "a.md").write_text(page("answers").replace("toy", "answers"), encoding="utf-8")
        assert main(["--folder", str(tmp_path), "--keep", f"{name}={tmp_path / name}"]) == 0
    found = body((tmp_path / "a.md").read_text(encoding="utf-8"))
    assert found[0] == ["", "Hearts", "Brains"]
    assert found[1] == ["Dice not below by 0.3 points", "**yes** -0.0010 (-0.0040 to 0.0020), n 60",
                        "**not resolved** -0.0010 (-0.0040 to 0.0020), n 60"]
    assert found[2] == ["AURC better", "not measured", "not measured"]


@pytest.mark.parametrize("text, what", [
    (page("means"), "names no metrics"), (page("means metrics=hd95_mm"), "lacks a metric"),
    (page("median metrics=dice"), "unknown view"), (page("means metrics=dice metric=x"), "unknown option"),
    (page("rows columns=c"), "lacks a column"), (page("rows").replace("toy", "other"), "is not there"),
    (page("means metrics=dice reference=resenc"), "none of the methods"),
    (page("rows").replace(END, ""), "without an end")])
def test_a_marker_that_cannot_be_followed_is_refused_by_name(tmp_path, text, what):
    write_toy(tmp_path)
    with pytest.raises(UserError, match=what):
        with_tables(text, tmp_path / "a.md")


def test_a_number_that_stands_twice_is_refused(tmp_path):
    write_toy(tmp_path, twice=True)
    with pytest.raises(UserError, match="a number twice"):
        with_tables(page("means metrics=dice"), tmp_path / "a.md")


def test_what_is_to_be_kept_must_be_there(tmp_path, capsys):
    (tmp_path / "a.md").write_text("x", encoding="utf-8")
    assert main(["--folder", str(tmp_path), "--keep", f"toy={tmp_path}"]) == 2
    assert "no comparison to keep" in capsys.readouterr().err
