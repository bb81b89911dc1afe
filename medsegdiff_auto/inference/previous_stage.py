"""The predictions that a cascade's second stage starts from."""

from __future__ import annotations

from pathlib import Path

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.nnunet.managers import ConfigurationManager


def previous_stage_files(configuration_manager: ConfigurationManager, folder: str | None, cases: list[str],
                         file_ending: str) -> dict[str, Path] | None:
    """The first stage's label map of every case; None where the configuration is no cascade.

    Raises:
        UserError: the cascade lacks its first stage, or a case of it.
    """
    stage = configuration_manager.previous_stage_name
    if stage is None:
        return None
    if folder is None:
        raise UserError("The cascade needs the predictions of its first stage.", found="no -prev_stage_predictions",
                        expected=f"a folder of predictions by {stage}",
                        fix=f"predict with -c {stage} first, then give that folder with -prev_stage_predictions")
    files = {case: Path(folder) / f"{case}{file_ending}" for case in cases}
    missing = [str(file) for file in files.values() if not file.is_file()]
    if missing:
        raise UserError(f"{len(missing)} predictions of the first stage are missing.", found=f"no {missing[0]}",
                        expected="one label map per case", fix=f"predict these cases with -c {stage} first")
    return files
