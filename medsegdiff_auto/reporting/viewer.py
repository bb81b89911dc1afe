"""The viewer of the report: every case with its image, masks, uncertainty and samples, drawn by niivue in the page.

The cases travel in the page as gzip'd NIfTI in base64 and are unpacked when they are opened.
"""

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from types import MappingProxyType

import numpy as np

from medsegdiff_auto.decision.inclusion import PERCENTS
from medsegdiff_auto.palette import structure_colour
from medsegdiff_auto.reporting import page
from medsegdiff_auto.reporting.prediction_record import PredictionRecord, mean_dice_by_case
from medsegdiff_auto.reporting.viewer_case import BRIGHTEST, read_viewed_case, xyz

LIMITS_MB = MappingProxyType({"full": 64, "few": 16, "none": 0})
NUM_CASES = MappingProxyType({"full": None, "few": 8, "none": 0})
NEARLY_FULL = 0.95  # of the limit: no further case is read
PLANES = ("sagittal", "coronal", "axial")


def viewer(record: PredictionRecord, image_folder: Path | None, size: str) -> str:
    """The controls and the cases: those first that are flagged, then those with the worst scores.

    Args:
        size: a key of :data:`LIMITS_MB`.
    """
    if size == "none":
        return page.missing("The viewer was left out by --viewer none.")
    limit, taken, blocks, cases, left_out = LIMITS_MB[size] * 1_000_000, 0, [], [], []
    for name, title in _titles(record).items():
        facts, files = {}, {}
        if len(cases) < (NUM_CASES[size] or np.inf) and taken < NEARLY_FULL * limit:
            facts, files = _packed_case(record, name, image_folder, len(cases))
        length = sum(map(len, files.values()))
        if not files or taken + length > limit:
            left_out.append(name)
            continue
        taken += length
        cases.append({"name": name, "title": title} | facts)
        blocks += [_data(key, text) for key, text in files.items()]
    if not cases:
        return page.missing(f"No case fits into the {LIMITS_MB[size]} MB of the viewer.")
    facts = {"percents": [PERCENTS[0], PERCENTS[-1]], "cases": cases,
             "structures": [{"name": s.name, "labels": s.labels, "colour": structure_colour(index)}
                            for index, s in enumerate(record.structures)]}
    return "\n".join([page.paragraph(_statement(len(cases), taken, left_out, size)), _controls(record, facts),
                      _data("viewer-facts", json.dumps(facts).replace("<", "\\u003c"), "application/json"), *blocks,
                      _data("viewer-library", _packed(page.library()))])


def _titles(record: PredictionRecord) -> dict[str, str]:
    """What the list of cases says of each, in its order."""
    flagged = {row["case"] for row in record.rows if row.get("flagged") == "yes"}
    scores, expected = mean_dice_by_case(record), {}
    for row in record.rows:
        value = row.get("expected_dice")
        if isinstance(value, float) and value == value:
            expected[row["case"]] = min(value, expected.get(row["case"], np.inf))
    titles = {}
    for case in sorted(record.predictions,
                       key=lambda one: (one not in flagged, scores.get(one, expected.get(one, np.inf)), one)):
        score = [f"Dice {scores[case]:.3f}"] if case in scores else [
            f"expected Dice {expected[case]:.3f}"] if case in expected else []
        titles[case] = " · ".join([case, *["flagged"] * (case in flagged), *score])
    return titles


def _packed_case(record: PredictionRecord, name: str, image_folder: Path | None,
                 number: int) -> tuple[dict, dict[str, str]]:
    """What the page must know of a case, and its files by their id; no file where it is too large."""
    case = read_viewed_case(record, name, image_folder)
    if case is None:
        return {}, {}
    files, greys = case.files()
    notes = list(case.notes)
    if greys:
        low, high = greys["range"]
        notes.append(f"The image has {BRIGHTEST + 1} greys from {low:.4g} to {high:.4g}: what lies beyond is as dark "
                     "or as bright.")
    absent = [layer for layer in ("image", "reference", "uncertainty", "samples") if layer not in case.layers]
    notes += [f"Not there: {', '.join(absent)}."] if absent else []
    facts = {"layers": {layer: f"case-{number}-{layer}" for layer in files}, "absent": absent, "notes": notes,
             "picture": case.is_picture, "start": case.start(), "offset": xyz(case.offset)}
    return facts | greys, {f"case-{number}-{layer}": _packed(content) for layer, content in files.items()}


def _statement(num_cases: int, num_characters: int, left_out: Sequence[str], size: str) -> str:
    """How many cases there are, what they weigh, and which were left out."""
    text = f"{num_cases} {'case' if num_cases == 1 else 'cases'}, {num_characters / 1e6:.1f} MB of this page."
    if not left_out:
        return f"{text} All predicted cases are here."
    most = f"{NUM_CASES[size]} cases and " if NUM_CASES[size] else ""
    return (f"{text} Left out by --viewer {size} (at most {most}{LIMITS_MB[size]} MB, and no case that is too large "
            f"for a browser): {', '.join(left_out)}.")


def _controls(record: PredictionRecord, facts: Mapping) -> str:
    """The canvas and what is around it; the script of the viewer finds them by their ids."""
    names = "".join(f'<option value="{index}">{escape(case["title"])}</option>'
                    for index, case in enumerate(facts["cases"]))
    swatches = "".join(f'<span class="swatch" style="--colour:{one["colour"]}">{escape(one["name"])}</span>'
                       for one in facts["structures"])
    slices = "".join(_slider(f"slice-{plane}", plane) for plane in PLANES)
    low, high = facts["percents"]
    return f"""<div class="viewer" id="viewer" data-state="waiting">
<div class="bar"><button type="button" id="viewer-previous" aria-label="previous case">‹</button>
<select id="viewer-case" aria-label="case">{names}</select>
<button type="button" id="viewer-next" aria-label="next case">›</button>
<select id="viewer-planes" aria-label="planes"><option value="3">three planes</option><option value="0">axial</option>
<option value="1">coronal</option><option value="2">sagittal</option></select></div>
<div class="stage"><div><canvas id="viewer-canvas" aria-label="slices of the case"></canvas></div>
<canvas id="viewer-lines" aria-hidden="true"></canvas><p id="viewer-message" role="status">loading</p></div>
<p class="place" id="viewer-place"></p>
<div class="legend">{swatches}<span class="swatch line" style="--colour:#fff">reference</span>
<span class="swatch dashed" style="--colour:#999">{low} % and {high} % of the samples</span>
<span class="colourbar">uncertainty 0 <i></i> 1</span></div>
<div class="switches">{_switch("image", "image", True)}{_switch("prediction", "mask", True)}
{_switch("reference", "reference", True)}{_switch("uncertainty", "uncertainty", False)}
{_switch("inclusion", f"{low} % and {high} % inclusion", True)}
<label>samples <select id="viewer-sample"></select></label></div>
<div class="sliders">{slices}{_slider("fill", "fill of the mask", 'min="0" max="1" step="0.05" value="0.25"')}
{_slider("low", "black is")}{_slider("high", "white is")}
{_slider("zoom", "zoom", 'min="1" max="8" step="0.25" value="1"')}</div>
<p class="hint">Turn the wheel over a plane, or use the sliders, to change its slice. Drag with the right button to
change the window. <span id="viewer-sides">R is the patient's right, seen from the feet or the front.</span></p>
<ul class="notes" id="viewer-notes"></ul></div>
<noscript><p>The viewer needs JavaScript.</p></noscript>"""


def _switch(name: str, label: str, is_on: bool) -> str:
    return f'<label><input type="checkbox" id="show-{name}"{" checked" if is_on else ""}> {escape(label)}</label>'


def _slider(name: str, label: str, attributes: str = "") -> str:
    return (f'<label><span>{escape(label)} <output id="{name}-value"></output></span>'
            f'<input type="range" id="{name}" {attributes}></label>')


def _data(key: str, text: str, kind: str = "application/octet-stream") -> str:
    """A script element that browsers do not run, for text that cannot end it."""
    return f'<script type="{kind}" id="{key}">{text}</script>'


def _packed(content: bytes) -> str:
    return base64.b64encode(gzip.compress(content, mtime=0)).decode("ascii")
