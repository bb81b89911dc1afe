"""Which methods are compared, where their predictions lie, and the check that they are of the same cases.

    METHOD+T    METHOD with its voxel temperature fitted on other cases
    folds       a method that was trained on some folds has the cases of those folds alone
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ConfigDict

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.files.case_names import case_name_fault
from medsegdiff_auto.files.listing import passed_over
from medsegdiff_auto.files.prediction_folder import CASES_FILE, list_predictions
from medsegdiff_auto.files.provenance import some
from medsegdiff_auto.findings import raise_errors
from medsegdiff_auto.schemas import validated
from medsegdiff_auto.writing import read_table

METHODS_FILE, PREDICTIONS, FOLDS_FILE = "methods.json", "predictions", "fold_of_case.json"
AT_TEMPERATURE = "+T"
PLAIN = ("nnunet", "nnunet_adamw", "resenc")  # one mask and its probabilities, nothing that samples


@dataclass(frozen=True)
class Facts:
    """What ``methods.json`` says of a method; all of it may be unknown.

    Attributes:
        fitted: what was fitted on other cases, such as a temperature.
        seconds_per_case, training_seconds: of all folds together.
    """

    __pydantic_config__ = ConfigDict(extra="ignore", allow_inf_nan=False)

    title: str | None = None
    trainer: str | None = None
    plans: str | None = None
    configuration: str | None = None
    iterations: int | None = None
    seed: int | None = None
    folds: list[int | str] = field(default_factory=list)
    device: str | None = None
    fitted: Any = None
    seconds_per_case: float | None = None
    training_seconds: float | None = None

    @property
    def known(self) -> dict[str, Any]:
        """The facts that are known, by name."""
        return {name: value for name, value in asdict(self).items() if value not in (None, [], "")}


@dataclass(frozen=True)
class MethodsFile:
    """Content of ``methods.json``; the first method is ours."""

    __pydantic_config__ = ConfigDict(extra="ignore")

    reference: str
    methods: dict[str, Facts]


@dataclass(frozen=True)
class Methods:
    """Methods in the order of the table, the first of them ours.

    Attributes:
        folders: predictions by method.
        reference: that the others are compared with.
    """

    folders: dict[str, Path]
    reference: str
    facts: dict[str, Facts] = field(default_factory=dict)

    def __post_init__(self):
        for name in self.folders:
            fault = case_name_fault(name)
            if fault:
                raise UserError(f"A method cannot be named {name}: the name {fault}.", found=name,
                                expected="a name such as nnunet", fix="rename the method")
        if len(self.folders) < 2:
            raise UserError("A comparison needs several methods.", found=some(list(self.folders)) or "none",
                            expected="at least two folders of predictions", fix="name another method")
        if self.reference not in self.folders:
            raise UserError("The reference is none of the methods.", found=self.reference,
                            expected=f"one of {', '.join(self.folders)}", fix="name one of them as the reference")
        of_folder: dict[Path, str] = {}
        for name, folder in self.folders.items():
            other = of_folder.setdefault(folder.resolve(), name)
            if other != name:
                raise UserError(f"The methods {other} and {name} have the same predictions.", found=str(folder),
                                expected="a folder of its own for each method", fix="correct one of the two")

    @property
    def names(self) -> list[str]:
        """All methods."""
        return list(self.folders)

    @property
    def ours(self) -> str:
        """The first method."""
        return self.names[0]

    @property
    def at_temperature(self) -> str:
        """The reference with its temperature fitted, where it is there, else the reference."""
        twin = f"{self.reference}{AT_TEMPERATURE}"
        return twin if twin in self.folders else self.reference

    @property
    def plain(self) -> list[str]:
        """The methods other than ours that give one mask with probabilities."""
        return [name for name in self.names if name != self.ours and (
            name.removesuffix(AT_TEMPERATURE) in (*PLAIN, self.reference))]

    def title(self, name: str) -> str:
        """The name of a method for readers."""
        facts, base = self.facts.get(name), name.removesuffix(AT_TEMPERATURE)
        if facts and facts.title:
            return facts.title
        return name if base == name else self.title(base) + AT_TEMPERATURE


def read_methods(folder: Path) -> Methods:
    """The methods of a comparison's folder, as ``methods.json`` lists them.

    Raises:
        UserError: the file is absent or damaged, or a method has no folder.
    """
    file = folder / METHODS_FILE
    try:
        content = validated(MethodsFile, json.loads(file.read_text(encoding="utf-8"), object_pairs_hook=_unique))
    except (OSError, ValueError) as failure:
        raise UserError(f"{file} cannot be read.", found=str(failure),
                        expected='{"reference": METHOD, "methods": {METHOD: {...}, ...}}',
                        fix="give the command that wrote the folder again") from failure
    return Methods({name: folder / PREDICTIONS / name for name in content.methods}, content.reference, content.methods)


def predictions_of(methods: Methods, file_ending: str, shared_only: bool = False) -> dict[str, dict[str, Path]]:
    """The label map of every case, by method.

    All methods have the same cases, but for one that was trained on some folds only (its ``folds`` in methods.json,
    ``fold_of_case.json`` in the folders): it has those of its folds.

    Args:
        shared_only: the cases that all of them have, whatever else a folder holds.

    Raises:
        UserError: a folder is missing, empty, holds a file that would be passed over, a case twice, or other cases; the
            methods were trained on other folds.
    """
    found = {}
    for name, folder in methods.folders.items():
        found[name] = list_predictions(folder, file_ending)
        if not shared_only:
            raise_errors(passed_over(folder, file_ending), f"The folder of {name}", "the table above")
        _require_rows_once(folder)
    if shared_only:
        shared = set.intersection(*map(set, found.values()))
        if not shared:
            raise UserError("The methods have no case in common.", found=_counts(found), expected="at least one case",
                            fix="correct the folders")
        return {name: {case: path for case, path in of.items() if case in shared} for name, of in found.items()}
    every_case, fold_of_case = set().union(*found.values()), _one_fold_each(methods)
    for name, of_method in found.items():
        own = {str(fold) for fold in methods.facts.get(name, Facts()).folds}
        expected = {case for case in every_case if not own or fold_of_case.get(case) in {*own, None}}
        _require_cases(name, methods.folders[name], set(of_method), expected)
    return found


def folds_of_cases(folder: Path) -> dict[str, Any]:
    """The fold that predicted each case; empty where nothing says so."""
    file = folder / FOLDS_FILE
    if not file.is_file():
        return {}
    try:
        return validated(dict[str, int | str], json.loads(file.read_text(encoding="utf-8")))
    except ValueError as failure:
        raise UserError(f"{file} cannot be read.", found=str(failure), expected="{CASE: fold, ...}",
                        fix="predict again, or delete the file: the folder then must hold all cases") from failure


def _one_fold_each(methods: Methods) -> dict[str, str]:
    """The fold of every case, in which the methods agree: otherwise some were trained on what others are judged by."""
    found: dict[str, tuple[str, str]] = {}
    for name, folder in methods.folders.items():
        for case, fold in folds_of_cases(folder).items():
            other, before = found.setdefault(case, (name, str(fold)))
            if before != str(fold):
                raise UserError(f"The methods {other} and {name} were not trained on the same folds.",
                                found=f"{case} in fold {before} of {other}, in fold {fold} of {name}",
                                expected="one fold for each case", fix="train both by the same splits_final.json")
    return {case: fold for case, (_, fold) in found.items()}


def _require_cases(name: str, folder: Path, found: set[str], expected: set[str]) -> None:
    missing, surplus = sorted(expected - found), sorted(found - expected)
    if missing or surplus:
        parts = [f"{len(cases)} {what} ({some(cases)})" for cases, what in ((missing, "missing"), (surplus, "more"))
                 if cases]
        raise UserError(f"The folders do not hold the same cases: {name} differs.",
                        found=f"{', '.join(parts)} in {folder}",
                        expected=f"the {len(expected)} cases that the other methods have",
                        fix="predict the missing cases, or compare those that all have with --shared")


def _require_rows_once(folder: Path) -> None:
    table = folder / CASES_FILE
    rows = read_table(table) if table.is_file() else []
    twice = [key for key, count in Counter((row["case"], row.get("structure", "")) for row in rows).items()
             if count > 1]
    if twice:
        raise UserError(f"{table} has a case twice.", found=" ".join(twice[0]),
                        expected="one row for each case and structure", fix="predict again, or delete a row")


def _counts(found: dict[str, Iterable]) -> str:
    return ", ".join(f"{name}: {len(list(cases))}" for name, cases in found.items())


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    twice = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
    if twice:
        raise ValueError(f"{twice[0]} stands there twice")
    return dict(pairs)
