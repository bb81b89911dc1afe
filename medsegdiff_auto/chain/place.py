"""The one folder in which a chain keeps everything, and the record by which it is known. Free of torch.

    OUT/medsegdiff_run.json          what it was begun with
        commands.sh                  its commands, to be given by hand
        pace.json                    measured seconds of a training iteration
        nnUNet_raw/                  the converted dataset; none where a raw dataset is given
        nnUNet_preprocessed/, nnUNet_results/
        new_images/                  new images in the form of the dataset
        predictions/, predictions_postprocessed/
        report.html
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.locks import alone
from medsegdiff_auto.paths import FOLDER_CONTENTS, use_folders
from medsegdiff_auto.writing import write_json

RECORD, LOCK = "medsegdiff_run.json", ".medsegdiff_run.lock"
OURS = (*FOLDER_CONTENTS, "new_images", "predictions", "predictions_postprocessed", "report.html", "commands.sh",
        "pace.json")


@dataclass(frozen=True)
class Place:
    """The folders of a chain.

    Attributes:
        root: OUT.
        raw_folder: that holds the raw dataset.
        dataset: its name.
    """

    root: Path
    raw_folder: Path
    dataset: str

    @property
    def folders(self) -> dict[str, Path]:
        """nnU-Net's folder by its environment variable."""
        return {name: self.raw_folder if name == "nnUNet_raw" else self.root / name for name in FOLDER_CONTENTS}

    def of_dataset(self) -> tuple[Path, Path, Path]:
        """The raw, the preprocessed and the trained dataset."""
        raw, preprocessed, results = (folder / self.dataset for folder in self.folders.values())
        return raw, preprocessed, results

    @property
    def new_images(self) -> Path:
        """New images in the form of the dataset."""
        return self.root / "new_images"

    @property
    def predictions(self) -> tuple[Path, Path]:
        """Predictions, and the postprocessed ones."""
        return self.root / "predictions", self.root / "predictions_postprocessed"

    @property
    def report(self) -> Path:
        """The page about model and predictions."""
        return self.root / "report.html"

    @property
    def commands(self) -> Path:
        """The commands as a shell script."""
        return self.root / "commands.sh"

    def use(self) -> None:
        """Makes nnU-Net's folders and points its environment variables at them."""
        for folder in self.folders.values():
            folder.mkdir(parents=True, exist_ok=True)
        use_folders(*self.folders.values())


def require_same_chain(root: Path, begun_with: dict, overwrite: bool = False) -> None:
    """Checks that a folder is new, empty, or that of a chain that was begun with the same.

    Raises:
        UserError: it holds something else, or the chain was begun otherwise and is not to be overwritten.
    """
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return
    before = read_record(root)
    if before is None:
        raise UserError(f"{root} holds something else.",
                        found="a file" if not root.is_dir() else ", ".join(sorted(
                            entry.name for entry in root.iterdir())[:3]),
                        expected=f"a new or empty folder, or one of an earlier start with its {RECORD}",
                        fix="give another folder with -o")
    differing = [key for key in sorted({*before, *begun_with}) if before.get(key) != begun_with.get(key)]
    if differing and not overwrite:
        raise UserError(f"{root} was begun otherwise.",
                        found=", ".join(f"{key} {begun_with.get(key)}" for key in differing),
                        expected=", ".join(f"{key} {before.get(key)}" for key in differing),
                        fix="give what it was begun with, another folder with -o, or --overwrite to begin anew")


def read_record(root: Path) -> dict | None:
    """What a chain was begun with; None where the folder is no chain's."""
    try:
        return json.loads((root / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


@contextmanager
def begun(root: Path, begun_with: dict, overwrite: bool = False) -> Iterator[None]:
    """Holds the folder for one command, with its record written; what an earlier start left goes, where it is to be
    overwritten, and nothing else.

    Raises:
        UserError: see :func:`require_same_chain`; or the folder cannot be written, or another command is at work there.
    """
    require_same_chain(root, begun_with, overwrite)
    try:
        root.mkdir(parents=True, exist_ok=True)
        if read_record(root) is None:
            write_json(begun_with, root / RECORD)
    except OSError as failure:
        raise UserError(f"{root} cannot be written.", found=f"{type(failure).__name__}: {failure}",
                        expected="a folder in which files can be created", fix="give another folder with -o"
                        ) from failure
    with alone(root / LOCK, f"Another command works in {root}"):
        if overwrite:
            for entry in (root / name for name in OURS):
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry)
                else:
                    entry.unlink(missing_ok=True)
            write_json(begun_with, root / RECORD)
        yield
