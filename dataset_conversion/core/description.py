"""``dataset.json`` of a converted dataset: what nnU-Net reads, and where the data come from."""

from __future__ import annotations

import dataclasses
import json
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import medsegdiff_auto
from medsegdiff_auto.dataset_conversion.core.source import TEST, TRAIN, About

if TYPE_CHECKING:
    from medsegdiff_auto.dataset_conversion.core.conversion import Outcome, Request


def label_values(labels: dict[str, int | list[int]]) -> tuple[int, ...]:
    """All values that may occur in a label map."""
    return tuple(
        sorted({value
                for entry in labels.values()
                for value in (entry if isinstance(entry, list) else [entry])}))


def dataset_json(outcome: Outcome, about: About, request: Request, checksum: str) -> dict:
    """The whole content of the file."""
    contents = outcome.contents
    return {
        "channel_names": {str(number): name
                          for number, name in enumerate(contents.channel_names)},
        "labels": contents.labels,
        **({"regions_class_order": contents.regions_class_order} if contents.regions_class_order else {}),
        "numTraining": len(outcome.cases_of(TRAIN)),
        "numTest": len(outcome.cases_of(TEST)),
        "file_ending": contents.file_ending,
        "name": outcome.folder.name[len("Dataset000_"):],
        "description": f"{about.title}: {about.modality}, {about.task}",
        "reference": about.homepage,
        "release": contents.version,
        "licence": about.licence,
        "citation": about.citation,
        "provenance": {
            "source": about.title,
            "source_version": contents.version,
            "source_listing_sha256": checksum,
            "converted": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "converter": request.converter,
            "software": f"medsegdiff-auto {medsegdiff_auto.__version__}",
            "options": {
                name: value
                for name, value in json.loads(json.dumps(vars(request.options), default=str)).items()
                if value not in (None, False, [])
            },
            "seed": request.seed,
            "notes": contents.notes,
            "not_converted": [dataclasses.asdict(omission) for omission in outcome.problems],
            "left_out": [dataclasses.asdict(omission) for omission in contents.left_out],
        },
    }
