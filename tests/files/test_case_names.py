"""The one rule for the names of cases."""

import pytest

from medsegdiff_auto.files.case_names import case_name_fault

LEGAL = ("a", "case 1", "Fall_ä", "病人一", "<script>alert(1)<", "b&\"'", "x.y.z", "-", "_", "=1+1", "a..b", "x_seg",
         "samples", "tissue_sample", "CON", "a\tb", "n" * 230)


@pytest.mark.parametrize("name", LEGAL)
def test_odd_but_legal_names_are_accepted(name):
    assert case_name_fault(name) is None


@pytest.mark.parametrize("name, word", [
    ("../../../evil", "path"), ("/tmp/evil", "path"), ("a/b", "path"), ("a/..", "path"), ("", "path"), ("a/", "path"),
    ("..", "dot"), (".", "path"), ("._case", "dot"), ("a\nb", "line break"), ("a\u2028b", "line break"),
    ("caf\udce9", "UTF-8"), ("tissue_samples", "_samples"), ("a_uncertainty", "_uncertainty"),
    ("a_probabilities", "_probabilities"), ("a_mutual_information", "_mutual_information"),
])
def test_a_name_that_leaves_the_folder_hides_or_replaces_a_companion_is_refused_with_the_reason(name, word):
    assert word in case_name_fault(name)


def test_nnunets_own_labels_suffix_is_refused_where_cases_are_trained_on():
    assert "_seg" in case_name_fault("x_seg", is_for_training=True)
    assert case_name_fault("x_segment", is_for_training=True) is None
