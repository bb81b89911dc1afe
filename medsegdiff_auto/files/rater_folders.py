"""Several raters' label maps in a raw dataset: ``labelsTr_raters/NAME/CASE`` beside nnU-Net's ``labelsTr``."""

from pathlib import Path

from medsegdiff_auto.files.listing import visible


def rater_folders(raw_folder: Path) -> list[Path]:
    """One folder per rater, sorted; none where the dataset has one reference only."""
    folder = raw_folder / "labelsTr_raters"
    return [path for path in visible(folder) if path.is_dir()] if folder.is_dir() else []
