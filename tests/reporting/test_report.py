"""The report: its numbers are those of the files, its pictures can be read, it loads nothing, it names what is missing.
"""

import base64
import gzip
import hashlib
import io
import json
import os
import re
import shutil
from html import escape
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medsegdiff_auto.cli.report import main
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.evaluation.folder import evaluate_cases
from medsegdiff_auto.evaluation.metrics_table import read_rows, write_rows
from medsegdiff_auto.evaluation.score import scores_among
from medsegdiff_auto.inference.case_table import flag_cases, read_case_table, write_case_table
from medsegdiff_auto.reporting.markdown import to_html
from medsegdiff_auto.reporting.prediction_record import read_predictions
from medsegdiff_auto.reporting.report import write_report


@pytest.fixture(scope="module")
def html(folders):
    """The report of a complete set of folders."""
    root, model = folders
    output = root / "out" / "report.html"
    write_report(output, model, root / "predictions", root / "labelsTs", root / "imagesTs", root / "posterior",
                 commands=["make demo"])
    return output.read_text(encoding="utf-8")


def cells(html: str, first: str, second: str) -> list[str]:
    """The texts of the table row that begins with two given cells."""
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", html)]
    return next(row for row in rows if row[:2] == [first, second])


def section(html: str, anchor: str) -> str:
    return re.search(rf'<section id="{anchor}">.*?</section>', html, re.DOTALL).group()


def test_the_cells_of_a_case_are_the_numbers_of_metrics_csv_and_cases_csv(folders, html, tmp_path):
    root, model = folders
    pairs = {
        f"case_{i}": (root / "labelsTs" / f"case_{i}.nii.gz", root / "predictions" / f"case_{i}.nii.gz")
        for i in range(5)
    }
    write_rows(evaluate_cases(pairs, json.loads((model / "dataset.json").read_text(encoding="utf-8"))),
               tmp_path / "metrics.csv")
    for scored, sized in zip(read_rows(tmp_path / "metrics.csv"), read_rows(root / "predictions" / "cases.csv"),
                             strict=True):
        row = cells(html, scored["case"], scored["structure"])
        size = next(key for key in ("volume_ml", "area_mm2") if key in sized)
        assert row[2:5] == [f"{scored['dice']:.3f}", f"{scored['nsd']:.3f}", f"{scored['hd95_mm']:.2f}"]
        decimals = 2 if size == "volume_ml" else 1
        assert row[6] == f"{sized[size + '_p05']:.{decimals}f} – {sized[size + '_p95']:.{decimals}f}"
        assert row[8] == ("yes"
                          if sized[f"{size}_p05"] <= scored[f"reference_{size}"] <= sized[f"{size}_p95"] else "no")


def test_the_cross_validation_table_holds_the_numbers_of_summary_json(folders, html):
    summary = json.loads((folders[1] / "fold_1" / "validation" / "summary.json").read_text(encoding="utf-8"))
    expected = [
        summary["foreground_mean"]["Dice"], summary["mean"]["1"]["Dice"], 0.7, summary["mean"]["2"]["Dice"], 0.7
    ]
    assert cells(section(html, "crossval"), "fold_1", "5")[2:] == [f"{value:.4f}" for value in expected]


def test_the_heading_of_a_score_says_what_it_is(html):
    shown = section(html, "predictions")
    nsd = next(score for score, given in scores_among(["nsd"]) if given)
    assert shown.count(f'title="{escape(nsd.explained("1 mm"))}">NSD</th>') == 2


def test_every_key_of_the_diffusion_section_is_shown(folders, html):
    plans = json.loads((folders[1] / "plans.json").read_text(encoding="utf-8"))
    diffusion = next(iter(plans["configurations"].values()))["diffusion"]
    shown = section(html, "plan")
    assert all(f"<td>{key}</td>" in shown
               for key in diffusion) and "<td>-3.1415</td>" in shown and "<td>16, 32</td>" in shown


def test_every_picture_is_a_png_with_something_on_it(html):
    pictures = [
        Image.open(io.BytesIO(base64.b64decode(data)))
        for data in re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    ]
    assert len(pictures) == 4 + 4    # four cases; curves, reliability, error by uncertainty, intervals
    assert all(picture.format == "PNG" and np.ptp(np.asarray(picture.convert("L"))) > 100 for picture in pictures)


def test_the_page_loads_nothing_and_runs_only_the_scripts_whose_checksums_it_names(html):
    assert "http://" not in html and "https://" not in html and "<link" not in html
    assert all(source.startswith("data:image/png;base64,") for source in re.findall(r'src="([^"]{0,30})', html))
    policy = re.search(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', html).group(1)
    library = gzip.decompress(base64.b64decode(re.search(r'id="viewer-library">([^<]*)<', html).group(1)))
    scripts = [script.encode() for script in re.findall(r"<script>(.*?)</script>", html, re.DOTALL)] + [library]
    checksums = [f"'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}'" for script in scripts]
    assert policy == f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {' '.join(checksums)}"
    assert set(re.findall(r'<script type="([^"]*)"', html)) == {"application/json", "application/octet-stream"}


def test_nothing_is_named_as_missing_when_all_is_there(html):
    assert re.findall(r'class="missing">([^<]*)', html) == [
        "The folds have not been joined: medsegdiff_find_best_configuration does that once all are trained."]


def test_recorded_and_given_commands_are_listed_as_they_can_be_typed(html):
    assert "<pre>medsegdiff_predict -i &#x27;images of &lt;mine&gt;&#x27;\nmake demo</pre>" in html


def test_the_best_and_the_worst_case_are_pictured(html):
    dice = {}
    for row in re.findall(r"<td>(case_\d)</td><td>\w+</td><td class=\"number\">([\d.]+)</td>",
                          section(html, "predictions")):
        dice.setdefault(row[0], []).append(float(row[1]))
    ranking = sorted(dice, key=lambda case: np.mean(dice[case]))
    pictured = re.findall(r'alt="contours of (case_\d)"', html)
    assert pictured == [ranking[-1], ranking[-2], ranking[1], ranking[0]]


def test_a_model_without_predictions_names_them_as_missing(folders, tmp_path):
    write_report(tmp_path / "report.html", folders[1])
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "No prediction folder was given." in html and "contours of" not in html


def test_predictions_without_references_are_listed_but_not_scored(folders, tmp_path):
    root, model = folders
    write_report(tmp_path / "report.html", model, root / "predictions")
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "not scored" in html and "Calibration needs references" in html and ">Dice</th>" not in html


def test_flagged_structures_are_listed_worst_first_and_counted(folders, tmp_path):
    root, model = folders
    shutil.copytree(root / "predictions", tmp_path / "predictions")
    rows = read_case_table(tmp_path / "predictions")
    for row in rows:
        row["expected_dice"] = "0.3" if (row["case"], row["structure"]) == ("case_3",
                                                                            "lesion") else row["expected_dice"]
    rows[0]["expected_dice"] = "0.5"
    write_case_table(rows, tmp_path / "predictions")
    flag_cases(tmp_path / "predictions", 0.8)
    for references in (None, root / "labelsTs"):
        write_report(tmp_path / "report.html", model, tmp_path / "predictions", references)
        html = section((tmp_path / "report.html").read_text(encoding="utf-8"), "predictions")
        listed = html[html.index("For a person to look at"):html.index("<h3>Cases")]
        assert re.findall(r"<td>(case_\d)</td><td>(\w+)</td>", listed) == [("case_3", "lesion"), ("case_0", "organ")]
        assert "2 of 10" in html


def test_a_table_of_metrics_that_is_older_than_the_predictions_is_not_believed(folders, tmp_path):
    root, model = folders
    predictions, dataset_json = tmp_path / "predictions", json.loads(
        (model / "dataset.json").read_text(encoding="utf-8"))
    shutil.copytree(root / "predictions", predictions)
    (predictions / "metrics.csv").write_text("case,structure,dice\n" + "".join(f"case_{i},organ,0.123\n"
                                                                               for i in range(5)))
    os.utime(predictions / "metrics.csv", (0, 0))
    scored_anew = read_predictions(predictions, root / "labelsTs", dataset_json)
    os.utime(predictions / "metrics.csv")
    believed = read_predictions(predictions, root / "labelsTs", dataset_json)
    assert 0.123 not in scored_anew.values("organ", "dice") and len(scored_anew.values("organ", "nsd")) == 5
    assert set(believed.values("organ", "dice")) == {0.123}


def test_a_fold_without_a_readable_checkpoint_shows_nnunet_s_picture(folders, tmp_path):
    model = tmp_path / folders[1].name
    shutil.copytree(folders[1], model)
    (model / "fold_0" / "checkpoint_final.pth").write_bytes(b"truncated")
    Image.fromarray(np.eye(8, dtype=np.uint8) * 255).save(model / "fold_0" / "progress.png")
    write_report(tmp_path / "report.html", model)
    shown = section((tmp_path / "report.html").read_text(encoding="utf-8"), "training")
    assert "training curves of fold_1" in shown and "progress.png of fold_0" in shown


def test_a_foreign_checkpoint_cannot_run_code(folders, tmp_path):
    import torch

    class Payload:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    model = tmp_path / folders[1].name
    shutil.copytree(folders[1], model)
    torch.save({"logging": Payload()}, model / "fold_0" / "checkpoint_final.pth")
    write_report(tmp_path / "report.html", model)
    assert not (tmp_path / "ran").exists() and "fold_0 has neither" in (tmp_path /
                                                                        "report.html").read_text(encoding="utf-8")


def test_a_folder_that_is_no_model_is_refused(tmp_path):
    with pytest.raises(UserError, match="not a model folder"):
        write_report(tmp_path / "report.html", tmp_path)


@pytest.mark.parametrize("arguments, words", [(["-m", "nowhere"], "-m does not exist"), ([], "not named"),
                                              (["-c", "2d"], "not named"),
                                              (["--reference", "x"], "did you mean --references")])
def test_a_mistake_on_the_command_line_ends_with_two_and_four_lines(arguments, words, capsys):
    try:
        code = main(arguments)
    except SystemExit as end:
        code = end.code
    error = capsys.readouterr().err
    assert code == 2 and words in error and len(error.strip().splitlines()) == 4


def test_the_command_writes_beside_the_predictions_by_default(folders):
    root, model = folders
    assert main(["-m", str(model), "-p", str(root / "predictions")]) == 0
    assert f"medsegdiff_report -m {model}" in (root / "predictions" / "report.html").read_text(encoding="utf-8")
    (root / "predictions" / "report.html").unlink()


def test_markdown_becomes_html_and_escapes_what_is_not_markup():
    assert to_html("# A `b`\n- **c** < d\n\n| e | f |\n|---|---|\n| 1 | 2 |") == (
        "<h3>A <code>b</code></h3>\n<ul><li><b>c</b> &lt; d</li></ul>\n"
        '<div class="scroll"><table><thead><tr><th>e</th><th>f</th></tr></thead>'
        '<tbody><tr><td class="text">1</td><td class="text">2</td></tr></tbody></table></div>')
