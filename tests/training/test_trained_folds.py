"""A model's folds belong to one split; another one is refused before a fold validates on what another has seen."""

import json

import pytest
from nnunetv2.utilities.crossval_split import generate_crossval_split

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.files.provenance import recorded
from medsegdiff_auto.training.folds import folds_of, require_same_fold, require_same_folds

CASES = [f"case_{number}" for number in range(6)]
SPLITS = [{"train": CASES[2:], "val": CASES[:2]}, {"train": CASES[:2] + CASES[4:], "val": CASES[2:4]}]
DRAWN_ANEW = [{"train": CASES[:4], "val": CASES[4:]}, SPLITS[1]]


@pytest.fixture
def model(tmp_path):
    """Folds 0 and 1 are trained by SPLITS."""
    for fold in (0, 1):
        (tmp_path / f"fold_{fold}").mkdir()
        with recorded(tmp_path / f"fold_{fold}", **SPLITS[fold]):
            pass
    return tmp_path


def test_the_split_of_the_training_is_accepted_in_any_order_of_cases(model):
    require_same_folds(model, [{part: fold[part][::-1] for part in fold} for fold in SPLITS])


def test_folds_that_were_drawn_anew_are_refused_with_the_cases_of_both(model):
    with pytest.raises(UserError, match="The folds have changed since fold 0") as raised:
        require_same_folds(model, DRAWN_ANEW)
    assert "case_4, case_5" in raised.value.found and "case_0, case_1" in raised.value.expected


def test_the_fold_that_is_trained_anew_may_change(model):
    require_same_folds(model, DRAWN_ANEW, but=0)
    with pytest.raises(UserError):
        require_same_folds(model, DRAWN_ANEW, but=1)


def test_a_case_that_was_only_left_out_of_training_counts(model):
    with pytest.raises(UserError, match="fold 0"):
        require_same_fold(model, [{"train": CASES[2:5], "val": CASES[:2]}, SPLITS[1]], 0)


def test_a_fold_that_the_split_no_longer_has_is_refused(model):
    with pytest.raises(UserError, match="fold 1"):
        require_same_fold(model, SPLITS[:1], 1)


def test_a_fold_of_an_earlier_version_is_taken_for_that_of_the_split(tmp_path):
    (tmp_path / "fold_0").mkdir()
    require_same_folds(tmp_path, DRAWN_ANEW)
    require_same_fold(tmp_path, DRAWN_ANEW, 0)


def test_the_record_of_a_fold_that_was_deleted_binds_nobody(model):
    (model / "fold_0").rmdir()
    require_same_folds(model, DRAWN_ANEW)


def test_without_a_split_the_folds_are_those_that_nnunet_draws(tmp_path):
    (tmp_path / "data").mkdir()
    for case in CASES:
        (tmp_path / "data" / f"{case}.pkl").touch()
    assert folds_of(tmp_path, "data") == generate_crossval_split(CASES, seed=12345, n_splits=5)
    (tmp_path / "splits_final.json").write_text(json.dumps(SPLITS))
    assert folds_of(tmp_path, "data") == SPLITS
