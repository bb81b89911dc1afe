"""What a conversion prints at its end: counts, what is left out and why, the size of each structure, what to type next.
"""

from __future__ import annotations

import os
from pathlib import Path
from statistics import median

from medsegdiff_auto.dataset_conversion.core.conversion import SPLITS, Outcome
from medsegdiff_auto.dataset_conversion.core.source import TEST, TRAIN, Omission

NUM_LEFT_OUT_SHOWN = 10


def report(outcome: Outcome) -> str:
    """The report as text; every problem is listed, of what is left out on purpose the first ten."""
    train, test = outcome.cases_of(TRAIN), outcome.cases_of(TEST)
    lines = [f"{outcome.folder.name}: {_count(len(train), 'training case')} of "
             f"{_count(len({case.patient for case in train}), 'patient')}"
             + (f", {_count(len(test), 'test case')}" if test else "")]
    raters = sum(1 for case in outcome.records if case.num_raters)
    if raters:
        lines.append(f"  raters: label maps of up to {max(case.num_raters for case in outcome.records)} raters for "
                     f"{raters} cases")
    lines += _label_sizes(outcome) + [f"  note: {note}" for note in outcome.contents.notes] + _repairs(outcome)
    lines += _omissions("left out", outcome.contents.left_out, NUM_LEFT_OUT_SHOWN)
    lines += _omissions("not converted", outcome.problems, len(outcome.problems))
    lines += _omissions("not ready for planning", outcome.unfit, len(outcome.unfit))
    lines.append(f"  {SPLITS}: {outcome.num_folds} folds by patient; planning takes them from there" if outcome.
                 num_folds else f"  no {SPLITS}: one patient cannot be split into folds; train fold all")
    lines.append(f"Written to {outcome.folder}")
    return "\n".join(lines + _next_commands(outcome))


def _label_sizes(outcome: Outcome) -> list[str]:
    cases = [case for case in outcome.records if case.label_voxels]
    is_picture = outcome.contents.file_ending == ".png"
    unit = "pixels" if is_picture else "ml" if outcome.contents.spacing_is_known else "voxels"
    lines = []
    for name, entry in outcome.contents.labels.items():
        values = entry if isinstance(entry, list) else [entry]
        if values == [0]:
            continue
        sizes = [sum(case.label_voxels.get(str(value), 0) for value in values)
                 * (case.voxel_volume_mm3 / 1000 if unit == "ml" else 1) for case in cases]
        sizes = [size for size in sizes if size > 0]
        measured = ""
        if sizes:
            between = f"{_rounded(min(sizes))} to {_rounded(max(sizes))}"
            measured = f", median {_rounded(median(sizes))} {unit} ({between})"
        lines.append(f"  {name}: in {len(sizes)} of {len(cases)} cases{measured}")
    return lines


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _rounded(size: float) -> str:
    return f"{size:.0f}" if size >= 1000 else f"{size:.4g}"


def _repairs(outcome: Outcome) -> list[str]:
    return [f"  repaired: {case.name}: {note}" for case in outcome.records for note in case.notes]


def _omissions(title: str, omissions: list[Omission], num_shown: int) -> list[str]:
    if not omissions:
        return []
    lines = [
        f"  {title}: {len(omissions)}",
        *(f"    {omission.name}: {omission.reason}" for omission in omissions[:num_shown])
    ]
    return lines + (["    ... all of them are in dataset.json"] if len(omissions) > num_shown else [])


def _next_commands(outcome: Outcome) -> list[str]:
    dataset_id = int(outcome.folder.name[7:10])
    lines = []
    preprocessed = Path(os.environ.get("nnUNet_preprocessed") or os.devnull) / outcome.folder.name
    if preprocessed.is_dir():
        lines.append(f"Before: rm -r {preprocessed} (it was made from the former dataset)")
    return lines + [f"Next: medsegdiff_plan_and_preprocess -d {dataset_id}"]
