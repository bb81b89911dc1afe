"""Folds in which a patient stands on one side only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from medsegdiff_auto.errors import UserError

NUM_FOLDS = 5


def validation_folds(patients: Mapping[str, str], seed: int, num_folds: int = NUM_FOLDS) -> list[list[str]]:
    """Divides the cases, given with their patients, into lists of validation cases of nearly equal length.

    Patients come in an order drawn from ``seed``, those with the most cases first, each into the shortest fold so far.
    Fewer patients than folds give as many folds as patients; one patient gives none.
    """
    cases: dict[str, list[str]] = {}
    for case in sorted(patients):
        cases.setdefault(patients[case], []).append(case)
    order = [sorted(cases)[index] for index in np.random.default_rng(seed).permutation(len(cases))]
    folds: list[list[str]] = [[] for _ in range(min(num_folds, len(cases)))]
    for patient in sorted(order, key=lambda patient: -len(cases[patient])):
        min(folds, key=len).extend(cases[patient])
    return [sorted(fold) for fold in folds] if len(folds) > 1 else []


def splits(folds: Sequence[Sequence[str]], patients: Mapping[str, str]) -> list[dict[str, list[str]]]:
    """The content of nnU-Net's ``splits_final.json``: what is not validated in a fold is trained in it.

    A fold is left out where no case of one of its sides was converted.

    Raises:
        UserError: a patient stands on both sides of a fold.
    """
    content = []
    for number, fold in enumerate(folds):
        val = sorted(set(fold) & set(patients))
        train = sorted(set(patients) - set(val))
        shared = sorted({patients[case] for case in train} & {patients[case] for case in val})
        if shared:
            sides = [[case for case in side if patients[case] == shared[0]][:3] for side in (train, val)]
            raise UserError(f"The patient {shared[0]} stands on both sides of fold {number}.",
                            found=f"train: {', '.join(sides[0])}; val: {', '.join(sides[1])}",
                            expected="all cases of a patient on one side",
                            fix="correct the folds, or leave them out: then they are drawn by patient")
        if train and val:
            content.append({"train": train, "val": val})
    return content


def require_separate_test(train: Mapping[str, str], test: Mapping[str, str]) -> None:
    """Checks that no patient has training and test cases.

    Raises:
        UserError: one has.
    """
    for case, patient in sorted(test.items()):
        twin = next((other for other, its in sorted(train.items()) if its == patient), None)
        if twin is not None:
            raise UserError(f"The patient {patient} has training and test cases.", found=f"train: {twin}; test: {case}",
                            expected="all cases of a patient in one of the two",
                            fix="correct the folders of the source, or the rule that finds the patient in a name")
