"""Folds: a patient stands on one side, sizes are even, the seed decides."""

import numpy as np
import pytest

from medsegdiff_auto.dataset_conversion.core.folds import require_separate_test, splits, validation_folds
from medsegdiff_auto.errors import UserError


def random_cohort(seed: int) -> dict[str, str]:
    """Up to 60 patients with 1 to 40 cases each; names of cases tell nothing of the patient's order."""
    generator = np.random.default_rng(seed)
    cohort = {f"slice_{generator.integers(10**9)}_{patient}_{number}": f"patient_{patient}"
              for patient in range(generator.integers(2, 60)) for number in range(generator.integers(1, 40))}
    return {case: cohort[case] for case in generator.permutation(sorted(cohort)).tolist()}


@pytest.mark.parametrize("seed", range(60))
def test_no_patient_ever_stands_on_both_sides_and_every_case_is_validated_once(seed):
    cohort = random_cohort(seed)
    content = splits(validation_folds(cohort, seed), cohort)
    assert len(content) == min(5, len(set(cohort.values())))
    for fold in content:
        assert not {cohort[case] for case in fold["train"]} & {cohort[case] for case in fold["val"]}
        assert sorted(fold["train"] + fold["val"]) == sorted(cohort)
    assert sorted(case for fold in content for case in fold["val"]) == sorted(cohort)


@pytest.mark.parametrize("seed", range(20))
def test_folds_differ_by_no_more_cases_than_one_patient_has(seed):
    cohort = random_cohort(seed)
    sizes = [len(fold) for fold in validation_folds(cohort, seed)]
    largest = max(list(cohort.values()).count(patient) for patient in cohort.values())
    assert max(sizes) - min(sizes) <= largest


def test_cases_of_one_image_per_patient_divide_evenly():
    cohort = {f"case_{number:02d}": str(number) for number in range(23)}
    assert sorted(map(len, validation_folds(cohort, 0))) == [4, 4, 5, 5, 5]


def test_the_seed_decides_and_the_order_of_the_cases_does_not():
    cohort = random_cohort(1)
    backwards = dict(reversed(cohort.items()))
    assert validation_folds(cohort, 4) == validation_folds(backwards, 4) != validation_folds(cohort, 5)


@pytest.mark.parametrize("num_patients, num_folds", [(1, 0), (2, 2), (4, 4), (5, 5), (6, 5)])
def test_few_patients_give_as_many_folds_as_patients(num_patients, num_folds):
    assert len(validation_folds({str(number): str(number) for number in range(num_patients)}, 0)) == num_folds


def test_official_folds_that_divide_a_patient_are_refused_by_name():
    with pytest.raises(UserError, match="The patient p2 stands on both sides of fold 1.") as refused:
        splits([["a"], ["b"]], {"a": "p1", "b": "p2", "c": "p2"})
    assert refused.value.found == "train: c; val: b"


def test_a_patient_with_training_and_test_cases_is_refused_by_name():
    require_separate_test({"a": "p1"}, {"b": "p2"})
    with pytest.raises(UserError, match="The patient p1 has training and test cases.") as refused:
        require_separate_test({"a": "p1", "c": "p3"}, {"b": "p1"})
    assert refused.value.found == "train: a; test: b"


def test_an_official_fold_of_which_no_case_was_converted_is_left_out():
    patients = {name: name for name in "abcd"}
    assert splits([["a", "b"], ["x", "y"], ["c", "d"]], patients) == [
        {"train": ["c", "d"], "val": ["a", "b"]}, {"train": ["a", "b"], "val": ["c", "d"]}]
