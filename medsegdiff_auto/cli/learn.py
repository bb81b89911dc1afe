"""``medsegdiff_learn``: the notebook that teaches the method step by step, written to a folder or opened."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

from medsegdiff_auto.cli.command import CommandParser, run
from medsegdiff_auto.errors import UserError

NOTEBOOK = Path(__file__).resolve().parent.parent / "explanation" / "step_by_step.ipynb"
FILES = (NOTEBOOK, NOTEBOOK.with_suffix(".py"))
JUPYTER = ("jupyterlab", "notebook")  # packages that open a notebook, the preferred one first


def main(argv=None) -> int:
    """Entry point of ``medsegdiff_learn``."""
    parser = CommandParser(
        prog="medsegdiff_learn",
        description="Opens the notebook that teaches the method, equation by equation, on images whose true "
        "distribution of masks is known. It is first written to the folder, unless one is there.")
    parser.add_argument("-o", metavar="FOLDER", type=Path,
                        help="only write it there, as .ipynb with its pictures and as .py (without: it is written to "
                        "the current folder and opened)")
    parser.add_argument("--overwrite", action="store_true", help="replace what is there, changes included")
    return run(_learn, parser.parse_args(argv))


def _learn(args) -> int:
    if args.o is not None:
        for file in FILES:
            _write(file, args.o, args.overwrite)
        print(f"Open {args.o / NOTEBOOK.name} in Jupyter, or read its pictures as it is.")
        return 0
    jupyter = next((package for package in JUPYTER if importlib.util.find_spec(package)), None)
    if jupyter is None:
        raise UserError("Jupyter is not installed.", found=f"neither of {', '.join(JUPYTER)}",
                        expected="one of them in the Python that runs this command",
                        fix=f"{Path(sys.executable).name} -m pip install jupyterlab, or medsegdiff_learn -o FOLDER")
    if args.overwrite or not Path(NOTEBOOK.name).exists():
        _write(NOTEBOOK, Path(), args.overwrite)
    return subprocess.call([sys.executable, "-m", jupyter, NOTEBOOK.name])


def _write(file: Path, folder: Path, is_overwriting: bool) -> None:
    target = folder / file.name
    if target.exists() and not is_overwriting:
        raise UserError(f"{target} is there already.", found=str(target), expected="a folder without it",
                        fix="give another folder with -o, or --overwrite to lose what you changed")
    folder.mkdir(parents=True, exist_ok=True)
    target.write_bytes(file.read_bytes())
    print(f"Written: {target}")
