"""``report.html``: one offline file about a model and its predictions."""

import logging
from collections.abc import Sequence
from pathlib import Path

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.reporting import model_sections, page, prediction_sections
from medsegdiff_auto.reporting.model_record import ModelRecord, read_model
from medsegdiff_auto.reporting.notes import reader_notes
from medsegdiff_auto.reporting.prediction_record import PredictionRecord, pool_curves, read_predictions
from medsegdiff_auto.reporting.viewer import viewer
from medsegdiff_auto.writing import write_text

logger = logging.getLogger(__name__)


def write_report(output_html: Path, model_folder: Path, prediction_folder: Path | None = None,
                 reference_folder: Path | None = None, image_folder: Path | None = None,
                 posterior_folder: Path | None = None, commands: Sequence[str] | None = None,
                 viewer_size: str = "full") -> None:
    """Write the report of a model folder and, where given, of predictions with it; what is missing is named as missing.

    ``reference_folder`` holds label maps, ``image_folder`` nnU-Net images (``CASE_0000...``), ``posterior_folder``
    ``CASE.npz`` with the known probabilities; ``commands`` are listed behind those found in the folders' ``run.json``;
    ``viewer_size`` is a key of :data:`~medsegdiff_auto.reporting.viewer.LIMITS_MB`.

    Raises:
        UserError: a folder is missing or is not what it should be.
    """
    for folder, flag in ((model_folder, "-m"), (prediction_folder, "-p"), (reference_folder, "--references"),
                         (image_folder, "--images"), (posterior_folder, "--posterior")):
        if folder is not None:
            _require_folder(folder, flag)
    model = read_model(model_folder)
    record = None if prediction_folder is None else read_predictions(prediction_folder, reference_folder,
                                                                     model.dataset_json)
    sections = [("overview", "What this is", model_sections.overview(model))]
    if record is not None:
        sections += _prediction_sections(record, image_folder, posterior_folder, viewer_size, output_html.parent)
    sections += _model_sections(model)
    if prediction_folder is None:
        sections.append(("predictions", "Predictions", page.missing("No prediction folder was given.")))
    sections.append(("commands", "Commands", model_sections.commands(model, prediction_folder, commands or ())))
    write_text(page.document(f"{model.dataset_name}: {model.configuration_name}", model_folder.name, sections,
                             reader_notes(model, record),
                             (page.SORTING, page.VIEWING) if record and viewer_size != "none" else (page.SORTING,)),
               output_html)
    logger.info("Report: %s", output_html)


def _model_sections(model: ModelRecord) -> list[tuple[str, str, str]]:
    return [("crossval", "Cross-validation", model_sections.cross_validation(model)),
            ("training", "Training", model_sections.training(model)),
            ("plan", "The plan", model_sections.plan(model))]


def _prediction_sections(record: PredictionRecord, images: Path | None, posterior: Path | None, viewer_size: str,
                         page_folder: Path) -> list[tuple[str, str, str]]:
    curves = pool_curves(record, posterior)
    scores = prediction_sections.headline(record) + prediction_sections.scores(record, page_folder)
    return [("predictions", "Predictions", scores),
            ("cases", "Look at the cases", viewer(record, images, viewer_size)),
            ("pictures", "Best and worst cases", prediction_sections.pictures(record, images)),
            ("calibration", "Are the probabilities true?", prediction_sections.calibration(record, curves)),
            ("uncertainty", "Does the uncertainty find the errors?", prediction_sections.uncertainty(curves)),
            ("sizes", "Do the intervals hold?", prediction_sections.sizes(record))]


def _require_folder(folder: Path, flag: str) -> None:
    if not folder.is_dir():
        raise UserError(f"The folder of {flag} does not exist.",
                        found=f"{folder}{' (a file)' if folder.exists() else ''}", expected="an existing folder",
                        fix=f"correct {flag}")
