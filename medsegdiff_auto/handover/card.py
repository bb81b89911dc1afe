"""The card of a model: who made it of what, how good it is, what was calibrated, and what it is not. Markdown.

Texts of the dataset are shown as they are, never as markup.
"""

from __future__ import annotations

import re

from medsegdiff_auto.inference.model import TrainedModel
from medsegdiff_auto.inference.model_archive import Manifest, Terms
from medsegdiff_auto.nnunet.structures import structures_of

NOT_STATED = "not stated: ask who made the model before you use it"
FEW_CASES = 20
_LICENCE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]{0,40}")


def model_card(model: TrainedModel, manifest: Manifest) -> str:
    """The whole card, with the front matter that the Hugging Face Hub reads."""
    title = f"# {plain(manifest.dataset)}, {plain(manifest.model.rpartition('__')[2])}"
    return "\n\n".join([_front_matter(manifest.terms), title, _use(model, manifest), _data(model, manifest),
                        _validation(model, manifest), _calibration(model), _limits(model, manifest)]) + "\n"


def plain(text: object) -> str:
    """A text of somebody else's in one line, without what Markdown or HTML would take for markup."""
    line = " ".join(str(text).split())
    return re.sub(r"([\\`*_\[\]<>|!#~{}])", r"\\\1", line).replace("&", "&amp;").replace("\\<", "&lt;").replace(
        "\\>", "&gt;")


def _front_matter(terms: Terms) -> str:
    name = terms.weights_licence or ""
    is_name = _LICENCE_NAME.fullmatch(name) is not None
    lines = ["---", f"license: {name.lower() if is_name else 'other'}"]
    return "\n".join([*lines, "pipeline_tag: image-segmentation",
                      "tags: [medical, segmentation, nnunet, diffusion, uncertainty]", "---"])


def _use(model: TrainedModel, manifest: Manifest) -> str:
    plans, dataset = model.configuration_manager, model.dataset_json
    structures = ", ".join(f"{plain(one.name)} ({' + '.join(map(str, one.labels))})" for one in structures_of(dataset))
    channels = ", ".join(f"{key} {plain(name)}" for key, name in dataset["channel_names"].items())
    rows = {"structures (label values)": structures, "channels": channels, "files": plain(dataset["file_ending"]),
            "patch": f"{_times(plans.patch_size)} voxels of {_times(plans.spacing)} (mm, where files have spacings)",
            "folds": ", ".join(map(str, model.folds)),
            "samples and steps": f"{model.diffusion.sampling.num_samples} per fold, "
                                 f"{model.diffusion.sampling.num_steps} steps",
            "made with": ", ".join(f"{package} {plain(number)}" for package, number in manifest.versions.items())}
    return ("## What it is for\n\nA MedSegDiff-Auto model: it draws plausible masks of the structures below, fuses "
            "them into one, and says how far they are apart.\n\n" + _table(rows)
            + "\n\n```\nmedsegdiff_predict -m model.zip -i IMAGES -o MASKS --save_uncertainty\n"
            "medsegdiff_import model.zip        # runs the self-test, and leaves a model folder of nnU-Net's kind\n```")


def _data(model: TrainedModel, manifest: Manifest) -> str:
    dataset, terms = model.dataset_json, manifest.terms
    rows = {"dataset": plain(manifest.dataset), "cases in training": plain(dataset["numTraining"]),
            "description": plain(dataset.get("description", "")), "reference": plain(dataset.get("reference", "")),
            "licence of the data": plain(terms.data_licence or NOT_STATED),
            "licence of the weights": plain(terms.weights_licence or NOT_STATED),
            "fingerprint of the data (SHA-256)": manifest.data_fingerprint or "none was kept",
            "cite": plain(terms.citation or "")}
    return "## Data and terms\n\n" + _table({name: value for name, value in rows.items() if value})


def _validation(model: TrainedModel, manifest: Manifest) -> str:
    if not manifest.scores:
        return "## Validation\n\nNo scores of whole validation cases came with the model: how good it is is not known."
    lines = ["| structure | mean Dice | 95 % interval of the mean | cases |", "|---|---|---|---|"]
    for name, score in manifest.scores.items():
        interval = "one case" if score.low is None else f"{score.low:.3f} to {score.high:.3f}"
        lines.append(f"| {plain(name)} | {score.dice:.3f} | {interval} | {score.num_cases} |")
    absent = [plain(one.name) for one in structures_of(model.dataset_json) if one.name not in manifest.scores]
    return "\n".join(["## Validation", "", "Every fold on the cases that it was not trained on, the folds together; "
                      "the interval is a bootstrap over cases.", "", *lines,
                      *([f"\nNot scored: {', '.join(absent)}."] if absent else [])])


def _calibration(model: TrainedModel) -> str:
    fitted = model.fitted
    if fitted is None:
        return ("## Uncertainty\n\n**Nothing was calibrated.** How far the samples are apart, the intervals of volumes "
                "and the expected Dice are as training left them; no case with a reference has tested them.")
    what = [f"the distance between samples (expected Dice between two samples {fitted.dice_between_samples:.3f}, "
            f"between a sample and the reference {fitted.dice_sample_reference:.3f})"]
    what += [f"the temperature of the probabilities ({fitted.temperature:.3g})"] if fitted.temperature != 1 else []
    what += [f"90 % intervals of volumes of {', '.join(map(plain, fitted.volume_margins))}"] * bool(
        fitted.volume_margins)
    what += [f"the expected Dice of a mask ({fitted.quality.num_cases} cases with a reference, mean absolute error "
             f"{fitted.quality.error:.3f})"] if fitted.quality else []
    return ("## Uncertainty\n\nCalibrated on " + f"{fitted.num_cases} cases that the folds had not seen:\n\n"
            + "\n".join(f"- {one}" for one in what))


def _limits(model: TrainedModel, manifest: Manifest) -> str:
    fewest = min((score.num_cases for score in manifest.scores.values()), default=0)
    cases = model.fitted.num_cases if model.fitted else 0
    lines = ["Predictions are no medical advice; a person has to look at them.",
             "No case of another dataset has tested it. Other scanners, protocols, ages or diseases may give masks "
             "that are wrong and certain."]
    lines += [f"The scores rest on {fewest} cases."] if 0 < fewest < FEW_CASES else []
    lines += [f"The calibration rests on {cases} cases."] if 0 < cases < FEW_CASES else []
    lines += ["`fold_all` was trained on every case: it has no validation of its own."] * ("all" in model.folds)
    lines += ["The licence of the data may forbid what that of the weights allows."]
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in lines)


def _table(rows: dict[str, str]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])


def _times(values) -> str:
    return " x ".join(f"{value:.4g}" for value in values)
