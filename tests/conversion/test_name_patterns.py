"""Patterns of file names: what the braces stand for."""

import pytest

from medsegdiff_auto.dataset_conversion.core.patterns import matches

ENDINGS = (".nii", ".nii.gz", ".png")


@pytest.mark.parametrize("pattern, file, fields", [
    ("images/{case}", "images/a.b_1.nii.gz", {"case": "a.b_1"}),
    ("images/{case}", "images/a.PNG", {"case": "a"}),
    ("images/{case}.png", "images/a.png", {"case": "a"}),
    ("images/{case}.png", "images/a.nii.gz", None),
    ("images/{case}", "images/below/a.png", None),
    ("{patient}/{case}_{channel}", "P1/x_y_t1.nii.gz", {"patient": "P1", "case": "x_y", "channel": "t1"}),
    ("{case}/{case}_{channel}", "b1/b1_t1ce.nii.gz", {"case": "b1", "channel": "t1ce"}),
    ("{case}/{case}_{channel}", "b1/b2_t1ce.nii.gz", None),
    ("masks/{case}_*", "masks/x_2024.png", {"case": "x"}),
    ("m(1)/{case}", "m(1)/x.png", {"case": "x"}),
])
def test_a_pattern_names_a_file_or_does_not(tmp_path, pattern, file, fields):
    found = matches(pattern, tmp_path, [tmp_path / file], ENDINGS, {"channel": ["t1", "t1ce"]})
    assert [match.fields for match in found] == ([] if fields is None else [fields])


@pytest.mark.parametrize("path, case", [("P1/P1_a.png", "P1_a"), ("P1/a.png", "P1_a")])
def test_the_case_is_headed_by_its_patient_once(tmp_path, path, case):
    assert [match.case for match in matches("{patient}/{case}", tmp_path, [tmp_path / path], ENDINGS, {})] == [case]
