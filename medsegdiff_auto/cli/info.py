"""``medsegdiff_info``: versions, folders, datasets and trained models, without importing any of the libraries."""

import json
import os
import re
from pathlib import Path

from medsegdiff_auto import __version__
from medsegdiff_auto.cli.command import CommandParser, run
from medsegdiff_auto.cores import num_cores
from medsegdiff_auto.granted import free_memory_bytes, memory_words
from medsegdiff_auto.paths import FOLDER_CONTENTS, known_datasets

LIBRARIES = ("nnunetv2", "torch", "torchvision", "dynamic-network-architectures", "batchgenerators", "SimpleITK",
             "numpy")
EXT_TRAINER_DIR = Path(__file__).resolve().parent.parent / "ext_trainers"


def main(argv=None) -> int:
    parser = CommandParser(prog="medsegdiff_info", description="Shows versions, folders, datasets and trained models.")
    parser.add_argument("--ext_trainer_dir", action="store_true",
                        help="print only the folder for nnU-Net's variable nnUNet_extTrainer")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args(argv)
    return run(_info, args)


def _info(args) -> None:
    if args.ext_trainer_dir:
        print(EXT_TRAINER_DIR)
    elif args.json:
        print(json.dumps(collect(), indent=2))
    else:
        print(as_text(collect()))


def collect() -> dict:
    """What the command shows: ``versions``, ``cores``, ``free_memory_bytes``, ``folders``, ``ext_trainer_dir``, and the
    ``datasets`` with their models.
    """
    import platform

    versions = {"medsegdiff-auto": __version__, "python": platform.python_version()}
    versions.update({library: _version(library) for library in LIBRARIES})
    folders = {variable: os.environ.get(variable) or None for variable in FOLDER_CONTENTS}
    return {"versions": versions, "cores": num_cores(), "free_memory_bytes": free_memory_bytes(), "folders": folders,
            "ext_trainer_dir": str(EXT_TRAINER_DIR),
            "datasets": {name: _dataset(name, folders) for name in known_datasets()}}


def as_text(information: dict) -> str:
    """Renders the facts for a reader."""
    lines = [f"{name:<30} {version or 'not installed'}" for name, version in information["versions"].items()]
    lines.append(f"{'cores':<30} {information['cores']}")
    lines.append(f"{'free memory':<30} {memory_words(information['free_memory_bytes'])}")
    for variable, folder in information["folders"].items():
        state = "not set" if folder is None else folder if Path(folder).is_dir() else f"{folder} (does not exist)"
        lines.append(f"{variable:<30} {state}")
    lines.append(f"{'trainer folder for nnU-Net':<30} {information['ext_trainer_dir']}")
    for name, dataset in information["datasets"].items():
        lines.append(f"{name:<30} {', '.join(dataset['present_in'])}")
        lines += [f"  {model:<60} folds {', '.join(folds) or 'none'}" for model, folds in dataset["models"].items()]
    return "\n".join(lines)


def _version(library: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(library)
    except PackageNotFoundError:
        return None


def _dataset(name: str, folders: dict[str, str | None]) -> dict:
    present_in = [variable for variable, folder in folders.items() if folder and (Path(folder) / name).is_dir()]
    models = {}
    if "nnUNet_results" in present_in:
        for folder in sorted((Path(folders["nnUNet_results"]) / name).iterdir()):
            if re.fullmatch(r".+__.+__.+", folder.name) and not folder.name.startswith("ensemble") and folder.is_dir():
                finished = folder.glob("fold_*/checkpoint_final.pth")
                models[folder.name] = sorted(path.parent.name.removeprefix("fold_") for path in finished)
    return {"present_in": present_in, "models": models}
