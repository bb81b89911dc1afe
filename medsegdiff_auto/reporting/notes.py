"""What a reader of the report must know before the numbers: not calibrated, few cases, stopped early, poor, flagged."""

from collections.abc import Iterator

from medsegdiff_auto.decision.fitted_sampling import FILE as FITTED_FILE
from medsegdiff_auto.reporting.model_record import CHECKPOINTS, ModelRecord
from medsegdiff_auto.reporting.prediction_record import PredictionRecord

FEW_CASES = 20
POOR_DICE = 0.5


def reader_notes(model: ModelRecord, record: PredictionRecord | None) -> list[str]:
    """One sentence or two for each thing; none where there is nothing."""
    return [*_notes_on_model(model), *([] if record is None else _notes_on_predictions(record))]


def _notes_on_model(model: ModelRecord) -> Iterator[str]:
    if model.configuration.get("diffusion") and not (model.folder / FITTED_FILE).is_file():
        yield ("Not calibrated: intervals, probabilities and expected Dice are those of the samples as they come. "
               "medsegdiff_calibrate fits them on cases with a reference.")
    num_training = model.dataset_json.get("numTraining")
    if isinstance(num_training, int) and num_training < FEW_CASES:
        yield f"Few cases: the model has learned from {num_training}."
    for fold in model.folds:
        if not (model.folder / fold.name / CHECKPOINTS[0]).is_file():
            epochs = len(fold.curves["train_losses"]) if fold.curves else 0
            after = f" after {epochs} epochs" if epochs else ""
            yield f"Stopped early: {fold.name} has no {CHECKPOINTS[0]}; its training was left{after}, or still runs."


def _notes_on_predictions(record: PredictionRecord) -> Iterator[str]:
    estimates = {row["estimate"] for row in record.rows if row.get("estimate")}
    if estimates == {"samples"}:
        yield ("The expected Dice is that of the mask with its samples, not fitted on cases with a reference: samples "
               "that are alike are no proof of a good mask.")
    if not record.is_scored:
        yield "Nothing is scored: no references were given."
    elif len(record.pairs) < FEW_CASES:
        yield f"Few cases: {len(record.pairs)} are scored, and with others every mean may be another one."
    for structure in record.structures:
        dice = record.values(structure.name, "dice")
        if dice.size and dice.mean() < POOR_DICE:
            yield f"Poor scores: the mean Dice of {structure.name} is {dice.mean():.2f}, below {POOR_DICE}."
    flagged = sum(row.get("flagged") == "yes" for row in record.rows)
    if flagged:
        yield f"Flagged: {flagged} of {len(record.rows)} structures are for a person to look at."
