"""The hidden folder in which a dataset grows; it takes its name when it is complete, and an interrupted one is
continued.
"""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager, suppress
from pathlib import Path

from medsegdiff_auto import paths
from medsegdiff_auto.dataset_conversion.core.case_files import RECORDS
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.locks import alone
from medsegdiff_auto.writing import write_json

STATE = ".conversion.json"


def require_free_id(raw_folder: Path, dataset: str, overwrite: bool) -> None:
    """Checks that the ID belongs to no other dataset, and that ``dataset`` does not exist unless it is to be
    overwritten.

    Raises:
        UserError: one of the two.
    """
    dataset_id = dataset[:len("Dataset000")]
    known = {*paths.known_datasets(), *(entry.name for entry in raw_folder.glob("Dataset*") if entry.is_dir())}
    others = sorted(name for name in known if name.startswith(f"{dataset_id}_") and name != dataset)
    if others:
        raise UserError(f"The ID {int(dataset_id[7:])} belongs to another dataset.", found=others[0],
                        expected="an ID that is not in use",
                        fix=f"give another ID with -d, or --name {others[0][11:]} --overwrite")
    if (raw_folder / dataset).exists() and not overwrite:
        _clear_away(raw_folder, dataset)
        raise UserError(f"{dataset} exists already.", found=str(raw_folder / dataset),
                        expected="an ID that is not in use",
                        fix="give another ID with -d, or replace the dataset with --overwrite")


@contextmanager
def workplace(raw_folder: Path, dataset: str, state: dict):
    """Gives the folder to write into, empty or as an earlier run with the same ``state`` left it.

    Raises:
        UserError: another process converts this dataset right now.
    """
    folder = raw_folder / f".{dataset}.partial"
    folder.mkdir(parents=True, exist_ok=True)
    with alone(_lock(raw_folder, dataset), f"{dataset} is being converted by another process"):
        if _read_state(folder) != state:
            shutil.rmtree(folder)
            folder.mkdir()
            write_json(state, folder / STATE)
        yield folder


def tidy(folder: Path) -> None:
    """Removes what killed processes left."""
    for entry in folder.rglob(".*"):
        if entry.is_file() and entry.name != STATE:
            entry.unlink()


def publish(folder: Path, target: Path) -> None:
    """Gives the complete dataset its name; one that has it already is replaced."""
    former = _former(folder.parent, target.name)
    shutil.rmtree(folder / RECORDS)
    (folder / STATE).unlink(missing_ok=True)
    if target.exists():
        shutil.rmtree(former, ignore_errors=True)
        target.rename(former)
    folder.rename(target)
    shutil.rmtree(former, ignore_errors=True)


def _clear_away(raw_folder: Path, dataset: str) -> None:
    """Removes what a process left that was killed after it had given a dataset its name."""
    lock, former = _lock(raw_folder, dataset), _former(raw_folder, dataset)
    if lock.exists() or former.exists():
        with suppress(OSError), alone(lock, f"{dataset} is being converted by another process"):
            shutil.rmtree(former, ignore_errors=True)


def _lock(raw_folder: Path, dataset: str) -> Path:
    return raw_folder / f".{dataset}.lock"


def _former(raw_folder: Path, dataset: str) -> Path:
    return raw_folder / f".{dataset}.former"


def _read_state(folder: Path) -> dict | None:
    try:
        return json.loads((folder / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
