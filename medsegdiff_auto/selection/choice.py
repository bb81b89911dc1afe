"""Steps, samples, fusion, postprocessing and temperature by cross-validation, from stored samples.

    code        meaning
    candidate   steps S, samples n and fusion; every S and n <= the number that is stored
    score       Dice, mean over the structures of their means over cases (nnU-Net's foreground mean)

The candidate is the one of the highest score, the cheapest of equals. Then nnU-Net's postprocessing steps are tried in
its order on that candidate, each kept where it raises the score and lowers no structure. The temperature is that of the
lowest negative log-likelihood. Done on all folds this is the choice; done on all folds but one and scored on that one,
fold after fold, it tells what a choice made this way is worth on cases that had no part in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from collections.abc import Callable, Sequence

import numpy as np
from nnunetv2.postprocessing.remove_connected_components import (apply_postprocessing,
                                                                 remove_all_but_largest_component_from_segmentation)

from medsegdiff_auto.selection.stored_samples import StoredCase
from medsegdiff_auto.nnunet.managers import LabelManager
from medsegdiff_auto.nnunet.structures import Structure
from medsegdiff_auto.selection.temperature_fit import TEMPERATURES, best_temperature, lowest_nll
from medsegdiff_auto.decision.decoder import decode, structure_masks
from medsegdiff_auto.overlap import dice, mean_without_nan
from medsegdiff_auto.tables import DECODERS

SAME_SCORE = 1e-6


@dataclass(frozen=True, order=True)
class Candidate:
    """Network evaluations per sample, samples per fold, and how they become one mask."""

    num_steps: int
    num_samples: int
    fusion: str


@dataclass(frozen=True)
class Choice:
    """What was chosen on some cases, and what it scores on the cases that it was judged on.

    Attributes:
        postprocessing: numbers of nnU-Net's steps, of :func:`postprocessing_arguments`.
        score: Dice in [0, 1].
        nll: negative log-likelihood at the temperature, nats; NaN where no case has a structure.
    """

    candidate: Candidate
    postprocessing: tuple[int, ...]
    temperature: float
    score: float
    nll: float


@dataclass(frozen=True)
class Selection:
    """The choice on all cases, scored on the same; and the choices of every fold on the others, scored on that fold.

    Attributes:
        by_candidate: score and lowest negative log-likelihood of every candidate on all cases, without postprocessing.
        held_out_score: over the cases of all folds, each under the choice that it had no part in; None for a single
            fold.
    """

    choice: Choice
    by_candidate: dict[Candidate, tuple[float, float]]
    held_out: dict[int, Choice]
    held_out_score: float | None
    held_out_nll: float | None


def candidates(steps: Sequence[int], num_samples: int, fewest: int = 1) -> list[Candidate]:
    """All that can be made of stored samples, the cheapest first; a decoder of samples needs two of them.

    Args:
        fewest: samples that a choice must keep, as far as there are so many.
    """
    numbers = range(min(fewest, num_samples), num_samples + 1)
    rows = {name: DECODERS.row(name) for name in DECODERS.names()}
    every = [
        Candidate(s, n, name) for s in steps for n in numbers for name, row in rows.items()
        if n > 1 or not row.uses_samples
    ]
    return sorted(every, key=lambda c: (c.num_steps * c.num_samples, c.num_steps, rows[c.fusion].rank))


def postprocessing_arguments(labels: LabelManager) -> list[dict]:
    """Arguments of nnU-Net's steps in its order: the largest component of all foreground, then of each class or region.
    """
    structures = labels.foreground_regions if labels.has_regions else labels.foreground_labels
    return [{"labels_or_regions": labels.foreground_labels}] + [
        {"labels_or_regions": one} for one in (structures if len(structures) > 1 else [])]


def fused_label_map(stored: StoredCase, candidate: Candidate, labels: LabelManager) -> np.ndarray:
    """The mask that ``medsegdiff_predict`` makes of these samples, (z, y, x)."""
    by_mean = stored.means[candidate.num_samples - 1]
    if not DECODERS.row(candidate.fusion).uses_samples:
        return by_mean
    if labels.has_regions:
        decided = np.concatenate(list(structure_masks(by_mean[None], labels)))
    else:
        decided = np.stack([by_mean == value for value in range(labels.num_segmentation_heads)])
    return decode(candidate.fusion, decided.astype(np.float32), stored.samples[:candidate.num_samples], labels)


class Scores:
    """Dice and likelihood of every candidate on every case, read and computed once.

    Args:
        folds: fold to its validation cases.
        read: the stored samples of a case at a number of steps.
        reference: label map of a case, (z, y, x).
        ignore_label: of the references; its voxels count in no score.
    """

    def __init__(self, folds: dict[int, list[str]], every_candidate: Sequence[Candidate],
                 read: Callable[[str, int], StoredCase], reference: Callable[[str], np.ndarray],
                 structures: Sequence[Structure], labels: LabelManager, ignore_label: int | None = None):
        self.folds, self.candidates, self.structures, self.labels = folds, every_candidate, structures, labels
        self.ignore_label = ignore_label
        self.steps = postprocessing_arguments(labels)
        self._read, self._reference = lru_cache(maxsize=1)(read), lru_cache(maxsize=1)(reference)
        self._dice: dict[tuple, np.ndarray] = {}
        self._nll: dict[tuple[str, int], np.ndarray] = {}
        for case in self.cases:
            for candidate in sorted(every_candidate):
                self._nll[case, candidate.num_steps] = self._read(case, candidate.num_steps).nll
                self.dice_of(case, candidate)

    @property
    def cases(self) -> list[str]:
        """Cases of all folds."""
        return [case for cases in self.folds.values() for case in cases]

    def dice_of(self, case: str, candidate: Candidate, postprocessing: tuple[int, ...] = ()) -> np.ndarray:
        """Dice of every structure, NaN where it is neither in the reference nor predicted."""
        key = case, candidate, postprocessing
        if key not in self._dice:
            mask = fused_label_map(self._read(case, candidate.num_steps), candidate, self.labels)
            steps = [self.steps[number] for number in postprocessing]
            mask = apply_postprocessing(mask, [remove_all_but_largest_component_from_segmentation] * len(steps), steps)
            reference = self._reference(case)
            valid = None if self.ignore_label is None else reference != self.ignore_label
            self._dice[key] = np.array([dice(s.mask(reference), s.mask(mask), valid) for s in self.structures])
        return self._dice[key]

    def means(self, cases: Sequence[str], candidate: Candidate, postprocessing: tuple[int, ...] = ()) -> np.ndarray:
        """Mean Dice of every structure over cases."""
        return means_of_structures([self.dice_of(case, candidate, postprocessing) for case in cases])

    def curves(self, cases: Sequence[str], candidate: Candidate) -> np.ndarray:
        """Negative log-likelihood by temperature, (num_cases, 25)."""
        return np.stack([self._nll[case, candidate.num_steps][candidate.num_samples - 1] for case in cases])


def means_of_structures(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Mean over cases of each structure, without NaN."""
    return np.array([mean_without_nan(column) for column in np.stack(rows).T])


def best_candidate(scores: Scores, cases: Sequence[str]) -> Candidate:
    """The first in the order of cost that no other exceeds."""
    found = [mean_without_nan(scores.means(cases, candidate)) for candidate in scores.candidates]
    return next(c for c, score in zip(scores.candidates, found) if not score < np.nanmax(found) - SAME_SCORE)


def best_postprocessing(scores: Scores, cases: Sequence[str], candidate: Candidate) -> tuple[int, ...]:
    """The steps of nnU-Net that raise the score of the candidate and lower no structure, one after the other."""
    chosen: tuple[int, ...] = ()
    for number in range(len(scores.steps)):
        before, after = (scores.means(cases, candidate, steps) for steps in (chosen, (*chosen, number)))
        if mean_without_nan(after) > mean_without_nan(before) + SAME_SCORE and not (after < before).any():
            chosen = (*chosen, number)
    return chosen


def choose(scores: Scores, cases: Sequence[str], judged: Sequence[str]) -> Choice:
    """The choice on ``cases``, with its score on ``judged``."""
    candidate = best_candidate(scores, cases)
    postprocessing = best_postprocessing(scores, cases, candidate)
    at = best_temperature(scores.curves(cases, candidate))
    return Choice(candidate, postprocessing, float(TEMPERATURES[at]),
                  mean_without_nan(scores.means(judged, candidate, postprocessing)),
                  mean_without_nan(scores.curves(judged, candidate)[:, at]))


def select(scores: Scores) -> Selection:
    """The choice on all cases, and what choosing is worth on unseen ones."""
    held_out, rows, nll = {}, [], []
    for fold, of_fold in scores.folds.items() if len(scores.folds) > 1 else ():
        others = [case for case in scores.cases if case not in of_fold]
        held_out[fold] = choice = choose(scores, others, of_fold)
        rows += [scores.dice_of(case, choice.candidate, choice.postprocessing) for case in of_fold]
        nll += list(scores.curves(of_fold, choice.candidate)[:, list(TEMPERATURES).index(choice.temperature)])
    every = {
        candidate: (mean_without_nan(scores.means(scores.cases,
                                                  candidate)), lowest_nll(scores.curves(scores.cases, candidate)))
        for candidate in scores.candidates
    }
    return Selection(choose(scores, scores.cases, scores.cases), every, held_out,
                     mean_without_nan(means_of_structures(rows)) if rows else None,
                     mean_without_nan(nll) if nll else None)
